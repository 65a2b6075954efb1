/* Requests put together from records: what otel_shed/otlp/request.py says of them. request.c has those of any groups,
 * one_group.c those of one group.
 */
#ifndef OTEL_SHED_REQUEST_H
#define OTEL_SHED_REQUEST_H

#include "record.h"
#include "wire.h"

PyObject *build_request(PyObject *module, PyObject *records);
PyObject *total_size(PyObject *module, PyObject *records);

/* -- one_group.c: nearly all requests. Nothing has to be looked up, and nothing but the list has to hold the records: no
 * Python code runs there. ------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject *resource; /* ours */
    PyObject *scope;    /* ours */
    Py_ssize_t scope_size;
    Py_ssize_t resource_size;
    Py_ssize_t size;
} OneGroup;

/* 1 if these are a list of records of one group, 0 if that is for request.c to tell; -1 with an exception. */
int one_group_begin(OneGroup *one, PyObject *module, PyObject *records);
/* The request, as soon as that has returned 1: nothing may run between. */
PyObject *one_group_build(const OneGroup *one, PyObject *records);
void one_group_end(OneGroup *one);

/* -- both -------------------------------------------------------------------------------------------------------- */

/* resource_spans, scope_spans and spans: tags of one byte each. */
#define RESOURCE_SPANS 0x0a
#define SCOPE_SPANS 0x12
#define SPAN 0x12

#define NO_BYTES "a record that carries the span object has no bytes to send"

static inline Py_ssize_t field_size(Py_ssize_t length)
{
    return 1 + varint_size((uint64_t)length) + length;
}

static inline uint8_t *put_head(uint8_t *at, uint8_t tag, Py_ssize_t size, const void *bytes, Py_ssize_t count)
{
    *at++ = tag;
    at = put_varint(at, (uint64_t)size);
    return put_bytes(at, bytes, count);
}

static inline int has_bytes(const SpanRecord *record)
{
    return record->group != NULL && record->group != Py_None &&
           (record->body == NULL || PyBytes_CheckExact(record->body));
}

typedef struct {
    PyObject *object; /* what holds it; NULL for a record's own, which the record holds */
    const void *bytes;
    Py_ssize_t size;
} Body;

/* Of a record that has bytes; the object is borrowed. */
static inline Body body_of(const SpanRecord *record)
{
    PyObject *object = record->body;
    return object == NULL ? (Body){NULL, record->own, record->own_size}
                          : (Body){object, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object)};
}

/* The bytes that a group is made of, new; -1 with an exception. It may run Python code. */
int group_read(PyObject *group, PyObject **resource, PyObject **scope);

#endif
