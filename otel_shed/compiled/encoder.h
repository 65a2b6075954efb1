/* The encoder's parts: what it is made of, and what it reads. encoder.c has the type, span.c what is written.
 *
 * The rule: what is read is held until the call is done, and everything that is not as expected, every Exception too, is
 * left to the careful encoder, which is Python.
 */
#ifndef OTEL_SHED_ENCODER_H
#define OTEL_SHED_ENCODER_H

#include "record.h"
#include "wire.h"

/* What an Encoder is made of, in the order of its arguments. */
typedef enum {
    READABLE_SPAN, SPAN_CONTEXT, TRACE_STATE, STATUS, BOUNDED_ATTRIBUTES, BOUNDED_LIST, EVENT, LINK, /* types */
    KINDS, STATUS_CODES, /* the members of these enums, each at the place that its value says */
    PRIORITY, /* of a record */
    CAREFUL, GROUP, NAME, KEY, ANY_VALUE, SHORTENED, ATTRIBUTES, /* functions */
    PARTS
} Part;

/* The attributes that are read; those of a span first. */
typedef enum {
    S_CONTEXT, S_PARENT, S_STATUS, S_ATTRIBUTES, S_EVENTS, S_LINKS, S_NAME, S_KIND, S_START, S_END, S_RESOURCE, S_SCOPE,
    N_DICT, N_DROPPED, N_DEQUE, N_CODE, N_DESCRIPTION, N_TIMESTAMP,
    NAMES
} Name;
#define OF_SPAN N_DICT

#define KIND_COUNT 5
#define STATUS_COUNT 3
#define STATUS_ERROR 2
#define GROUPS 64
/* trace id, span id, whether it is remote, flags, state, whether it is valid */
#define CONTEXT_SIZE 6

typedef struct {
    PyObject *resource;
    PyObject *scope;
    PyObject *group;
} Group;

typedef struct {
    PyObject_HEAD
    PyTypeObject *record_type;
    PyObject *parts[PARTS];
    PyObject *names[NAMES];
    Group groups[GROUPS];
} Encoder;

#define IS(object, part) ((PyObject *)Py_TYPE(object) == self->parts[part])

/* Of an object whose type has been looked at: one of those that encoder_make was given. */
static inline PyObject *get(Encoder *self, PyObject *object, Name name)
{
    return Py_TYPE(object)->tp_getattro(object, self->names[name]);
}

extern PyType_Spec encoder_spec;

/* The span's bytes, in the order of span.py, into the buffer and its header into the record; -1 with an exception.
 * ``read``: the span's attributes, by Name. ``limit``: characters of an attribute's value; -1 for none. */
int span_put(Encoder *self, Buffer *buffer, PyObject *const *read, Py_ssize_t limit, SpanRecord *record);

#endif
