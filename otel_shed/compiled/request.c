/* Requests put together from records of any groups: measured first, then written into one bytes object of that size.
 *
 * Owns nothing that outlives a call. The rule: Python code may run while a request is measured, and none after that; so
 * all that is written is held from when it is measured.
 */
#include "request.h"

typedef struct {
    PyObject *head;    /* what ScopeGroup.scope holds; ours */
    Py_ssize_t size;   /* of the message, the head included */
    Py_ssize_t owner;  /* the resource that it is under */
    Py_ssize_t next;   /* of the same resource; -1 for none */
    uint8_t *at;       /* where its next span goes */
} Scope;

typedef struct {
    PyObject *head;    /* what ScopeGroup.resource holds; ours */
    Py_ssize_t size;
    Py_ssize_t first;
    Py_ssize_t last;
} Resource;

typedef struct {
    PyObject *record_type;
    PyObject *records;  /* a tuple of our own: nobody else can change it */
    PyObject *places;   /* dict: a group or (resource, scope) to the scope's index, a resource to its own */
    Body *bodies;       /* with objects that are ours */
    Py_ssize_t *scope_of;
    Scope *scopes;
    Resource *resources;
    Py_ssize_t bodies_count;
    Py_ssize_t scopes_count;
    Py_ssize_t resources_count;
    Py_ssize_t size;
} Request;

static void request_free(Request *request)
{
    for (Py_ssize_t body = 0; body < request->bodies_count; body++) {
        Py_XDECREF(request->bodies[body].object);
    }
    for (Py_ssize_t scope = 0; scope < request->scopes_count; scope++) {
        Py_DECREF(request->scopes[scope].head);
    }
    for (Py_ssize_t resource = 0; resource < request->resources_count; resource++) {
        Py_DECREF(request->resources[resource].head);
    }
    PyMem_Free(request->bodies);
    PyMem_Free(request->scope_of);
    PyMem_Free(request->scopes);
    PyMem_Free(request->resources);
    Py_XDECREF(request->places);
    Py_XDECREF(request->records);
    Py_XDECREF(request->record_type);
}

/* The index that is written down for the key; -1 for none, -2 with an exception. */
static Py_ssize_t place_of(Request *request, PyObject *key)
{
    PyObject *place = PyDict_GetItemWithError(request->places, key);
    if (place == NULL) {
        return PyErr_Occurred() ? -2 : -1;
    }
    return PyLong_AsSsize_t(place);
}

static int place_put(Request *request, PyObject *key, Py_ssize_t index)
{
    PyObject *place = PyLong_FromSsize_t(index);
    if (place == NULL) {
        return -1;
    }
    int failed = PyDict_SetItem(request->places, key, place);
    Py_DECREF(place);
    return failed;
}

static Py_ssize_t resource_of(Request *request, PyObject *head)
{
    Py_ssize_t index = place_of(request, head);
    if (index == -1) {
        index = request->resources_count;
        if (place_put(request, head, index) < 0) {
            return -2;
        }
        request->resources[request->resources_count++] = (Resource){Py_NewRef(head), PyBytes_GET_SIZE(head), -1, -1};
    }
    return index;
}

/* The scope of these bytes under the resource of those; a negative number with an exception. */
static Py_ssize_t scope_of(Request *request, PyObject *resource_head, PyObject *head)
{
    PyObject *key = PyTuple_Pack(2, resource_head, head);
    if (key == NULL) {
        return -2;
    }
    Py_ssize_t index = place_of(request, key);
    if (index == -1) {
        Py_ssize_t owner = resource_of(request, resource_head);
        index = owner < 0 || place_put(request, key, request->scopes_count) < 0 ? -2 : request->scopes_count;
        if (index >= 0) {
            Resource *resource = &request->resources[owner];
            request->scopes[request->scopes_count++] = (Scope){Py_NewRef(head), PyBytes_GET_SIZE(head), owner, -1, NULL};
            if (resource->first < 0) {
                resource->first = index;
            } else {
                request->scopes[resource->last].next = index;
            }
            resource->last = index;
        }
    }
    Py_DECREF(key);
    return index;
}

int group_read(PyObject *group, PyObject **resource, PyObject **scope)
{
    *scope = NULL;
    if ((*resource = PyObject_GetAttrString(group, "resource")) != NULL &&
        (*scope = PyObject_GetAttrString(group, "scope")) != NULL) {
        if (PyBytes_CheckExact(*resource) && PyBytes_CheckExact(*scope)) {
            return 0;
        }
        PyErr_SetString(PyExc_TypeError, "a group is made of bytes");
    }
    Py_XDECREF(*resource);
    Py_XDECREF(*scope);
    return -1;
}

static Py_ssize_t scope_of_group(Request *request, PyObject *group)
{
    Py_ssize_t index = place_of(request, group);
    PyObject *resource, *scope;
    if (index != -1) {
        return index;
    }
    if (group_read(group, &resource, &scope) < 0) {
        return -2;
    }
    index = scope_of(request, resource, scope);
    Py_DECREF(scope);
    Py_DECREF(resource);
    return index >= 0 && place_put(request, group, index) < 0 ? -2 : index;
}

static int request_measure(Request *request, PyObject *module, PyObject *records)
{
    memset(request, 0, sizeof(*request));
    if ((request->record_type = PyObject_GetAttrString(module, "SpanRecord")) == NULL ||
        (request->records = PySequence_Tuple(records)) == NULL || (request->places = PyDict_New()) == NULL) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(request->records);
    request->bodies = PyMem_New(Body, count);
    request->scope_of = PyMem_New(Py_ssize_t, count);
    request->scopes = PyMem_New(Scope, count);
    request->resources = PyMem_New(Resource, count);
    if (!request->bodies || !request->scope_of || !request->scopes || !request->resources) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *current = NULL; /* kept by the dict */
    Py_ssize_t scope = 0;
    for (Py_ssize_t number = 0; number < count; number++) {
        SpanRecord *record = (SpanRecord *)PyTuple_GET_ITEM(request->records, number);
        if (!Py_IS_TYPE(record, (PyTypeObject *)request->record_type)) {
            PyErr_SetString(PyExc_TypeError, "a request is made of records");
            return -1;
        }
        Body body = {NULL};
        PyObject *group = NULL;
        Py_BEGIN_CRITICAL_SECTION(record);
        if (has_bytes(record)) {
            body = body_of(record);
            Py_XINCREF(body.object);
            group = Py_NewRef(record->group);
        }
        Py_END_CRITICAL_SECTION();
        if (group == NULL) {
            PyErr_SetString(PyExc_TypeError, NO_BYTES);
            return -1;
        }
        request->bodies[request->bodies_count++] = body;
        if (group != current) {
            scope = scope_of_group(request, group);
            current = group;
        }
        Py_DECREF(group);
        if (scope < 0) {
            return -1;
        }
        request->scope_of[number] = scope;
        request->scopes[scope].size += field_size(body.size);
    }
    for (Py_ssize_t index = 0; index < request->scopes_count; index++) {
        request->resources[request->scopes[index].owner].size += field_size(request->scopes[index].size);
    }
    for (Py_ssize_t index = 0; index < request->resources_count; index++) {
        request->size += field_size(request->resources[index].size);
    }
    return 0;
}

static void request_write(Request *request, uint8_t *at)
{
    for (Py_ssize_t index = 0; index < request->resources_count; index++) {
        Resource *resource = &request->resources[index];
        at = put_head(at, RESOURCE_SPANS, resource->size, PyBytes_AS_STRING(resource->head),
                      PyBytes_GET_SIZE(resource->head));
        for (Py_ssize_t next = resource->first; next >= 0; next = request->scopes[next].next) {
            Scope *scope = &request->scopes[next];
            Py_ssize_t head = PyBytes_GET_SIZE(scope->head);
            scope->at = put_head(at, SCOPE_SPANS, scope->size, PyBytes_AS_STRING(scope->head), head);
            at = scope->at + scope->size - head;
        }
    }
    for (Py_ssize_t number = 0; number < request->bodies_count; number++) {
        Scope *scope = &request->scopes[request->scope_of[number]];
        const Body *body = &request->bodies[number];
        scope->at = put_head(scope->at, SPAN, body->size, body->bytes, body->size);
    }
}

PyObject *build_request(PyObject *module, PyObject *records)
{
    PyObject *built = NULL;
    OneGroup one;
    int is_one = one_group_begin(&one, module, records);
    if (is_one > 0) {
        built = one_group_build(&one, records);
        one_group_end(&one);
    }
    if (is_one != 0) {
        return built;
    }
    Request request;
    if (request_measure(&request, module, records) == 0) {
        built = PyBytes_FromStringAndSize(NULL, request.size);
        if (built != NULL) {
            request_write(&request, (uint8_t *)PyBytes_AS_STRING(built));
        }
    }
    request_free(&request);
    return built;
}

PyObject *total_size(PyObject *module, PyObject *records)
{
    OneGroup one;
    int is_one = one_group_begin(&one, module, records);
    if (is_one > 0) {
        one_group_end(&one);
        return PyLong_FromSsize_t(one.size);
    }
    if (is_one < 0) {
        return NULL;
    }
    Request request;
    PyObject *size = request_measure(&request, module, records) == 0 ? PyLong_FromSsize_t(request.size) : NULL;
    request_free(&request);
    return size;
}
