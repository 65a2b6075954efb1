/* The type SummaryRows: spans added up by name and kind.
 *
 * A row is found by a table of indices with open addressing. It takes no part in garbage collection: what it holds are
 * names, exactly str. The rule: no Python code runs while a span is added, nor the collector of garbage, and without the
 * interpreter lock that is in a critical section of it; so each row is consistent in itself whenever somebody looks.
 */
#include "summary_rows.h"

#include <stdint.h>

#include "locking.h"
#include "numbers.h"
#include "record.h"

/* As summary_rows.py has them. */
#define MAX_NAME 256
#define LOWEST 19
#define SHORTEST (1 << 10)
#define LONGEST ((uint64_t)1 << 55)
#define BUCKETS 91
#define ROOT_OF_TWO 0xB504F333F9DE6484u /* the square root of 2 times 2^63 */

#define STATUS_ERROR 2
#define MOST_ROWS (1 << 20)
#define NO_ROW 0

typedef struct {
    PyObject *name; /* exactly a str, ours; NULL for the row of the rest */
    Py_hash_t hash;
    int kind;
    unsigned long long count;
    unsigned long long errors;
    Number total_ns;
    uint64_t max_ns;
    unsigned long long buckets[BUCKETS];
} Row;

typedef struct {
    PyObject_HEAD
    PyObject *record_type;
    Row *rows;
    Py_ssize_t room;
    Py_ssize_t count;
    Py_ssize_t max_rows;
    uint32_t *table; /* the number of a row, 1 for the first; NO_ROW */
    size_t mask;
    Row other;
} SummaryRows;

/* -- adding -- */

static int bucket_of(uint64_t duration_ns)
{
    if (duration_ns <= SHORTEST) {
        return 0;
    }
    /* Of what is less than this by one the highest bit is that of the power of two which this is above. */
    uint64_t below = (duration_ns < LONGEST ? duration_ns : LONGEST) - 1;
    int power = 0;
    for (int step = 32; step; step /= 2) {
        power += below >> (power + step) ? step : 0;
    }
    return 2 * power + (below >= ROOT_OF_TWO >> (63 - power)) - LOWEST;
}

static void count_span(Row *row, int failed, uint64_t duration_ns)
{
    row->count++;
    row->errors += failed != 0;
    row->total_ns.low += duration_ns;
    row->total_ns.high += row->total_ns.low < duration_ns;
    if (row->max_ns < duration_ns) {
        row->max_ns = duration_ns;
    }
    row->buckets[bucket_of(duration_ns)]++;
}

/* Where the row stands in the table, or is to. */
static uint32_t *place_of(const SummaryRows *self, PyObject *name, Py_hash_t hash, int kind)
{
    for (size_t place = (size_t)hash + (size_t)kind;; place++) {
        uint32_t *number = &self->table[place & self->mask];
        if (*number == NO_ROW) {
            return number;
        }
        const Row *row = &self->rows[*number - 1];
        if (row->hash == hash && row->kind == kind && (row->name == name || PyUnicode_Compare(row->name, name) == 0)) {
            return number;
        }
    }
}

/* Have a place for one more row; -1 with an exception. */
static int reserve(SummaryRows *self)
{
    if (self->count < self->room) {
        return 0;
    }
    Py_ssize_t room = self->room ? 2 * self->room : 8;
    Row *rows = PyMem_Realloc(self->rows, (size_t)room * sizeof *rows);
    if (rows == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->rows = rows;
    self->room = room;
    return 0;
}

/* The row for a name, which is exactly a str; NULL with an exception. */
static Row *row_of(SummaryRows *self, PyObject *name, int kind)
{
    Py_hash_t hash = PyObject_Hash(name);
    uint32_t *number = place_of(self, name, hash, kind);
    if (*number == NO_ROW) {
        if (self->count >= self->max_rows) {
            return &self->other;
        }
        if (reserve(self) < 0) {
            return NULL;
        }
        Row *row = &self->rows[self->count++];
        *row = (Row){.name = Py_NewRef(name), .hash = hash, .kind = kind};
        *number = (uint32_t)self->count;
    }
    return &self->rows[*number - 1];
}

static int add(SummaryRows *self, PyObject *name, int kind, int failed, uint64_t duration_ns)
{
    if (!PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "a span's name is a str");
        return -1;
    }
    /* A class of str may bring a hash of its own; what is made here has none. */
    PyObject *own = PyUnicode_GetLength(name) > MAX_NAME ? PyUnicode_Substring(name, 0, MAX_NAME)
                                                          : PyUnicode_FromObject(name);
    Row *row = NULL;
    if (own != NULL) {
        Py_BEGIN_CRITICAL_SECTION(self);
        if ((row = row_of(self, own, kind)) != NULL) {
            count_span(row, failed, duration_ns);
        }
        Py_END_CRITICAL_SECTION();
        Py_DECREF(own);
    }
    return row == NULL ? -1 : 0;
}

void summary_rows_add(PyObject *rows, SpanRecord *record)
{
    PyObject *name = held_member((PyObject *)record, &record->name);
    if (add((SummaryRows *)rows, name, record->kind, record->status == STATUS_ERROR, record->duration_ns) < 0) {
        PyErr_Clear();
    }
    Py_DECREF(name);
}

static PyObject *rows_add(PyObject *object, PyObject *args)
{
    PyObject *name, *duration;
    int kind, failed;
    if (!PyArg_ParseTuple(args, "OipO!:add", &name, &kind, &failed, &PyLong_Type, &duration)) {
        return NULL;
    }
    int overflow;
    uint64_t duration_ns = 0; /* a clock that went back made it negative */
    if (PyLong_AsLongLongAndOverflow(duration, &overflow) > 0 || overflow > 0) {
        duration_ns = PyLong_AsUnsignedLongLong(duration);
    }
    if (PyErr_Occurred() || add((SummaryRows *)object, name, kind, failed, duration_ns) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *rows_add_all(PyObject *object, PyObject *sequence)
{
    SummaryRows *self = (SummaryRows *)object;
    PyObject *records = sequence_held(sequence);
    int failed = records == NULL;
    for (Py_ssize_t index = 0; !failed && index < PySequence_Fast_GET_SIZE(records); index++) {
        SpanRecord *record = (SpanRecord *)PySequence_Fast_GET_ITEM(records, index);
        if ((PyObject *)Py_TYPE(record) != self->record_type) {
            PyErr_SetString(PyExc_TypeError, "what is added up are SpanRecords");
            failed = 1;
            break;
        }
        PyObject *name = held_member((PyObject *)record, &record->name);
        failed = add(self, name, record->kind, record->status == STATUS_ERROR, record->duration_ns) < 0;
        Py_DECREF(name);
    }
    Py_XDECREF(records);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *rows_clear(PyObject *object, PyObject *unused)
{
    (void)unused;
    SummaryRows *self = (SummaryRows *)object;
    Py_BEGIN_CRITICAL_SECTION(object);
    for (Py_ssize_t index = 0; index < self->count; index++) {
        Py_DECREF(self->rows[index].name); /* exactly a str: no Python code runs */
    }
    self->count = 0;
    self->other = (Row){.name = NULL};
    memset(self->table, 0, (self->mask + 1) * sizeof *self->table);
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

/* -- reading -- */

/* The buckets that have any, by index. */
static PyObject *buckets_of(const Row *row)
{
    PyObject *buckets = PyDict_New();
    for (int bucket = 0; buckets != NULL && bucket < BUCKETS; bucket++) {
        if (row->buckets[bucket] != 0) {
            PyObject *index = PyLong_FromLong(bucket + LOWEST);
            PyObject *count = PyLong_FromUnsignedLongLong(row->buckets[bucket]);
            if (index == NULL || count == NULL || PyDict_SetItem(buckets, index, count) < 0) {
                Py_CLEAR(buckets);
            }
            Py_XDECREF(index);
            Py_XDECREF(count);
        }
    }
    return buckets;
}

/* A tuple as summary_rows.Total; of a copy, as spans may be added meanwhile. */
static PyObject *total_of(Row row)
{
    PyObject *name = row.name ? Py_NewRef(row.name) : PyUnicode_FromString("");
    PyObject *total_ns = int_of(row.total_ns), *buckets = buckets_of(&row), *whole = NULL;
    if (name && total_ns && buckets) {
        whole = Py_BuildValue("(OiKKOKO)", name, row.kind, row.count, row.errors, total_ns,
                              (unsigned long long)row.max_ns, buckets);
    }
    Py_XDECREF(name);
    Py_XDECREF(total_ns);
    Py_XDECREF(buckets);
    return whole;
}

/* A copy of a row, whose name is the caller's; 0 where there is none. */
static int row_at(SummaryRows *self, Py_ssize_t index, Row *row)
{
    int is_there;
    Py_BEGIN_CRITICAL_SECTION(self);
    if ((is_there = index < self->count)) {
        *row = self->rows[index];
        Py_INCREF(row->name);
    }
    Py_END_CRITICAL_SECTION();
    return is_there;
}

static PyObject *rows_totals(PyObject *object, PyObject *unused)
{
    (void)unused;
    SummaryRows *self = (SummaryRows *)object;
    PyObject *totals = PyList_New(0);
    Row row;
    for (Py_ssize_t index = 0; totals != NULL && row_at(self, index, &row); index++) {
        PyObject *total = total_of(row);
        Py_DECREF(row.name);
        if (total == NULL || PyList_Append(totals, total) < 0) {
            Py_CLEAR(totals);
        }
        Py_XDECREF(total);
    }
    return totals;
}

static PyObject *rows_other(PyObject *object, PyObject *unused)
{
    (void)unused;
    Row other;
    Py_BEGIN_CRITICAL_SECTION(object);
    other = ((SummaryRows *)object)->other;
    Py_END_CRITICAL_SECTION();
    return total_of(other);
}

static PyObject *rows_count(PyObject *object, void *closure)
{
    (void)closure;
    SummaryRows *self = (SummaryRows *)object;
    unsigned long long count;
    Py_BEGIN_CRITICAL_SECTION(object);
    count = self->other.count;
    for (Py_ssize_t index = 0; index < self->count; index++) {
        count += self->rows[index].count;
    }
    Py_END_CRITICAL_SECTION();
    return PyLong_FromUnsignedLongLong(count);
}

/* -- the type -- */

static PyObject *rows_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_rows", NULL};
    PyObject *module = PyType_GetModule(type);
    Py_ssize_t max_rows;
    if (module == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "n:SummaryRows", names, &max_rows)) {
        return NULL;
    }
    if (max_rows < 0 || max_rows > MOST_ROWS) {
        PyErr_SetString(PyExc_ValueError, "a SummaryRows has 0 to 2^20 rows");
        return NULL;
    }
    size_t places = 8;
    while (places < 2 * (size_t)max_rows) {
        places *= 2;
    }
    SummaryRows *self = (SummaryRows *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->max_rows = max_rows;
    self->mask = places - 1;
    self->table = PyMem_Calloc(places, sizeof *self->table);
    self->record_type = PyObject_GetAttrString(module, "SpanRecord");
    if (self->table == NULL || self->record_type == NULL) {
        if (self->table == NULL) {
            PyErr_NoMemory();
        }
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void rows_dealloc(PyObject *object)
{
    SummaryRows *self = (SummaryRows *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t index = 0; index < self->count; index++) {
        Py_DECREF(self->rows[index].name);
    }
    PyMem_Free(self->rows);
    PyMem_Free(self->table);
    Py_XDECREF(self->record_type);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef rows_methods[] = {
    {"add", rows_add, METH_VARARGS, "add(name, kind, failed, duration_ns, /): count one span."},
    {"add_all", rows_add_all, METH_O, "add_all(records, /): count the spans of these records."},
    {"clear", rows_clear, METH_NOARGS, "clear(): forget all."},
    {"totals", rows_totals, METH_NOARGS, "totals(): of each row."},
    {"other", rows_other, METH_NOARGS, "other(): the total of the rest."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef rows_getset[] = {
    {"count", rows_count, NULL, "How many spans were added.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, "Spans added up: see otel_shed/pipeline/summary_rows.py, whose class this stands in for."},
    {Py_tp_new, rows_make},
    {Py_tp_dealloc, rows_dealloc},
    {Py_tp_methods, rows_methods},
    {Py_tp_getset, rows_getset},
    {0, NULL},
};

PyType_Spec summary_rows_spec = {
    .name = "otel_shed.compiled._extension.SummaryRows",
    .basicsize = sizeof(SummaryRows),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = rows_slots,
};
