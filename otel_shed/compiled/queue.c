/* The type Queue: the bounded queue between application threads and ours, a ring for each priority.
 *
 * Any thread may come here. The rules: no Python code runs between a look at the rings and their change, so under the
 * interpreter lock every call is one step; without that lock a mutex is held for that long, and for nothing else. A
 * record that is evicted is given up after the step, since that may run Python code, which may come here again.
 */
#include "queue.h"

#include "pick.h"
#include "summary_rows.h"

#define HIGH 2 /* of otel_shed.record.Priority */
#define MOST_KINDS 32
/* So many evicted records are given up at a time: a push evicts one, but for records of very different sizes. */
#define EVICTED 16

#ifdef Py_GIL_DISABLED
#define LOCK(self) (PyMutex_Lock(&(self)->mutex), (void)((self)->is_changing = 1))
#define UNLOCK(self) ((self)->is_changing = 0, PyMutex_Unlock(&(self)->mutex))
#else
#define LOCK(self) (void)(self)
#define UNLOCK(self) (void)(self)
#endif

typedef struct {
    PyObject_HEAD
    PyObject *record_type;
    PyObject *summary_rows; /* of what is evicted and what is refused; NULL for none */
    PyObject *ot;           /* the name of OpenTelemetry's entry in a tracestate */
    Ring rings[PRIORITIES]; /* the lowest first */
    Py_ssize_t lengths[PRIORITIES];
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
    char is_changing;
#endif
} Queue;

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

/* What an ``ot`` entry says in its last ``rv``, if that can be read; else what is there stays. */
static void randomness_in(const char *value, Py_ssize_t left, unsigned long long *randomness)
{
    const unsigned long long without = *randomness;
    while (left > 0) {
        const char *semicolon = memchr(value, ';', (size_t)left);
        Py_ssize_t part = semicolon == NULL ? left : semicolon - value;
        if (part >= 2 && memcmp(value, "rv", 2) == 0 && (part == 2 || value[2] == ':')) {
            if (part != 3 + RANDOMNESS_DIGITS || !randomness_from(value + 3, randomness)) {
                *randomness = without;
            }
        }
        value += part + 1;
        left -= part + 1;
    }
}

/* The tracestate in an encoded span, which begins with its ids (fields 1 and 2, always of 16 and 8 bytes) and, where it
 * has one, the tracestate (field 3); NULL where the record has no such bytes. ``object``: the record's body, if it is not
 * its own. */
static const char *trace_state_in(const SpanRecord *record, PyObject *object, Py_ssize_t *size)
{
    const unsigned char *body = record->own;
    Py_ssize_t length = record->own_size, at = 29, text = 0;
    if (object != NULL) {
        if (!PyBytes_Check(object)) {
            return NULL;
        }
        body = (const unsigned char *)PyBytes_AS_STRING(object);
        length = PyBytes_GET_SIZE(object);
    }
    if (length < 30 || body[0] != 0x0A || body[1] != 16 || body[18] != 0x12 || body[19] != 8 || body[28] != 0x1A) {
        return NULL;
    }
    for (int shift = 0; at < length && shift < 28; shift += 7) {
        text |= (Py_ssize_t)(body[at] & 0x7F) << shift;
        if (body[at++] < 0x80) {
            break;
        }
    }
    *size = text;
    return text <= length - at ? (const char *)body + at : NULL;
}

/* The value of ``ot`` among the members of a tracestate; NULL without one. */
static const char *ot_in(const char *text, Py_ssize_t size, Py_ssize_t *value_size)
{
    for (Py_ssize_t at = 0; at < size;) {
        const char *member = text + at, *comma = memchr(member, ',', (size_t)(size - at));
        Py_ssize_t length = comma == NULL ? size - at : comma - member;
        if (length >= 3 && memcmp(member, "ot=", 3) == 0) {
            *value_size = length - 3;
            return member + 3;
        }
        at += length + 1;
    }
    return NULL;
}

/* What a trace is held against thresholds by: ``rv``, else the last 7 bytes of its id; see control/threshold.py. -1 with
 * an exception that is none of a tracestate's own, as of a signal handler. Of a record that carries the span object it
 * may run Python code: before the step. */
static int randomness_of(const Queue *self, SpanRecord *record, unsigned long long *randomness)
{
    *randomness = record->trace_id.low & RANDOMNESS_MASK;
    PyObject *trace_state = held_member((PyObject *)record, &record->trace_state), *ot;
    if (trace_state == Py_None) {
        Py_DECREF(trace_state);
        return 0;
    }
    PyObject *body = held_member((PyObject *)record, &record->body);
    Py_ssize_t text_size, value_size;
    const char *text = trace_state_in(record, body, &text_size);
    if (text != NULL) {
        const char *value = ot_in(text, text_size, &value_size);
        if (value != NULL) {
            randomness_in(value, value_size, randomness);
        }
    }
    Py_XDECREF(body);
    if (text != NULL) {
        Py_DECREF(trace_state);
        return 0;
    }
    if (PyDict_CheckExact(trace_state)) {
        Py_BEGIN_CRITICAL_SECTION(trace_state);
        ot = Py_XNewRef(PyDict_GetItemWithError(trace_state, self->ot));
        Py_END_CRITICAL_SECTION();
    }
    else {
        ot = PyObject_CallMethod(trace_state, "get", "O", self->ot);
    }
    Py_DECREF(trace_state);
    if (ot != NULL && PyUnicode_Check(ot)) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(ot, &size);
        if (text != NULL) {
            randomness_in(text, size, randomness);
        }
    }
    Py_XDECREF(ot);
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

/* -- in -- */

/* The number of the ring of a record; -1 where its priority is none. */
static int ring_of(SpanRecord *record)
{
    PyObject *priority = held_member((PyObject *)record, &record->priority);
    long number = PyLong_Check(priority) ? PyLong_AsLong(priority) : -1;
    Py_DECREF(priority);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return number < 0 || number >= PRIORITIES ? -1 : (int)number;
}

static inline int is_over(const Queue *self, Py_ssize_t more_records, Py_ssize_t more_length)
{
    return self->records + more_records > self->max_records || self->length + more_length > self->max_bytes;
}

/* Take some of what is too much, with so much more, out of the rings; how many, to be given up by the caller after the
 * step. */
static int evict(Queue *self, Py_ssize_t more_records, Py_ssize_t more_length, SpanRecord **evicted)
{
    int count = 0;
    const Pick none = {.records = NULL};
    while (count < EVICTED && is_over(self, more_records, more_length)) {
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
        self->lengths[priority] -= record->length;
        self->counts[self->full]++;
        evicted[count++] = record;
    }
    return count;
}

static void summarize(const Queue *self, SpanRecord *record)
{
    if (self->summary_rows != NULL) {
        summary_rows_add(self->summary_rows, record);
    }
}

/* Give up what has been evicted, after the step: all of it is in the summary before any Python code may run. */
static void give_up(const Queue *self, SpanRecord **evicted, int count)
{
    for (int place = 0; place < count; place++) {
        summarize(self, evicted[place]);
    }
    while (count > 0) {
        Py_DECREF(evicted[--count]);
    }
}

/* Whether a record would be within the bounds if all that is evicted before it were gone. */
static int has_room(const Queue *self, const SpanRecord *record, int priority)
{
    Py_ssize_t records = 1, length = record->length;
    while (++priority < PRIORITIES) {
        records += self->rings[priority].count;
        length += self->lengths[priority];
    }
    return records <= self->max_records && length <= self->max_bytes;
}

/* Whether the record was queued, counted, counted and belongs into the summary, or none of it, since that needs more done
 * first. */
typedef enum { QUEUED, COUNTED, DROPPED, NEEDS_RANDOMNESS, NEEDS_ROOM } Push;

/* One step; ``randomness``: of the record's trace, NULL where that is not known yet. What is evicted is the caller's. */
static Push try_push(Queue *self, SpanRecord *record, int priority, const unsigned long long *randomness,
                     SpanRecord **evicted, int *count)
{
    unsigned long long admission = priority < HIGH ? self->admission : 0;
    int kind = -1;
    if (self->is_closed) {
        kind = self->closed;
    }
    else if (admission && randomness == NULL) {
        return NEEDS_RANDOMNESS;
    }
    else if (admission && *randomness < admission) {
        kind = self->refused;
    }
    else if (is_over(self, 1, record->length) && !has_room(self, record, priority)) {
        kind = self->full;
    }
    else if (ring_reserve(&self->rings[priority], 1) < 0) {
        PyErr_Clear();
        kind = self->failed;
    }
    if (kind >= 0) {
        self->counts[kind]++;
        return kind == self->refused || kind == self->full ? DROPPED : COUNTED;
    }
    *count = evict(self, 1, record->length, evicted);
    if (is_over(self, 1, record->length)) {
        return NEEDS_ROOM;
    }
    /* What was evicted may have taken the ring's places with it. */
    if (ring_reserve(&self->rings[priority], 1) < 0) {
        PyErr_Clear();
        self->counts[self->failed]++;
        return COUNTED;
    }
    if (admission) {
        record->admission = admission;
    }
    record->order = self->admitted++;
    ring_push(&self->rings[priority], record);
    self->records++;
    self->length += record->length;
    self->lengths[priority] += record->length;
    return QUEUED;
}

int queue_push(PyObject *queue, SpanRecord *record)
{
    Queue *self = (Queue *)queue;
    int priority = ring_of(record);
    if (priority < 0) {
        queue_count_failed(queue);
        return 0;
    }
    unsigned long long randomness;
    int is_known = 0;
    for (;;) {
        SpanRecord *evicted[EVICTED];
        int count = 0;
        LOCK(self);
        Push done = try_push(self, record, priority, is_known ? &randomness : NULL, evicted, &count);
        int wakes = self->records >= self->wake_at || self->length >= self->wake_at_bytes;
        UNLOCK(self);
        if (done == DROPPED) {
            summarize(self, record);
        }
        give_up(self, evicted, count);
        if (done == QUEUED || done == COUNTED || done == DROPPED) {
            return wakes;
        }
        if (done == NEEDS_RANDOMNESS) {
            if (randomness_of(self, record, &randomness) < 0) {
                queue_count_failed(queue);
                return -1;
            }
            is_known = 1;
        }
    }
}

void queue_count_failed(PyObject *queue)
{
    Queue *self = (Queue *)queue;
    LOCK(self);
    self->counts[self->failed]++;
    UNLOCK(self);
}

static PyObject *queue_push_method(PyObject *object, PyObject *record)
{
    if ((PyObject *)Py_TYPE(record) != ((Queue *)object)->record_type) {
        return PyErr_Format(PyExc_TypeError, "a Queue takes SpanRecords, not %.100s", Py_TYPE(record)->tp_name);
    }
    int wakes = queue_push(object, (SpanRecord *)record);
    return wakes < 0 ? NULL : PyBool_FromLong(wakes);
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
    /* To make these may run Python code: before the look. */
    if (PyErr_Occurred() || pick_begin(&pick) < 0) {
        return NULL;
    }
    PyObject *popped = PyTuple_New(2);
    if (popped == NULL) {
        Py_DECREF(pick.records);
        return NULL;
    }
    LOCK(self);
    while (pick.spans < most && pick_oldest_within(self->rings, &pick, most_bytes)) {
    }
    PyObject *length = pick.records == NULL ? NULL : PyLong_FromSsize_t(pick.length);
    if (length != NULL) {
        for (int priority = 0; priority < PRIORITIES; priority++) {
            ring_skip(&self->rings[priority], pick.counts[priority]);
            self->lengths[priority] -= pick.lengths[priority];
        }
        self->records -= pick.spans;
        self->length -= pick.length;
        self->popped += pick.spans;
    }
    UNLOCK(self);
    if (length == NULL) { /* nothing is taken */
        Py_XDECREF(pick.records);
        Py_DECREF(popped);
        return NULL;
    }
    PyTuple_SET_ITEM(popped, 0, pick.records);
    PyTuple_SET_ITEM(popped, 1, length);
    return popped;
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
    SpanRecord *evicted[EVICTED];
    int count, is_set = 0;
    do {
        LOCK(self);
        if (!is_set) {
            self->max_records = max_records < 0 ? 0 : max_records;
            self->max_bytes = max_bytes < 0 ? 0 : max_bytes;
            is_set = 1;
        }
        count = evict(self, 0, 0, evicted);
        UNLOCK(self);
        give_up(self, evicted, count);
    } while (count == EVICTED);
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
    memset(self->lengths, 0, sizeof self->lengths);
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
    if (self->is_changing) {
        memset(self->rings, 0, sizeof self->rings); /* half changed: better never freed than looked at */
        self->records = 0;
    }
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

static PyObject *queue_records(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    LOCK(self);
    Py_ssize_t records = self->records;
    UNLOCK(self);
    return PyLong_FromSsize_t(records);
}

static PyObject *queue_length(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    LOCK(self);
    Py_ssize_t length = self->length;
    UNLOCK(self);
    return PyLong_FromSsize_t(length);
}

static PyObject *queue_max_records(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    LOCK(self);
    Py_ssize_t length = self->max_records;
    UNLOCK(self);
    return PyLong_FromSsize_t(length);
}

static PyObject *queue_max_bytes(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    LOCK(self);
    Py_ssize_t length = self->max_bytes;
    UNLOCK(self);
    return PyLong_FromSsize_t(length);
}

static PyObject *queue_admitted(PyObject *object, void *closure)
{
    (void)closure;
    return queue_mark(object, NULL);
}

static PyObject *queue_admission(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    LOCK(self);
    unsigned long long admission = self->admission;
    UNLOCK(self);
    return PyLong_FromUnsignedLongLong(admission);
}

static PyObject *queue_is_closed(PyObject *object, void *closure)
{
    (void)closure;
    Queue *self = (Queue *)object;
    LOCK(self);
    int is_closed = self->is_closed;
    UNLOCK(self);
    return PyBool_FromLong(is_closed);
}

static PyObject *queue_is_held_here(PyObject *object, void *closure)
{
    (void)object, (void)closure;
    Py_RETURN_FALSE; /* a call is one step */
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

/* -- the type -- */

static PyObject *queue_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"kinds", "full", "refused", "closed", "failed", "summary", NULL};
    int kinds = -1, of[4] = {-1, -1, -1, -1};
    PyObject *summary = Py_None;
    PyObject *module = PyType_GetModule(type);
    if (module == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|$iiiiiO:Queue", names, &kinds, &of[0], &of[1],
                                                       &of[2], &of[3], &summary)) {
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
    if ((self->record_type = PyObject_GetAttrString(module, "SpanRecord")) == NULL ||
        (self->ot = PyUnicode_InternFromString("ot")) == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    if (summary != Py_None) {
        PyObject *rows_type = PyObject_GetAttrString(module, "SummaryRows");
        self->summary_rows = rows_type == NULL ? NULL : PyObject_GetAttrString(summary, "rows");
        int are_rows = self->summary_rows != NULL && (PyObject *)Py_TYPE(self->summary_rows) == rows_type;
        Py_XDECREF(rows_type);
        if (!are_rows) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_TypeError, "the summary of a Queue has a SummaryRows");
            }
            Py_CLEAR(self->summary_rows);
            Py_DECREF(self);
            return NULL;
        }
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
    Py_XDECREF(((Queue *)object)->ot);
    Py_XDECREF(((Queue *)object)->summary_rows);
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

static PyGetSetDef queue_getset[] = {
    {"records", queue_records, NULL, NULL, NULL},
    {"max_records", queue_max_records, NULL, NULL, NULL},
    {"max_bytes", queue_max_bytes, NULL, NULL, NULL},
    {"length", queue_length, NULL, NULL, NULL},
    {"admitted", queue_admitted, NULL, NULL, NULL},
    {"admission", queue_admission, NULL, NULL, NULL},
    {"is_closed", queue_is_closed, NULL, NULL, NULL},
    {"is_held_here", queue_is_held_here, NULL, "Whether this thread is in the middle of a call.", NULL},
    {"oldest", queue_oldest, NULL, "The order of the oldest that waits, or of the next to be admitted.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "The bounded queue: see otel_shed/pipeline/queue.py, whose class this stands in for."},
    {Py_tp_new, queue_make},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_getset},
    {0, NULL},
};

PyType_Spec queue_spec = {
    .name = "otel_shed.compiled._extension.Queue",
    .basicsize = sizeof(Queue),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = queue_slots,
};
