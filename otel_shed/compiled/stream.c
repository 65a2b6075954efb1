/* The type Stream: records that go out one by one, a ring for each priority.
 *
 * It takes no part in garbage collection, as its records do not. The rule: no Python code runs between a look at the
 * rings and their change. What is let go of is put into a list before, and handed to the caller with it; so whatever
 * fails, fails before anything has changed.
 */
#include "stream.h"

#include <stddef.h>
#include <structmember.h>

#include "pick.h"

typedef struct {
    PyObject_HEAD
    PyObject *record_type;
    Ring rings[PRIORITIES]; /* the lowest first */
    Py_ssize_t spans;
    Py_ssize_t length;
    long long admitted;
} Stream;

/* Take away what was picked; the list, or NULL as before. */
static PyObject *pick_take(Stream *self, Pick *pick)
{
    if (pick->records == NULL) {
        return NULL;
    }
    for (int priority = 0; priority < PRIORITIES; priority++) {
        ring_skip(&self->rings[priority], pick->counts[priority]);
    }
    self->spans -= pick->spans;
    self->length -= pick->length;
    return pick->records;
}

/* -- in -- */

/* The number of the ring of a record; -1 with an exception. */
static int ring_of(const Stream *self, PyObject *object)
{
    if ((PyObject *)Py_TYPE(object) != self->record_type) {
        PyErr_Format(PyExc_TypeError, "a Stream takes SpanRecords, not %.100s", Py_TYPE(object)->tp_name);
        return -1;
    }
    PyObject *priority = ((SpanRecord *)object)->priority;
    long number = PyLong_Check(priority) ? PyLong_AsLong(priority) : -1;
    if (number < 0 || number >= PRIORITIES) {
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError, "the priority of a SpanRecord is none");
        return -1;
    }
    return (int)number;
}

/* Queue these; -1 with an exception, and none of them. */
static int admit(Stream *self, PyObject *const *records, Py_ssize_t count)
{
    Py_ssize_t more[PRIORITIES] = {0};
    for (Py_ssize_t index = 0; index < count; index++) {
        int priority = ring_of(self, records[index]);
        if (priority < 0) {
            return -1;
        }
        more[priority]++;
    }
    for (int priority = 0; priority < PRIORITIES; priority++) {
        if (more[priority] && ring_reserve(&self->rings[priority], more[priority]) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t index = 0; index < count; index++) {
        SpanRecord *record = (SpanRecord *)records[index];
        record->order = self->admitted++;
        ring_push(&self->rings[PyLong_AsLong(record->priority)], record);
        self->length += record->length;
    }
    self->spans += count;
    return 0;
}

static PyObject *stream_add(PyObject *object, PyObject *record)
{
    if (admit((Stream *)object, &record, 1) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *stream_extend(PyObject *object, PyObject *sequence)
{
    Stream *self = (Stream *)object;
    PyObject *records = PySequence_Fast(sequence, "a Stream is extended by a sequence");
    if (records == NULL) {
        return NULL;
    }
    Py_ssize_t before = self->length;
    int failed = admit(self, PySequence_Fast_ITEMS(records), PySequence_Fast_GET_SIZE(records));
    Py_DECREF(records);
    return failed ? NULL : PyLong_FromSsize_t(self->length - before);
}

/* -- out -- */

static PyObject *stream_drop(PyObject *object, PyObject *unused)
{
    (void)unused;
    Stream *self = (Stream *)object;
    Pick none = {.records = NULL};
    int priority = pick_lowest(self->rings, &none);
    if (priority < 0) {
        PyErr_SetString(PyExc_IndexError, "drop from an empty Stream");
        return NULL;
    }
    PyObject *record = Py_NewRef(ring_at(&self->rings[priority], 0));
    self->spans--;
    self->length -= ((SpanRecord *)record)->length;
    ring_skip(&self->rings[priority], 1);
    return record;
}

static PyObject *stream_drop_to(PyObject *object, PyObject *args)
{
    Stream *self = (Stream *)object;
    Py_ssize_t spans, length;
    Pick pick;
    if (!PyArg_ParseTuple(args, "nn:drop_to", &spans, &length) || pick_begin(&pick) < 0) {
        return NULL;
    }
    while ((self->spans - pick.spans > spans || self->length - pick.length > length) &&
           pick_add(self->rings, &pick, pick_lowest(self->rings, &pick))) {
    }
    return pick_take(self, &pick);
}

static PyObject *stream_take(PyObject *object, PyObject *args)
{
    Stream *self = (Stream *)object;
    Py_ssize_t most, most_bytes;
    Pick pick;
    if (!PyArg_ParseTuple(args, "nn:take", &most, &most_bytes) || pick_begin(&pick) < 0) {
        return NULL;
    }
    while (pick.spans < most && pick_oldest_within(self->rings, &pick, most_bytes)) {
    }
    return pick_take(self, &pick);
}

static PyObject *stream_take_back(PyObject *object, PyObject *argument)
{
    Stream *self = (Stream *)object;
    long long since = PyLong_AsLongLong(argument);
    Pick pick;
    Py_ssize_t stays[PRIORITIES];
    if ((since == -1 && PyErr_Occurred()) || pick_begin(&pick) < 0) {
        return NULL;
    }
    for (int priority = 0; priority < PRIORITIES; priority++) { /* what came before stays: as if it had been picked */
        const Ring *ring = &self->rings[priority];
        Py_ssize_t stay = ring->count;
        while (stay > 0 && ring_at(ring, stay - 1)->order >= since) {
            stay--;
        }
        pick.counts[priority] = stays[priority] = stay;
    }
    while (pick_add(self->rings, &pick, pick_oldest(self->rings, &pick))) {
    }
    for (int priority = 0; pick.records != NULL && priority < PRIORITIES; priority++) {
        ring_cut(&self->rings[priority], self->rings[priority].count - stays[priority]);
    }
    if (pick.records != NULL) {
        self->spans -= pick.spans;
        self->length -= pick.length;
    }
    return pick.records;
}

/* All that waits, in a new list: the rings one after the other. */
static PyObject *all_of(const Stream *self)
{
    Pick pick;
    if (pick_begin(&pick) < 0) {
        return NULL;
    }
    while (pick_add(self->rings, &pick, pick_lowest(self->rings, &pick))) {
    }
    return pick.records;
}

static PyObject *stream_iter(PyObject *object)
{
    PyObject *records = all_of((Stream *)object);
    PyObject *iterator = records == NULL ? NULL : PyObject_GetIter(records);
    Py_XDECREF(records);
    return iterator;
}

/* Those of ``records`` that ``goes`` is true of, in a new list. */
static PyObject *chosen(PyObject *records, PyObject *goes)
{
    PyObject *gone = PyList_New(0);
    for (Py_ssize_t index = 0; gone != NULL && index < PyList_GET_SIZE(records); index++) {
        PyObject *record = PyList_GET_ITEM(records, index), *answer = PyObject_CallOneArg(goes, record);
        int is_gone = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        if (is_gone < 0 || (is_gone && PyList_Append(gone, record) < 0)) {
            Py_CLEAR(gone);
        }
    }
    return gone;
}

/* Whether the rings hold just these, which Python code may have changed. */
static int holds_just(const Stream *self, PyObject *records)
{
    Py_ssize_t index = 0;
    for (int priority = 0; priority < PRIORITIES; priority++) {
        for (Py_ssize_t place = 0; place < self->rings[priority].count; place++, index++) {
            if (index >= PyList_GET_SIZE(records) ||
                PyList_GET_ITEM(records, index) != (PyObject *)ring_at(&self->rings[priority], place)) {
                return 0;
            }
        }
    }
    return index == PyList_GET_SIZE(records);
}

/* Take away those that are in ``gone`` too, where they stand in the order in which they stand here. */
static void ring_without(Ring *ring, PyObject *gone, Py_ssize_t *next)
{
    Py_ssize_t count = ring->count, stay = 0;
    for (Py_ssize_t place = 0; place < count; place++) {
        SpanRecord *record = ring_at(ring, place);
        if (*next < PyList_GET_SIZE(gone) && (PyObject *)record == PyList_GET_ITEM(gone, *next)) {
            ++*next;
            Py_DECREF(record);
        }
        else {
            ring->places[(ring->first + stay++) & (ring->room - 1)] = record;
        }
    }
    ring->count = stay;
}

static PyObject *stream_part(PyObject *object, PyObject *goes)
{
    Stream *self = (Stream *)object;
    PyObject *records = all_of(self), *gone = records == NULL ? NULL : chosen(records, goes);
    if (gone != NULL && !holds_just(self, records)) {
        PyErr_SetString(PyExc_RuntimeError, "the Stream changed while it was parted");
        Py_CLEAR(gone);
    }
    if (gone != NULL) {
        Py_ssize_t next = 0;
        for (int priority = 0; priority < PRIORITIES; priority++) {
            ring_without(&self->rings[priority], gone, &next);
        }
        self->spans -= next;
        for (Py_ssize_t index = 0; index < next; index++) {
            self->length -= ((SpanRecord *)PyList_GET_ITEM(gone, index))->length;
        }
    }
    Py_XDECREF(records);
    return gone;
}

static PyObject *stream_clear(PyObject *object, PyObject *unused)
{
    (void)unused;
    Stream *self = (Stream *)object;
    Ring rings[PRIORITIES];
    memcpy(rings, self->rings, sizeof rings);
    memset(self->rings, 0, sizeof self->rings);
    self->spans = self->length = 0;
    for (int priority = 0; priority < PRIORITIES; priority++) { /* from here on Python code may run */
        ring_cut(&rings[priority], rings[priority].count);
        ring_end(&rings[priority]);
    }
    Py_RETURN_NONE;
}

/* -- the type -- */

static PyObject *stream_oldest(PyObject *object, void *closure)
{
    (void)closure;
    Stream *self = (Stream *)object;
    Pick none = {.records = NULL};
    int priority = pick_oldest(self->rings, &none);
    return PyLong_FromLongLong(priority < 0 ? self->admitted : ring_at(&self->rings[priority], 0)->order);
}

static PyObject *stream_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    PyObject *module = PyType_GetModule(type);
    if (module == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, ":Stream", names)) {
        return NULL;
    }
    Stream *self = (Stream *)type->tp_alloc(type, 0);
    if (self != NULL && (self->record_type = PyObject_GetAttrString(module, "SpanRecord")) == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void stream_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(stream_clear(object, NULL));
    Py_XDECREF(((Stream *)object)->record_type);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef stream_methods[] = {
    {"add", stream_add, METH_O, "add(record, /): queue it; this sets its order."},
    {"extend", stream_extend, METH_O, "extend(records, /): queue these, in their order; their bytes."},
    {"drop", stream_drop, METH_NOARGS, "drop(): let go of the oldest of the lowest priority; there must be one."},
    {"drop_to", stream_drop_to, METH_VARARGS, "drop_to(spans, length, /): let go of what is too many, as drop does."},
    {"take", stream_take, METH_VARARGS, "take(most, most_bytes, /): the oldest, of most_bytes at most."},
    {"take_back", stream_take_back, METH_O, "take_back(since, /): those of this order and later, in their order."},
    {"part", stream_part, METH_O, "part(goes, /): let go of those that it is true of."},
    {"clear", stream_clear, METH_NOARGS, "clear(): forget what waits; the orders go on."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    {"spans", T_PYSSIZET, offsetof(Stream, spans), READONLY, NULL},
    {"length", T_PYSSIZET, offsetof(Stream, length), READONLY, NULL},
    {"admitted", T_LONGLONG, offsetof(Stream, admitted), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef stream_getset[] = {
    {"oldest", stream_oldest, NULL, "The order of the oldest that waits, or of the next to be added.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "Spans that go out one by one: see otel_shed/pipeline/stream.py, whose class this stands in for."},
    {Py_tp_new, stream_make},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_iter, stream_iter},
    {Py_tp_methods, stream_methods},
    {Py_tp_members, stream_members},
    {Py_tp_getset, stream_getset},
    {0, NULL},
};

PyType_Spec stream_spec = {
    .name = "otel_shed.compiled._extension.Stream",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = stream_slots,
};
