/* SpanRecord, packed: what otel_shed/record.py says of it, in half of the memory, and nothing for the collector
 * of garbage to walk over.
 */
#ifndef OTEL_SHED_RECORD_H
#define OTEL_SHED_RECORD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "numbers.h"

/* opentelemetry.proto.trace.v1.SpanFlags: the low eight bits are the W3C trace flags. */
#define HAS_IS_REMOTE 0x100
#define IS_REMOTE 0x200

typedef struct {
    PyObject_HEAD
    /* None of these is ever NULL. They may be assigned from Python, where whoever reads one must hold it. */
    PyObject *name;
    PyObject *priority;
    PyObject *group;
    PyObject *body;
    PyObject *span;
    PyObject *trace_state; /* None, or a mapping that others have too: never changed */
    Number trace_id; /* not the span's object: that is gone as soon as the span is */
    unsigned long long span_id;
    unsigned long long parent_span_id;
    unsigned long long duration_ns;
    long long order;
    Py_ssize_t length;
    unsigned int flags;
    unsigned char status;
    unsigned char kind;
    char failed;
} SpanRecord;

extern PyType_Spec record_spec;

/* A record whose numbers are 0 and whose objects are missing: the caller puts all of them in before anybody sees it. */
static inline SpanRecord *record_new(PyTypeObject *type)
{
    return (SpanRecord *)type->tp_alloc(type, 0);
}

#endif
