/* SpanRecord, packed: what otel_shed/record.py says of it, in half of the memory, and nothing for the collector
 * of garbage to walk over.
 */
#ifndef OTEL_SHED_RECORD_H
#define OTEL_SHED_RECORD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "locking.h"
#include "numbers.h"

/* opentelemetry.proto.trace.v1.SpanFlags: the low eight bits are the W3C trace flags. */
#define HAS_IS_REMOTE 0x100
#define IS_REMOTE 0x200

typedef struct {
    PyObject_HEAD
    /* None of these is ever NULL, but for ``body``. They may be assigned from Python, by any thread, so whoever reads one
     * of a record that others have too must hold it: held_member. The numbers are assigned by the thread that has the
     * record, and only by that one. */
    PyObject *name;
    PyObject *priority;
    PyObject *group;
    PyObject *span;
    PyObject *trace_state; /* None, or a mapping that others have too: never changed */
    PyObject *body; /* NULL where it is ``own``, which never changes */
    Py_ssize_t own_size;
    Number trace_id; /* not the span's object: that is gone as soon as the span is */
    unsigned long long span_id;
    unsigned long long parent_span_id;
    unsigned long long duration_ns;
    long long order;
    unsigned long long admission;
    Py_ssize_t length;
    unsigned int flags;
    unsigned int cut; /* one more than ``limit``; 0 for None */
    unsigned char status;
    unsigned char kind;
    char failed;
    /* The span's bytes, as they were encoded. One thread writes them, another reads and frees them on another processor,
     * and each object and each cache line costs both: with an object of their own a delivered span took 15 to 25 % more
     * CPU time. */
    uint8_t own[];
} SpanRecord;

extern PyType_Spec record_spec;

/* Give a record, which nobody has seen yet, to no thread in particular; returns it. Without the interpreter lock an object
 * is its maker's, and when another thread gives it up last, it stays until its maker runs Python code again: an idle
 * thread would keep the memory of all the spans that it has ended. */
static inline SpanRecord *record_of_all(SpanRecord *record)
{
#if defined(Py_GIL_DISABLED) && defined(_Py_REF_MERGED)
    PyObject *object = (PyObject *)record;
    object->ob_tid = 0;
    object->ob_ref_local = 0;
    object->ob_ref_shared = _Py_REF_SHARED(1, _Py_REF_MERGED);
#endif
    return record;
}

/* A record whose numbers are 0 and whose objects are missing: the caller puts all of them in before anybody sees it. */
static inline SpanRecord *record_new(PyTypeObject *type)
{
    SpanRecord *record = (SpanRecord *)type->tp_alloc(type, 0);
    return record == NULL ? NULL : record_of_all(record);
}

/* Let go of what it refers to; any may be missing. */
static inline void record_let_go(SpanRecord *record)
{
    Py_XDECREF(record->name);
    Py_XDECREF(record->priority);
    Py_XDECREF(record->group);
    Py_XDECREF(record->span);
    Py_XDECREF(record->trace_state);
    Py_XDECREF(record->body);
}

/* What ``draft`` is, which is no object, with a body of these bytes: has what that refers to. NULL with an exception. */
static inline SpanRecord *record_with(PyTypeObject *type, const SpanRecord *draft, const void *body, Py_ssize_t size)
{
    SpanRecord *record = PyObject_Malloc(sizeof(SpanRecord) + (size_t)size);
    if (record == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *record = *draft;
    record->own_size = size;
    memcpy(record->own, body, (size_t)size);
    return record_of_all((SpanRecord *)PyObject_Init((PyObject *)record, type));
}

#endif
