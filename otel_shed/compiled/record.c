/* The type SpanRecord. It takes no part in garbage collection: what it refers to never refers back to it. */
#include "record.h"

#include <stddef.h>

#if PY_VERSION_HEX >= 0x030C0000
#define OBJECT Py_T_OBJECT_EX
#define UINT64 Py_T_ULONGLONG
#define INT64 Py_T_LONGLONG
#define SIZE Py_T_PYSSIZET
#define UINT32 Py_T_UINT
#define UINT8 Py_T_UBYTE
#define BOOL Py_T_BOOL
#else
#include <structmember.h>
#define OBJECT T_OBJECT_EX
#define UINT64 T_ULONGLONG
#define INT64 T_LONGLONG
#define SIZE T_PYSSIZET
#define UINT32 T_UINT
#define UINT8 T_UBYTE
#define BOOL T_BOOL
#endif

/* Converters of arguments: 1, or 0 with an exception. */

static int into_number(PyObject *argument, void *into)
{
    PyObject *index = PyNumber_Index(argument);
    if (index == NULL) {
        return 0;
    }
    int fits = number_of(index, into);
    Py_DECREF(index);
    if (!fits) {
        PyErr_SetString(PyExc_OverflowError, "a number of a SpanRecord is out of range");
    }
    return fits;
}

static int into_uint64(PyObject *argument, void *into)
{
    Number number;
    if (!into_number(argument, &number)) {
        return 0;
    }
    if (number.high) {
        PyErr_SetString(PyExc_OverflowError, "a number of a SpanRecord is out of range");
        return 0;
    }
    *(unsigned long long *)into = number.low;
    return 1;
}

static PyObject *record_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"trace_id", "span_id", "parent_span_id", "flags",  "name", "status",
                            "duration_ns", "priority", "length", "group", "body", "span", "kind", "failed",
                            "trace_state", NULL};
    PyObject *name, *priority, *group, *body, *span, *trace_state = Py_None;
    Number trace_id;
    unsigned long long span_id, parent_span_id, flags, status, duration_ns, kind = 0;
    Py_ssize_t length;
    int failed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&O&O&OO&O&OnOOO|O&pO:SpanRecord", names, into_number, &trace_id,
                                     into_uint64, &span_id, into_uint64, &parent_span_id, into_uint64, &flags, &name,
                                     into_uint64, &status, into_uint64, &duration_ns, &priority, &length, &group,
                                     &body, &span, into_uint64, &kind, &failed, &trace_state)) {
        return NULL;
    }
    if (flags > UINT32_MAX || status > UINT8_MAX || kind > UINT8_MAX) {
        PyErr_SetString(PyExc_OverflowError, "flags, status or kind of a SpanRecord is out of range");
        return NULL;
    }
    SpanRecord *record = record_new(type);
    if (record == NULL) {
        return NULL;
    }
    record->trace_id = trace_id;
    record->name = Py_NewRef(name);
    record->priority = Py_NewRef(priority);
    record->group = Py_NewRef(group);
    record->body = Py_NewRef(body);
    record->span = Py_NewRef(span);
    record->trace_state = Py_NewRef(trace_state);
    record->span_id = span_id;
    record->parent_span_id = parent_span_id;
    record->duration_ns = duration_ns;
    record->length = length;
    record->flags = (unsigned int)flags;
    record->status = (unsigned char)status;
    record->kind = (unsigned char)kind;
    record->failed = (char)failed;
    return (PyObject *)record;
}

static void record_dealloc(PyObject *self)
{
    SpanRecord *record = (SpanRecord *)self;
    PyTypeObject *type = Py_TYPE(self);
    record_let_go(record);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *record_is_local_root(PyObject *self, void *closure)
{
    (void)closure;
    SpanRecord *record = (SpanRecord *)self;
    return PyBool_FromLong(record->parent_span_id == 0 || record->flags & IS_REMOTE);
}

static PyObject *record_trace_id(PyObject *self, void *closure)
{
    (void)closure;
    return int_of(((SpanRecord *)self)->trace_id);
}

static int record_set_trace_id(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    Number trace_id;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the trace_id of a SpanRecord cannot be deleted");
        return -1;
    }
    if (!into_number(value, &trace_id)) {
        return -1;
    }
    ((SpanRecord *)self)->trace_id = trace_id;
    return 0;
}

static PyObject *record_body(PyObject *self, void *closure)
{
    (void)closure;
    SpanRecord *record = (SpanRecord *)self;
    PyObject *body = held_member(self, &record->body);
    return body != NULL ? body : PyBytes_FromStringAndSize((const char *)record->own, record->own_size);
}

static int record_set_body(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the body of a SpanRecord cannot be deleted");
        return -1;
    }
    SpanRecord *record = (SpanRecord *)self;
    PyObject *before;
    Py_BEGIN_CRITICAL_SECTION(self);
    before = record->body;
    record->body = Py_NewRef(value);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(before);
    return 0;
}

static PyObject *record_limit(PyObject *self, void *closure)
{
    (void)closure;
    unsigned int cut = ((SpanRecord *)self)->cut;
    if (cut == 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(cut - 1);
}

static int record_set_limit(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    unsigned long long limit;
    if (value == Py_None) {
        ((SpanRecord *)self)->cut = 0;
        return 0;
    }
    if (value == NULL || !into_uint64(value, &limit) || limit >= UINT32_MAX) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_OverflowError, "the limit of a SpanRecord is None or an integer of 32 bits");
        }
        return -1;
    }
    ((SpanRecord *)self)->cut = (unsigned int)limit + 1;
    return 0;
}

static PyObject *record_sizeof(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(Py_TYPE(self)->tp_basicsize + ((SpanRecord *)self)->own_size);
}

static PyMemberDef record_members[] = {
    {"span_id", UINT64, offsetof(SpanRecord, span_id), 0, NULL},
    {"parent_span_id", UINT64, offsetof(SpanRecord, parent_span_id), 0, NULL},
    {"flags", UINT32, offsetof(SpanRecord, flags), 0, NULL},
    {"name", OBJECT, offsetof(SpanRecord, name), 0, NULL},
    {"status", UINT8, offsetof(SpanRecord, status), 0, NULL},
    {"duration_ns", UINT64, offsetof(SpanRecord, duration_ns), 0, NULL},
    {"priority", OBJECT, offsetof(SpanRecord, priority), 0, NULL},
    {"length", SIZE, offsetof(SpanRecord, length), 0, NULL},
    {"group", OBJECT, offsetof(SpanRecord, group), 0, NULL},
    {"span", OBJECT, offsetof(SpanRecord, span), 0, NULL},
    {"order", INT64, offsetof(SpanRecord, order), 0, NULL},
    {"admission", UINT64, offsetof(SpanRecord, admission), 0, NULL},
    {"kind", UINT8, offsetof(SpanRecord, kind), 0, NULL},
    {"failed", BOOL, offsetof(SpanRecord, failed), 0, NULL},
    {"trace_state", OBJECT, offsetof(SpanRecord, trace_state), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_getset[] = {
    {"trace_id", record_trace_id, record_set_trace_id, NULL, NULL},
    {"body", record_body, record_set_body, NULL, NULL},
    {"limit", record_limit, record_set_limit, NULL, NULL},
    {"is_local_root", record_is_local_root, NULL, "Whether the local trace is complete with this span.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef record_methods[] = {
    {"__sizeof__", record_sizeof, METH_NOARGS, "__sizeof__(): bytes, its own body's included."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot record_slots[] = {
    {Py_tp_doc, "One ended span: see otel_shed/record.py, whose class this stands in for."},
    {Py_tp_new, record_make},
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_members, record_members},
    {Py_tp_getset, record_getset},
    {Py_tp_methods, record_methods},
    {0, NULL},
};

PyType_Spec record_spec = {
    .name = "otel_shed.record.SpanRecord",
    .basicsize = sizeof(SpanRecord),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = record_slots,
};
