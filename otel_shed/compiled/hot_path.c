/* The type HotPath: a callable that is on_end for the usual span: sampled, and of the SDK's own types. What it does not
 * take it leaves to ``careful``, the plain on_end, and so it does with every Exception but the application's, for which
 * the span is counted as lost; the rule is that of that one: a span is either queued or left to it, never both.
 *
 * Any thread may come here, in the middle of others and of itself: what runs Python code is the encoder, for values of
 * foreign types, ``classify``, ``look`` and the intake's ``tell``; the span's attributes, read before, are owned across
 * those. Nothing is left to ``careful`` once ``classify`` has been asked: that may be the application's. Where there is
 * no memory or no stack left, not even for ``careful``, the span is counted as one that could not be encoded.
 */
#include "hot_path.h"

#include <structmember.h>

#include "clock.h"
#include "encoder.h"
#include "interruption.h"
#include "locking.h"
#include "queue.h"

/* What it is made of, in the order of its arguments; the first is an Encoder. */
typedef enum {
    ENCODER, CAREFUL_ON_END, INTAKE, QUEUE, CLOCK, LOOK, CLASSIFY, /* see hot_path_doc */
    BROUGHT, /* the names of attributes that say a priority, or None: the last word has ``classify`` */
    NORMAL, HIGH, /* two priorities */
    MEMBERS
} Member;

typedef struct {
    PyObject_HEAD
    PyObject *members[MEMBERS];
    Quickly quickly;
    /* The last group of which it is known that a record of up to ``roomy`` bytes fits into a request with it; None, that
     * of records without bytes, to begin with. */
    PyObject *group;
    Py_ssize_t roomy;
    /* When to look at the control again, by the clock, in seconds; and before it the characters of an attribute's value,
     * -1 for no limit, as of the last look. */
    Pair looks;
    int is_monotonic; /* the clock */
    PyObject *tell_name;
    PyObject *resource_name;
    PyObject *scope_name;
    vectorcallfunc vectorcall;
} HotPath;

/* Ask ``look`` for the time of the next look and the limit of attributes, if it is time to. */
static int look_if_due(HotPath *self)
{
    double seconds = seconds_of(self->members[CLOCK], self->is_monotonic);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (seconds < pair_last(&self->looks)) {
        return 0;
    }
    PyObject *seen = PyObject_CallNoArgs(self->members[LOOK]);
    if (seen == NULL) {
        return -1;
    }
    double looks_at;
    Py_ssize_t limit;
    int parsed = PyArg_ParseTuple(seen, "dn", &looks_at, &limit);
    Py_DECREF(seen);
    if (!parsed) {
        return -1;
    }
    pair_write(&self->looks, limit, looks_at);
    return 0;
}

/* Whether a context says that its span is sampled; 0 also where that is not for us to tell. */
static int is_sampled(Encoder *self, PyObject *context)
{
    if (!IS(context, SPAN_CONTEXT) || PyTuple_GET_SIZE(context) != CONTEXT_SIZE) {
        return 0;
    }
    PyObject *flags = PyTuple_GET_ITEM(context, 3);
    return IS(flags, TRACE_FLAGS) && (PyLong_AsUnsignedLongMask(flags) & 1);
}

/* Whether the record is known to fit into a request. */
static int fits(HotPath *self, SpanRecord *record)
{
    if (record->length > self->roomy) {
        return 0;
    }
    if (record->group == object_seen(&self->group)) {
        return 1;
    }
    PyObject *resource = PyObject_GetAttr(record->group, self->resource_name);
    PyObject *scope = resource ? PyObject_GetAttr(record->group, self->scope_name) : NULL;
    int does = scope != NULL && PyBytes_Check(resource) && PyBytes_Check(scope) &&
               PyBytes_GET_SIZE(resource) < self->roomy / 4 && PyBytes_GET_SIZE(scope) < self->roomy / 4;
    Py_XDECREF(resource);
    Py_XDECREF(scope);
    if (does) {
        Py_DECREF(object_exchanged(&self->group, Py_NewRef(record->group)));
    }
    return does;
}

/* Whether an attribute says what the span is worth; -1 with an exception. */
static int says_priority(PyObject *names, PyObject *dict)
{
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(names); place++) {
        int found = PyDict_Contains(dict, PyTuple_GET_ITEM(names, place));
        if (found != 0) {
            return found;
        }
    }
    return 0;
}

/* A record that is known to fit, or NULL: with an exception, or where that is not for us. */
static SpanRecord *record_of(HotPath *self, PyObject *span, const Reading *reading)
{
    Encoder *encoder = (Encoder *)self->members[ENCODER];
    if (!is_sampled(encoder, reading->read[S_CONTEXT]) || look_if_due(self) < 0) {
        return NULL;
    }
    SpanRecord *record = self->quickly(encoder, span, reading, pair_first(&self->looks));
    if (record != NULL && !fits(self, record)) {
        Py_CLEAR(record);
    }
    return record;
}

/* Whether the exception is for want of memory or of stack: EXHAUSTED in otel_shed/interruption.py. */
static int is_wanting(void)
{
    return PyErr_ExceptionMatches(PyExc_RecursionError) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
           PyErr_ExceptionMatches(PyExc_SystemError);
}

/* A span that no count has is lost to the exception that is set: it could not be encoded. NULL with that exception; None
 * where it is a want, which is not the application's to see. */
static PyObject *count_lost(HotPath *self)
{
    queue_count_failed(self->members[QUEUE]);
    if (!is_wanting()) {
        return NULL;
    }
    PyErr_Clear();
    Py_RETURN_NONE;
}

/* Queue the record: from here on it is no longer left to ``careful``. */
static PyObject *hand_over(HotPath *self, SpanRecord *record)
{
    int wakes = queue_push(self->members[QUEUE], record);
    if (wakes < 0) {
        return NULL;
    }
    if (wakes) {
        PyObject *told = PyObject_CallMethodNoArgs(self->members[INTAKE], self->tell_name);
        if (told == NULL) {
            if (!is_wanting()) {
                return NULL;
            }
            PyErr_Clear(); /* the span is queued: the next one tells */
        }
        Py_XDECREF(told);
    }
    Py_RETURN_NONE;
}

/* Leave the span to ``careful``, which raises for want of memory or of stack only where it has not counted the span. */
static PyObject *leave(HotPath *self, PyObject *const *args, size_t count, PyObject *names)
{
    PyObject *done = PyObject_Vectorcall(self->members[CAREFUL_ON_END], args, count, names);
    return done == NULL && is_wanting() ? count_lost(self) : done;
}

/* What the span is worth: a new reference, or NULL with an exception. */
static PyObject *priority_of(HotPath *self, PyObject *span, const Reading *reading, SpanRecord *record)
{
    PyObject *dict = reading->attributes[0], *names = self->members[BROUGHT];
    int asks = names == Py_None ? 1 : says_priority(names, dict);
    if (asks > 0) {
        return PyObject_CallFunctionObjArgs(self->members[CLASSIFY], span, dict, NULL);
    }
    return asks < 0 ? NULL : Py_NewRef(self->members[record->status == STATUS_ERROR ? HIGH : NORMAL]);
}

static PyObject *hot_path_call(PyObject *object, PyObject *const *args, size_t count, PyObject *names)
{
    HotPath *self = (HotPath *)object;
    Encoder *encoder = (Encoder *)self->members[ENCODER];
    if (PyVectorcall_NARGS(count) == 1 && names == NULL &&
        (PyObject *)Py_TYPE(args[0]) == encoder->parts[READABLE_SPAN]) {
        Reading reading;
        SpanRecord *record = NULL;
        PyObject *priority = NULL;
        if (reading_begin(encoder, args[0], &reading) == 0) {
            record = record_of(self, args[0], &reading);
            priority = record == NULL ? NULL : priority_of(self, args[0], &reading, record);
            reading_end(encoder, &reading);
        }
        if (priority != NULL) {
            Py_SETREF(record->priority, priority);
            PyObject *done = hand_over(self, record);
            Py_DECREF(record);
            return done;
        }
        Py_XDECREF(record);
        if (PyErr_Occurred()) {
            if (is_applications()) { /* or it cannot be told, for want of stack */
                return count_lost(self);
            }
            PyErr_Clear();
        }
    }
    return leave(self, args, count, names);
}

static PyObject *hot_path_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"encoder", "careful", "intake", "queue", "clock", "look", "classify", "names", "normal",
                            "high", "roomy", "wraps", NULL};
    PyObject *members[MEMBERS], *module = PyType_GetModule(type);
    Py_ssize_t roomy;
    int wraps;
    if (module == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "$OOOOOOOOOOnp:HotPath", names, &members[ENCODER],
                                     &members[CAREFUL_ON_END], &members[INTAKE], &members[QUEUE], &members[CLOCK],
                                     &members[LOOK], &members[CLASSIFY], &members[BROUGHT], &members[NORMAL],
                                     &members[HIGH], &roomy, &wraps)) {
        return NULL;
    }
    PyObject *encoder_type = PyObject_GetAttrString(module, "Encoder");
    PyObject *queue_type = encoder_type == NULL ? NULL : PyObject_GetAttrString(module, "Queue");
    int are_ours = queue_type != NULL && (PyObject *)Py_TYPE(members[ENCODER]) == encoder_type &&
                   (PyObject *)Py_TYPE(members[QUEUE]) == queue_type;
    Py_XDECREF(encoder_type);
    Py_XDECREF(queue_type);
    if (!are_ours || !(members[BROUGHT] == Py_None || PyTuple_CheckExact(members[BROUGHT]))) {
        PyErr_SetString(PyExc_TypeError, "a HotPath is made of an Encoder, a Queue, and names in a tuple");
        return NULL;
    }
    HotPath *self = (HotPath *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    for (int member = 0; member < MEMBERS; member++) {
        self->members[member] = Py_NewRef(members[member]);
    }
    self->quickly = wraps ? wrap_quickly : encode_quickly;
    self->group = Py_NewRef(Py_None);
    self->roomy = roomy;
    pair_write(&self->looks, -1, -1e300);
    self->vectorcall = hot_path_call;
    if ((self->is_monotonic = is_monotonic(members[CLOCK])) < 0 ||
        (self->tell_name = PyUnicode_InternFromString("tell")) == NULL ||
        (self->resource_name = PyUnicode_InternFromString("resource")) == NULL ||
        (self->scope_name = PyUnicode_InternFromString("scope")) == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int hot_path_traverse(PyObject *object, visitproc visit, void *arg)
{
    HotPath *self = (HotPath *)object;
    Py_VISIT(Py_TYPE(object));
    for (int member = 0; member < MEMBERS; member++) {
        Py_VISIT(self->members[member]);
    }
    Py_VISIT(self->group);
    return 0;
}

static int hot_path_clear(PyObject *object)
{
    HotPath *self = (HotPath *)object;
    /* Without its encoder and its queue it could not be called: these stay, and refer to nothing that refers to this. */
    for (int member = CAREFUL_ON_END; member < MEMBERS; member++) {
        if (member == QUEUE) {
            continue;
        }
        PyObject *before = self->members[member];
        self->members[member] = Py_NewRef(Py_None);
        Py_XDECREF(before);
    }
    return 0;
}

static void hot_path_dealloc(PyObject *object)
{
    HotPath *self = (HotPath *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    for (int member = 0; member < MEMBERS; member++) {
        Py_XDECREF(self->members[member]);
    }
    Py_XDECREF(self->group);
    Py_XDECREF(self->tell_name);
    Py_XDECREF(self->resource_name);
    Py_XDECREF(self->scope_name);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMemberDef hot_path_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(HotPath, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(hot_path_doc,
"on_end for the usual span: a callable of one argument.\n\n"
"``careful``: on_end for the others. ``queue``: where records go; ``intake``: whose ``tell`` is called when a consumer\n"
"is to be woken. ``clock``: seconds. ``look``: to be called when it is time to; returns when that\n"
"will be again, by the clock, and the characters that an attribute's value may have, -1 for no limit. ``classify``: of\n"
"a span and the dict of its attributes its priority; not asked, unless ``names`` is None, of a span that has no\n"
"attribute of one of these names: that is ``high`` if its status is an error, else ``normal``. ``roomy``: bytes of a\n"
"record that fits into a request with any resource and scope of a quarter of that. ``wraps``: records carry the span\n"
"itself.");

static PyType_Slot hot_path_slots[] = {
    {Py_tp_doc, (void *)hot_path_doc},
    {Py_tp_new, hot_path_make},
    {Py_tp_dealloc, hot_path_dealloc},
    {Py_tp_traverse, hot_path_traverse},
    {Py_tp_clear, hot_path_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, hot_path_members},
    {0, NULL},
};

PyType_Spec hot_path_spec = {
    .name = "otel_shed.compiled._extension.HotPath",
    .basicsize = sizeof(HotPath),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = hot_path_slots,
};
