/* Requests of records that are all of one group: measured, then written into one bytes object of exactly that size.
 *
 * Owns nothing that outlives a call. The rule: no Python code runs in here, so the list holds all that is read of it; a
 * group whose bytes are not simply in slots is left to request.c, and without the interpreter lock, where others may change
 * the list and its records in the middle, all of them are.
 */
#include "request.h"

/* Whether what is read of objects of that type is in a slot. */
static int is_slot(PyTypeObject *type, const char *name)
{
    PyObject *descriptor = PyObject_GetAttrString((PyObject *)type, name);
    int is_it = descriptor != NULL && Py_IS_TYPE(descriptor, &PyMemberDescr_Type);
    Py_XDECREF(descriptor);
    PyErr_Clear(); /* there is none: request.c says so */
    return is_it;
}

/* The group of the first of them, borrowed; NULL if there is none that is as it should be. */
static PyObject *first_group(PyObject *record_type, PyObject *records)
{
    if (!PyList_CheckExact(records) || PyList_GET_SIZE(records) == 0) {
        return NULL;
    }
    SpanRecord *first = (SpanRecord *)PyList_GET_ITEM(records, 0);
    if (!Py_IS_TYPE(first, (PyTypeObject *)record_type) || !has_bytes(first)) {
        return NULL;
    }
    PyTypeObject *type = Py_TYPE(first->group);
    int runs_no_code = Py_IS_TYPE(type, &PyType_Type) && type->tp_getattro == PyObject_GenericGetAttr &&
                       is_slot(type, "resource") && is_slot(type, "scope");
    return runs_no_code ? first->group : NULL;
}

/* The bytes of their bodies, each as a field; -1 if they are not all records of this group. */
static Py_ssize_t bodies_size(PyObject *record_type, PyObject *records, PyObject *group)
{
    Py_ssize_t size = 0;
    for (Py_ssize_t number = 0; number < PyList_GET_SIZE(records); number++) {
        SpanRecord *record = (SpanRecord *)PyList_GET_ITEM(records, number);
        if (!Py_IS_TYPE(record, (PyTypeObject *)record_type) || record->group != group || !has_bytes(record)) {
            return -1;
        }
        size += field_size(body_of(record).size);
    }
    return size;
}

int one_group_begin(OneGroup *one, PyObject *module, PyObject *records)
{
#ifdef Py_GIL_DISABLED
    return 0;
#endif
    PyObject *record_type = PyObject_GetAttrString(module, "SpanRecord");
    if (record_type == NULL) {
        return -1;
    }
    PyObject *group = first_group(record_type, records);
    int is_one = group == NULL ? 0 : group_read(group, &one->resource, &one->scope) < 0 ? -1 : 1;
    if (is_one > 0) {
        Py_ssize_t bodies = bodies_size(record_type, records, group);
        one->scope_size = PyBytes_GET_SIZE(one->scope) + bodies;
        one->resource_size = PyBytes_GET_SIZE(one->resource) + field_size(one->scope_size);
        one->size = field_size(one->resource_size);
        if (bodies < 0) {
            one_group_end(one);
            is_one = 0;
        }
    }
    Py_DECREF(record_type);
    return is_one;
}

void one_group_end(OneGroup *one)
{
    Py_DECREF(one->resource);
    Py_DECREF(one->scope);
}

PyObject *one_group_build(const OneGroup *one, PyObject *records)
{
    PyObject *built = PyBytes_FromStringAndSize(NULL, one->size);
    if (built == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(built);
    at = put_head(at, RESOURCE_SPANS, one->resource_size, PyBytes_AS_STRING(one->resource),
                  PyBytes_GET_SIZE(one->resource));
    at = put_head(at, SCOPE_SPANS, one->scope_size, PyBytes_AS_STRING(one->scope), PyBytes_GET_SIZE(one->scope));
    for (Py_ssize_t number = 0; number < PyList_GET_SIZE(records); number++) {
        const Body body = body_of((SpanRecord *)PyList_GET_ITEM(records, number));
        at = put_head(at, SPAN, body.size, body.bytes, body.size);
    }
    return built;
}
