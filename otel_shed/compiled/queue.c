/* The type Queue: the bounded queue between application threads and ours, a ring for each priority.
 *
 * Any thread may come here. The rules: no Python code runs between a look at the rings and their change, so under the
 * interpreter lock every call is one step; without that lock a mutex is held for that long, and for nothing else. A
 * record that is evicted is given up after the step, since that may run Python code, which may come here again.
 */
#include "queue.h"

#include <stddef.h>
#include <structmember.h>

#include "pick.h"

#define HIGH 2 /* of otel_shed.record.Priority */
#define MOST_KINDS 32
/* So many evicted records are given up at a time: a push evicts one, but for records of very different sizes. */
#define EVICTED 16

#ifdef Py_GIL_DISABLED
#define LOCK(self) PyMutex_Lock(&(self)->mutex)
#define UNLOCK(self) PyMutex_Unlock(&(self)->mutex)
#else
#define LOCK(self) (void)(self)
#define UNLOCK(self) (void)(self)
#endif

typedef struct {
    PyObject_HEAD
    PyObject *record_type;
    Ring rings[PRIORITIES]; /* the lowest first */
    Py_ssize_t records;
    Py_ssize_t length;
    Py_ssize_t max_records;
    Py_ssize_t max_bytes;
    Py_ssize_t wake_at;
    Py_ssize_t wake_at_bytes;
    long long admitted;
    long long popped;
    unsigned long long admission;
    long long counts[MOST_KINDS];
    int kinds, full, refused, closed, failed; /* kinds: how many; the others are kinds */
    char is_closed;
#ifdef Py_GIL_DISABLED
    PyMutex mutex;
#endif
} Queue;

/* How many spans this thread has had queued or counted: whether a call that failed had done so by then. */
#ifdef _MSC_VER
static __declspec(thread) unsigned long long seen_here;
#else
static _Thread_local unsigned long long seen_here;
#endif

unsigned long long queue_seen_here(void)
{
    return seen_here;
}

/* -- randomness -- */

#define RANDOMNESS_MASK 0x00FFFFFFFFFFFFFFULL
#define RANDOMNESS_DIGITS 14

/* The number that 14 lower-case hexadecimal digits say; 0 if they do not. */
static int randomness_from(const char *digits, unsigned long long *randomness)
{
    unsigned long long number = 0;
    for (int place = 0; place < RANDOMNESS_DIGITS; place++) {
        char digit = digits[place];
        if (digit >= '0' && digit <= '9') {
            number = number << 4 | (unsigned)(digit - '0');
        }
        else if (digit >= 'a' && digit <= 'f') {
            number = number << 4 | (unsigned)(digit - 'a' + 10);
        }
        else {
            return 0;
        }
    }
    *randomness = number;
    return 1;
}

/* The value of ``ot`` among the members of a tracestate; its length, or -1. */
static Py_ssize_t ot_of(const char *text, Py_ssize_t size, const char **value)
{
    for (Py_ssize_t at = 0; at < size;) {
        const char *member = text + at, *comma = memchr(member, ',', (size_t)(size - at));
        Py_ssize_t length = comma == NULL ? size - at : comma - member;
        if (length >= 3 && memcmp(member, "ot=", 3) == 0) {
            *value = member + 3;
            return length - 3;
        }
        at += length + 1;
    }
    return -1;
}

/* What a trace is held against thresholds by: ``rv``, else the last 7 bytes of its id; see control/threshold.py. The
 * tracestate is read from the encoded span, which begins with the ids (fields 1 and 2, always of 16 and 8 bytes) and the
 * tracestate (field 3); a record without such a body goes by its trace id. */
static unsigned long long randomness_of(const SpanRecord *record)
{
    unsigned long long randomness = record->trace_id.low & RANDOMNESS_MASK;
    if (record->trace_state == Py_None) {
        return randomness;
    }
    const unsigned char *body = record->own;
    Py_ssize_t size = record->own_size;
    if (record->body != NULL) {
        if (!PyBytes_Check(record->body)) {
            return randomness;
        }
        body = (const unsigned char *)PyBytes_AS_STRING(record->body);
        size = PyBytes_GET_SIZE(record->body);
    }
    if (size < 30 || body[0] != 0x0A || body[1] != 16 || body[18] != 0x12 || body[19] != 8 || body[28] != 0x1A) {
        return randomness;
    }
    Py_ssize_t at = 29, length = 0;
    for (int shift = 0; at < size && shift < 28; shift += 7) {
        length |= (Py_ssize_t)(body[at] & 0x7F) << shift;
        if (body[at++] < 0x80) {
            break;
        }
    }
    const char *value;
    Py_ssize_t left = length <= size - at ? ot_of((const char *)body + at, length, &value) : -1;
    while (left > 0) {
        const char *semicolon = memchr(value, ';', (size_t)left);
        Py_ssize_t part = semicolon == NULL ? left : semicolon - value;
        if (part >= 3 && memcmp(value, "rv:", 3) == 0) { /* the last one counts, as in control/threshold.py */
            if (part != 3 + RANDOMNESS_DIGITS || !randomness_from(value + 3, &randomness)) {
                randomness = record->trace_id.low & RANDOMNESS_MASK;
            }
        }
        value += part + 1;
        left -= part + 1;
    }
    return randomness;
}

/* -- in -- */

/* The number of the ring of a record; -1 where its priority is none. Never an exception. */
static int ring_of(const SpanRecord *record)
{
    long number = PyLong_Check(record->priority) ? PyLong_AsLong(record->priority) : -1;
    if (number == -1) {
        PyErr_Clear();
    }
    return number < 0 || number >= PRIORITIES ? -1 : (int)number;
}

/* Take some of what is too much out of the rings; how many, to be given up by the caller after the step. */
static int evict(Queue *self, SpanRecord **evicted)
{
    int count = 0;
    const Pick none = {.records = NULL};
    while (count < EVICTED && (self->records > self->max_records || self->length > self->max_bytes)) {
        int priority = pick_lowest(self->rings, &none);
        if (priority < 0) {
            break;
        }
        Ring *ring = &self->rings[priority];
        SpanRecord *record = ring_at(ring, 0);
        Py_INCREF(record);
        ring_skip(ring, 1);
        self->records--;
        self->length -= record->length;
        self->counts[self->full]++;
        evicted[count++] = record;
    }
    return count;
}

/* Evict until the bounds hold. */
static void keep_bounds(Queue *self)
{
    SpanRecord *evicted[EVICTED];
    int count;
    do {
        LOCK(self);
        count = evict(self, evicted);
        UNLOCK(self);
        for (int place = 0; place < count; place++) {
            Py_DECREF(evicted[place]);
        }
    } while (count == EVICTED);
}

/* Queue the record, which is one, of this priority. */
static int push(Queue *self, SpanRecord *record, int priority)
{
    seen_here++;
    LOCK(self);
    if (self->is_closed) {
        self->counts[self->closed]++;
        UNLOCK(self);
        return 0;
    }
    if (self->admission && priority < HIGH) {
        if (randomness_of(record) < self->admission) {
            self->counts[self->refused]++;
            UNLOCK(self);
            return 0;
        }
        record->admission = self->admission;
    }
    Ring *ring = &self->rings[priority];
    if (ring_reserve(ring, 1) < 0) {
        self->counts[self->failed]++;
        UNLOCK(self);
        PyErr_Clear();
        return 0;
    }
    record->order = self->admitted++;
    ring_push(ring, record);
    self->records++;
    self->length += record->length;
    int is_full = self->records > self->max_records || self->length > self->max_bytes;
    int wakes = self->records >= self->wake_at || self->length >= self->wake_at_bytes;
    UNLOCK(self);
    if (is_full) {
        keep_bounds(self);
    }
    return wakes;
}

int queue_push(PyObject *queue, SpanRecord *record)
{
    int priority = ring_of(record);
    if (priority < 0) {
        queue_count_failed(queue);
        return 0;
    }
    return push((Queue *)queue, record, priority);
}

void queue_count_failed(PyObject *queue)
{
    Queue *self = (Queue *)queue;
    seen_here++;
    LOCK(self);
    self->counts[self->failed]++;
    UNLOCK(self);
}

static PyObject *queue_push_method(PyObject *object, PyObject *record)
{
    Queue *self = (Queue *)object;
    if ((PyObject *)Py_TYPE(record) != self->record_type) {
        return PyErr_Format(PyExc_TypeError, "a Queue takes SpanRecords, not %.100s", Py_TYPE(record)->tp_name);
    }
    return PyBool_FromLong(queue_push(object, (SpanRecord *)record));
}

/* A kind, or -1 with an exception. */
static int kind_of(const Queue *self, PyObject *object)
{
    long kind = PyLong_AsLong(object);
    if (kind == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (kind < 0 || kind >= self->kinds) {
        PyErr_SetString(PyExc_IndexError, "a Queue does not count this kind");
        return -1;
    }
    return (int)kind;
}

static PyObject *queue_book(PyObject *object, PyObject *const *args, Py_ssize_t given)
{
    Queue *self = (Queue *)object;
    if (given < 1 || given > 2) {
        return PyErr_Format(PyExc_TypeError, "book takes a kind and a count, not %zd arguments", given);
    }
    int kind = kind_of(self, args[0]);
    long long count = given == 2 ? PyLong_AsLongLong(args[1]) : 1;
    if (kind < 0 || (count == -1 && PyErr_Occurred())) {
        return NULL;
    }
    seen_here++;
    LOCK(self);
    self->counts[kind] += count;
    UNLOCK(self);
    Py_RETURN_NONE;
}

/* -- out -- */

static PyObject *queue_pop(PyObject *object, PyObject *const *args, Py_ssize_t given)
{
    Queue *self = (Queue *)object;
    if (given < 1 || given > 2) {
        return PyErr_Format(PyExc_TypeError, "pop takes one or two numbers, not %zd arguments", given);
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[0]), most_bytes = given == 2 ? PyLong_AsSsize_t(args[1]) : PY_SSIZE_T_MAX;
    Pick pick;
    /* To make the list may run Python code: before the look. */
    if (PyErr_Occurred() || pick_begin(&pick) < 0) {
        return NULL;
    }
    LOCK(self);
    while (pick.spans < most && pick_oldest_within(self->rings, &pick, most_bytes)) {
    }
    if (pick.records != NULL) {
        for (int priority = 0; priority < PRIORITIES; priority++) {
            ring_skip(&self->rings[priority], pick.counts[priority]);
        }
        self->records -= pick.spans;
        self->length -= pick.length;
        self->popped += pick.spans;
    }
    UNLOCK(self);
    return pick.records == NULL ? NULL : Py_BuildValue("Nn", pick.records, pick.length);
}

static PyObject *queue_resize(PyObject *object, PyObject *const *args, Py_ssize_t given)
{
    Queue *self = (Queue *)object;
    if (given != 2) {
        return PyErr_Format(PyExc_TypeError, "resize takes two numbers, not %zd arguments", given);
    }
    Py_ssize_t max_records = PyLong_AsSsize_t(args[0]), max_bytes = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    LOCK(self);
    self->max_records = max_records < 0 ? 0 : max_records;
    self->max_bytes = max_bytes < 0 ? 0 : max_bytes;
    UNLOCK(self);
    keep_bounds(self);
    Py_RETURN_NONE;
}

static PyObject *queue_wake_when(PyObject *object, PyObject *const *args, Py_ssize_t given)
{
    Queue *self = (Queue *)object;
    if (given < 1 || given > 2) {
        return PyErr_Format(PyExc_TypeError, "wake_when takes one or two numbers, not %zd arguments", given);
    }
    Py_ssize_t records = PyLong_AsSsize_t(args[0]), length = given == 2 ? PyLong_AsSsize_t(args[1]) : PY_SSIZE_T_MAX;
    if (PyErr_Occurred()) {
        return NULL;
    }
    LOCK(self);
    self->wake_at = records;
    self->wake_at_bytes = length;
    int is_reached = self->records >= records || self->length >= length;
    UNLOCK(self);
    return PyBool_FromLong(is_reached);
}

static PyObject *queue_admit_from(PyObject *object, PyObject *argument)
{
    unsigned long long threshold = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred()) {
        return NULL;
    }
    LOCK((Queue *)object);
    ((Queue *)object)->admission = threshold;
    UNLOCK((Queue *)object);
    Py_RETURN_NONE;
}

static PyObject *queue_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    LOCK((Queue *)object);
    ((Queue *)object)->is_closed = 1;
    UNLOCK((Queue *)object);
    Py_RETURN_NONE;
}

/* Take all rings away, and count what was in them as ``kind``, if it is one. */
static void empty(Queue *self, int kind)
{
    Ring rings[PRIORITIES];
    LOCK(self);
    memcpy(rings, self->rings, sizeof rings);
    memset(self->rings, 0, sizeof self->rings);
    if (kind >= 0) {
        self->counts[kind] += self->records;
    }
    self->records = self->length = 0;
    UNLOCK(self);
    for (int priority = 0; priority < PRIORITIES; priority++) { /* from here on Python code may run */
        ring_cut(&rings[priority], rings[priority].count);
        ring_end(&rings[priority]);
    }
}

static PyObject *queue_clear(PyObject *object, PyObject *argument)
{
    int kind = kind_of((Queue *)object, argument);
    if (kind < 0) {
        return NULL;
    }
    empty((Queue *)object, kind);
    Py_RETURN_NONE;
}

static PyObject *queue_restart(PyObject *object, PyObject *unused)
{
    (void)unused;
    Queue *self = (Queue *)object;
#ifdef Py_GIL_DISABLED
    self->mutex = (PyMutex){0}; /* a thread that is not there may hold it */
#endif
    self->wake_at = self->wake_at_bytes = PY_SSIZE_T_MAX;
    self->admission = 0;
    memset(self->counts, 0, sizeof self->counts);
    self->admitted = self->popped = 0;
    empty(self, -1);
    Py_RETURN_NONE;
}

/* -- readings -- */

static PyObject *queue_counts(PyObject *object, PyObject *unused)
{
    (void)unused;
    Queue *self = (Queue *)object;
    long long counts[MOST_KINDS];
    LOCK(self);
    long long popped = self->popped;
    Py_ssize_t records = self->records, length = self->length;
    memcpy(counts, self->counts, sizeof counts);
    UNLOCK(self);
    PyObject *kinds = PyList_New(self->kinds);
    for (int kind = 0; kinds != NULL && kind < self->kinds; kind++) {
        PyObject *count = PyLong_FromLongLong(counts[kind]);
        if (count == NULL) {
            Py_CLEAR(kinds);
            break;
        }
        PyList_SET_ITEM(kinds, kind, count);
    }
    return kinds == NULL ? NULL : Py_BuildValue("LnnN", popped, records, length, kinds);
}

static PyObject *queue_mark(PyObject *object, PyObject *unused)
{
    (void)unused;
    Queue *self = (Queue *)object;
    LOCK(self);
    long long admitted = self->admitted;
    UNLOCK(self);
    return PyLong_FromLongLong(admitted);
}

static PyObject *queue_oldest(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    const Pick none = {.records = NULL};
    LOCK(self);
    int priority = pick_oldest(self->rings, &none);
    long long order = priority < 0 ? self->admitted : ring_at(&self->rings[priority], 0)->order;
    UNLOCK(self);
    return PyLong_FromLongLong(order);
}

static PyObject *queue_is_held_here(PyObject *object, void *closure)
{
    (void)object;
    (void)closure;
    Py_RETURN_FALSE; /* no Python code runs in the middle of a step */
}

/* -- the type -- */

static PyObject *queue_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"kinds", "full", "refused", "closed", "failed", NULL};
    int kinds, of[4];
    PyObject *module = PyType_GetModule(type);
    if (module == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "$iiiii:Queue", names, &kinds, &of[0], &of[1],
                                                       &of[2], &of[3])) {
        return NULL;
    }
    for (int place = 0; place < 4; place++) {
        if (kinds > MOST_KINDS || of[place] < 0 || of[place] >= kinds) {
            PyErr_SetString(PyExc_ValueError, "a kind of a Queue is out of range");
            return NULL;
        }
    }
    Queue *self = (Queue *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    if ((self->record_type = PyObject_GetAttrString(module, "SpanRecord")) == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->kinds = kinds;
    self->full = of[0];
    self->refused = of[1];
    self->closed = of[2];
    self->failed = of[3];
    self->max_records = self->max_bytes = self->wake_at = self->wake_at_bytes = PY_SSIZE_T_MAX;
    return (PyObject *)self;
}

static void queue_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    empty((Queue *)object, -1);
    Py_XDECREF(((Queue *)object)->record_type);
    type->tp_free(object);
    Py_DECREF(type);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef queue_methods[] = {
    {"push", queue_push_method, METH_O, "push(record, /): queue it; whether a consumer is to be woken."},
    {"book", FAST(queue_book), METH_FASTCALL, "book(kind, count=1, /): count spans that are not queued."},
    {"pop", FAST(queue_pop), METH_FASTCALL, "pop(most, most_bytes, /): the oldest, of most_bytes at most; and their bytes."},
    {"resize", FAST(queue_resize), METH_FASTCALL, "resize(max_records, max_bytes, /): hold no more; evict the rest."},
    {"wake_when", FAST(queue_wake_when), METH_FASTCALL, "wake_when(records, length, /): whether so much waits now."},
    {"admit_from", queue_admit_from, METH_O, "admit_from(threshold, /): refuse traces of a lower randomness."},
    {"close", queue_close, METH_NOARGS, "close(): admit nothing from now on."},
    {"clear", queue_clear, METH_O, "clear(kind, /): count all that waits as kind, and forget it."},
    {"restart", queue_restart, METH_NOARGS, "restart(): begin anew, in a forked child."},
    {"mark", queue_mark, METH_NOARGS, "mark(): how many were admitted."},
    {"counts", queue_counts, METH_NOARGS, "counts(): popped, waiting, their bytes, and each kind's count."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef queue_members[] = {
    {"records", T_PYSSIZET, offsetof(Queue, records), READONLY, NULL},
    {"length", T_PYSSIZET, offsetof(Queue, length), READONLY, NULL},
    {"admitted", T_LONGLONG, offsetof(Queue, admitted), READONLY, NULL},
    {"admission", T_ULONGLONG, offsetof(Queue, admission), READONLY, NULL},
    {"is_closed", T_BOOL, offsetof(Queue, is_closed), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"oldest", queue_oldest, NULL, "The order of the oldest that waits, or of the next to be admitted.", NULL},
    {"is_held_here", queue_is_held_here, NULL, "Whether this thread is in the middle of a step.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "The bounded queue: see otel_shed/pipeline/queue.py, whose class this stands in for."},
    {Py_tp_new, queue_make},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_methods, queue_methods},
    {Py_tp_members, queue_members},
    {Py_tp_getset, queue_getset},
    {0, NULL},
};

PyType_Spec queue_spec = {
    .name = "otel_shed.compiled._extension.Queue",
    .basicsize = sizeof(Queue),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = queue_slots,
};
