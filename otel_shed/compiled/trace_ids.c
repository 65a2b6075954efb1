/* The type TraceIds: a set of trace ids, 16 bytes each, in a table with open addressing.
 *
 * A set of ints would keep an object of 44 bytes for each, and its table is twice as large: what is added for each span
 * that is sent would push out of the processor's caches what the program itself works on. No Python code runs in here, and
 * without the interpreter lock the table is looked at and changed in a critical section of the set.
 */
#include "trace_ids.h"

#include "locking.h"
#include "numbers.h"
#include "record.h"

#define LEAST_BITS 10
#define LEAST_PLACES (1 << LEAST_BITS)

typedef struct {
    PyObject_HEAD
    PyObject *record_type;
    Number *places; /* 0 is a place that is free */
    size_t room;    /* 0, or a power of two; at most three quarters of it are taken */
    int shift;      /* as many bits of a hash as ``room`` has places are left of it */
    Py_ssize_t count;
    int has_zero;
    Number secret;
} TraceIds;

static inline int is_zero(Number number)
{
    return (number.high | number.low) == 0;
}

/* Where an id is, or would be. Whoever chooses trace ids does not know the secret, so cannot bring many of them to one
 * place (multiply-shift hashing: Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem",
 * 1997). */
static Number *place_of(const TraceIds *self, Number id)
{
    uint64_t hash = id.high * self->secret.high + id.low * self->secret.low;
    size_t index = (size_t)(hash >> self->shift);
    while (!is_zero(self->places[index]) &&
           (self->places[index].high != id.high || self->places[index].low != id.low)) {
        index = (index + 1) & (self->room - 1);
    }
    return &self->places[index];
}

/* Have places for so many more; -1 with an exception, and nothing changed. */
static int reserve(TraceIds *self, Py_ssize_t more)
{
    size_t wanted = (size_t)self->count + (size_t)more, room = self->room ? self->room : LEAST_PLACES;
    int shift = self->room ? self->shift : 64 - LEAST_BITS;
    while (wanted > room / 4 * 3) {
        room *= 2;
        shift--;
    }
    if (room == self->room) {
        return 0;
    }
    Number *before = self->places, *places = PyMem_Calloc(room, sizeof *places);
    size_t room_before = self->room;
    if (places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->places = places;
    self->room = room;
    self->shift = shift;
    for (size_t index = 0; index < room_before; index++) {
        if (!is_zero(before[index])) {
            *place_of(self, before[index]) = before[index];
        }
    }
    PyMem_Free(before);
    return 0;
}

/* There must be a place for it. */
static inline void put(TraceIds *self, Number id)
{
    if (is_zero(id)) {
        self->count += !self->has_zero;
        self->has_zero = 1;
        return;
    }
    Number *place = place_of(self, id);
    if (is_zero(*place)) {
        *place = id;
        self->count++;
    }
}

static PyObject *trace_ids_clear(PyObject *object, PyObject *unused)
{
    (void)unused;
    TraceIds *self = (TraceIds *)object;
    Py_BEGIN_CRITICAL_SECTION(object);
    if ((size_t)self->count < self->room / 4) {
        PyMem_Free(self->places);
        self->places = NULL;
        self->room = 0;
    }
    else if (self->room) {
        /* Kept: the memory of a new table would be the system's, which takes longer to give it than all is added in. */
        memset(self->places, 0, self->room * sizeof *self->places);
    }
    self->count = self->has_zero = 0;
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *trace_ids_add(PyObject *object, PyObject *trace_id)
{
    TraceIds *self = (TraceIds *)object;
    Number id;
    if (!number_of(trace_id, &id)) {
        PyErr_SetString(PyExc_ValueError, "a trace id is an int of at most 128 bits");
        return NULL;
    }
    int failed;
    Py_BEGIN_CRITICAL_SECTION(object);
    if ((failed = reserve(self, 1)) == 0) {
        put(self, id);
    }
    Py_END_CRITICAL_SECTION();
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *trace_ids_add_of(PyObject *object, PyObject *records)
{
    TraceIds *self = (TraceIds *)object;
    if (!PyList_CheckExact(records)) {
        PyErr_SetString(PyExc_TypeError, "records must be a list");
        return NULL;
    }
    PyObject *held = sequence_held(records);
    if (held == NULL) {
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(held);
    for (Py_ssize_t index = 0; index < count; index++) {
        if ((PyObject *)Py_TYPE(PySequence_Fast_GET_ITEM(held, index)) != self->record_type) {
            PyErr_SetString(PyExc_TypeError, "records must be SpanRecords");
            Py_DECREF(held);
            return NULL;
        }
    }
    int failed;
    Py_BEGIN_CRITICAL_SECTION(object);
    if ((failed = reserve(self, count)) == 0) {
        for (Py_ssize_t index = 0; index < count; index++) {
            put(self, ((SpanRecord *)PySequence_Fast_GET_ITEM(held, index))->trace_id);
        }
    }
    Py_END_CRITICAL_SECTION();
    Py_DECREF(held);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int trace_ids_contains(PyObject *object, PyObject *trace_id)
{
    TraceIds *self = (TraceIds *)object;
    Number id;
    if (!number_of(trace_id, &id)) {
        return 0;
    }
    int contains;
    Py_BEGIN_CRITICAL_SECTION(object);
    contains = is_zero(id) ? self->has_zero : self->room && !is_zero(*place_of(self, id));
    Py_END_CRITICAL_SECTION();
    return contains;
}

static Py_ssize_t trace_ids_length(PyObject *object)
{
    Py_ssize_t count;
    Py_BEGIN_CRITICAL_SECTION(object);
    count = ((TraceIds *)object)->count;
    Py_END_CRITICAL_SECTION();
    return count;
}

/* -- the type -- */

/* What a str's hash is made with differs from process to process (PYTHONHASHSEED). */
static int take_secret(Number *secret)
{
    PyObject *words[] = {PyUnicode_FromString("high"), PyUnicode_FromString("low")};
    Py_hash_t high = words[0] ? PyObject_Hash(words[0]) : -1, low = words[1] ? PyObject_Hash(words[1]) : -1;
    Py_XDECREF(words[0]);
    Py_XDECREF(words[1]);
    *secret = (Number){.high = (uint64_t)high | 1, .low = (uint64_t)low | 1};
    return high == -1 || low == -1 ? -1 : 0;
}

static PyObject *trace_ids_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    PyObject *module = PyType_GetModule(type);
    if (module == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, ":TraceIds", names)) {
        return NULL;
    }
    TraceIds *self = (TraceIds *)type->tp_alloc(type, 0);
    if (self != NULL && (take_secret(&self->secret) < 0 ||
                         (self->record_type = PyObject_GetAttrString(module, "SpanRecord")) == NULL)) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void trace_ids_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyMem_Free(((TraceIds *)object)->places);
    Py_XDECREF(((TraceIds *)object)->record_type);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef trace_ids_methods[] = {
    {"add", trace_ids_add, METH_O, "add(trace_id, /)"},
    {"add_of", trace_ids_add_of, METH_O, "add_of(records, /): the trace ids of these, a list."},
    {"clear", trace_ids_clear, METH_NOARGS, "clear(): none is in it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot trace_ids_slots[] = {
    {Py_tp_doc, "Trace ids: see otel_shed/pipeline/trace_ids.py, whose class this stands in for."},
    {Py_tp_new, trace_ids_make},
    {Py_tp_dealloc, trace_ids_dealloc},
    {Py_sq_contains, trace_ids_contains},
    {Py_sq_length, trace_ids_length},
    {Py_tp_methods, trace_ids_methods},
    {0, NULL},
};

PyType_Spec trace_ids_spec = {
    .name = "otel_shed.compiled._extension.TraceIds",
    .basicsize = sizeof(TraceIds),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = trace_ids_slots,
};
