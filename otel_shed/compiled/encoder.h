/* The encoder's parts: what it is made of, and what it reads. encoder.c has the type, header.c what is read for every
 * record, span.c what is written.
 *
 * The rule: what is read is held until the call is done, and everything that is not as expected, every Exception too, is
 * left to the careful encoder, which is Python.
 */
#ifndef OTEL_SHED_ENCODER_H
#define OTEL_SHED_ENCODER_H

#include "layout.h"
#include "numbers.h"
#include "record.h"
#include "wire.h"

/* What an Encoder is made of, in the order of its arguments. */
typedef enum {
    READABLE_SPAN, SPAN_CONTEXT, TRACE_FLAGS, TRACE_STATE, STATUS, BOUNDED_ATTRIBUTES, BOUNDED_LIST, EVENT, LINK, /* types */
    KINDS, STATUS_CODES, /* the members of these enums, each at the place that its value says */
    PRIORITY, /* of a record */
    CAREFUL, WRAP, GROUP, NAME, KEY, ANY_VALUE, SHORTENED, ATTRIBUTES, /* functions */
    PARTS
} Part;

/* The attributes that are read, those of a type together: of a span, of its attributes, of its lists, of its status, of a
 * tracestate, of an event. */
typedef enum {
    S_CONTEXT, S_PARENT, S_STATUS, S_EVENTS, S_NAME, S_KIND, S_START, S_END, S_ATTRIBUTES, S_LINKS, S_RESOURCE, S_SCOPE,
    A_DICT, A_DROPPED,
    L_DEQUE, L_DROPPED,
    T_CODE, T_DESCRIPTION,
    W_DICT,
    E_TIMESTAMP,
    NAMES
} Name;
#define OF_SPAN A_DICT
#define OF_ATTRIBUTES (L_DEQUE - A_DICT)
#define OF_LIST (T_CODE - L_DEQUE)
#define OF_STATUS (W_DICT - T_CODE)

/* The types whose layout is known, in the order of the samples that it is learned of. */
typedef enum { SPAN_LAYOUT, ATTRIBUTES_LAYOUT, LIST_LAYOUT, STATUS_LAYOUT, TRACE_STATE_LAYOUT, LAYOUTS } LayoutOf;

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
    Layout layouts[LAYOUTS];
    Group groups[GROUPS];
    Latch latch; /* of the groups */
} Encoder;

#define IS(object, part) ((PyObject *)Py_TYPE(object) == self->parts[part])

/* Of an object whose type has been looked at: one of those that encoder_make was given. */
static inline PyObject *get(Encoder *self, PyObject *object, Name name)
{
    return Py_TYPE(object)->tp_getattro(object, self->names[name]);
}

extern PyType_Spec encoder_spec;

/* The exception of a span that is not as expected; nobody sees it, but that it is one. Returns -1. */
int unexpected(void);

/* -- header.c: what is read for every record ---------------------------------------------------------------------- */

/* What is at hand of an object whose type has been looked at, new; -1 with an exception. */
static inline int known_read(Encoder *self, LayoutOf of, PyObject *object, PyObject **read)
{
    return layout_read(&self->layouts[of], object, read);
}

static inline void known_end(Encoder *self, LayoutOf of, PyObject **read)
{
    for (int name = 0; name < self->layouts[of].count; name++) {
        Py_DECREF(read[name]);
    }
}

/* A span's attributes, by Name, and what is in those that the application has set: a dict; held until the call is done. */
typedef struct {
    PyObject *read[OF_SPAN];
    PyObject *attributes[OF_ATTRIBUTES];
} Reading;

/* The insides of the SDK's own attributes, of which the first is a dict; -1 with an exception. */
int attributes_read(Encoder *self, PyObject *attributes, PyObject **read);

/* -1 with an exception. */
static inline int reading_begin(Encoder *self, PyObject *span, Reading *reading)
{
    if (known_read(self, SPAN_LAYOUT, span, reading->read) < 0) {
        return -1;
    }
    if (attributes_read(self, reading->read[S_ATTRIBUTES], reading->attributes) < 0) {
        known_end(self, SPAN_LAYOUT, reading->read);
        return -1;
    }
    return 0;
}

static inline void reading_end(Encoder *self, Reading *reading)
{
    known_end(self, ATTRIBUTES_LAYOUT, reading->attributes);
    known_end(self, SPAN_LAYOUT, reading->read);
}

/* The number in ``dropped``, not so large that what is added to it overflows; -1 with an exception. */
int dropped_read(PyObject *dropped, Py_ssize_t *count);

/* What the wire has of the header and the record has not, or in another shape. */
typedef struct {
    uint64_t start;
    uint64_t end;
    int has_parent;
    PyObject *trace_state; /* borrowed of the context */
} Head;

/* The record's ids, flags, kind, duration and priority; -1 with an exception. */
int head_read(Encoder *self, const Reading *reading, SpanRecord *record, Head *head);
/* The name as it is on the wire, new, and its text; -1 with an exception. */
int name_read(Encoder *self, PyObject *name, PyObject **on_wire, Text *text);
/* The dict inside a tracestate, new; None where it is empty, or there is none. -1 with an exception. */
int trace_state_read(Encoder *self, PyObject *trace_state, PyObject **dict);
/* The value of a status' code, its description, new; or -1 with an exception. */
int status_read(Encoder *self, PyObject *status, PyObject **description);
/* Call ``visit`` with each event or link of the SDK's own list, until it returns -1 with an exception; how many are
 * missing there into ``dropped``. */
typedef int (*Visit)(Encoder *self, PyObject *item, void *with);
int list_read(Encoder *self, PyObject *list, Visit visit, void *with, Py_ssize_t *dropped);

/* -- records, of a span that is exactly of the SDK's type; NULL, with an exception, where that is for Python ---------- */

/* One with the span's bytes; ``limit``: characters of an attribute's value, -1 for none. */
SpanRecord *encode_quickly(Encoder *self, PyObject *span, const Reading *reading, Py_ssize_t limit);
/* One with the span itself; there must be no limit. */
SpanRecord *wrap_quickly(Encoder *self, PyObject *span, const Reading *reading, Py_ssize_t limit);
typedef SpanRecord *(*Quickly)(Encoder *, PyObject *, const Reading *, Py_ssize_t);

#endif
