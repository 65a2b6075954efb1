/* A span on the wire, read as otel_shed/otlp/slots.py reads it and written as otel_shed/otlp/span.py writes it.
 *
 * Owns nothing but the encoder's groups. Any thread may come here, in the middle of others and of itself: values and
 * names of foreign types run Python code.
 */
#include "encoder.h"
#include "values.h"

static inline int count_put(Buffer *buffer, uint8_t tag, Py_ssize_t count)
{
    if (count == 0) {
        return 0;
    }
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    *buffer->at++ = tag;
    buffer->at = put_varint(buffer->at, count < 0 ? 0 : count > UINT32_MAX ? UINT32_MAX : (uint64_t)count);
    return 0;
}

static inline uint8_t *put_trace_id(uint8_t *at, Number trace_id)
{
    *at++ = 0x0A;
    *at++ = 16;
    return put_big_endian64(put_big_endian64(at, trace_id.high), trace_id.low);
}

static inline uint8_t *put_span_id(uint8_t *at, uint8_t tag, uint64_t span_id)
{
    *at++ = tag;
    *at++ = 8;
    return put_big_endian64(at, span_id);
}

/* Attributes, as they were read; how many are dropped after them. */
static int attributes_field_put(Encoder *self, Buffer *buffer, PyObject *const *read, uint8_t tag, uint8_t dropped_tag,
                                Py_ssize_t limit)
{
    const Python python = {self->parts[KEY], self->parts[ANY_VALUE], self->parts[SHORTENED]};
    Py_ssize_t dropped, more = attributes_put(&python, buffer, tag, read[0], limit);
    if (more < 0 || dropped_read(read[1], &dropped) < 0) {
        return -1;
    }
    /* Of what cannot be encoded the careful encoder tells. */
    return more ? unexpected() : count_put(buffer, dropped_tag, dropped);
}

/* The attributes of an event or a link, which are to be the SDK's own. */
static int bounded_put(Encoder *self, Buffer *buffer, PyObject *attributes, uint8_t tag, uint8_t dropped_tag,
                       Py_ssize_t limit)
{
    PyObject *read[OF_ATTRIBUTES];
    if (attributes_read(self, attributes, read) < 0) {
        return -1;
    }
    int failed = attributes_field_put(self, buffer, read, tag, dropped_tag, limit);
    known_end(self, ATTRIBUTES_LAYOUT, read);
    return failed;
}

/* A name's field; *on_wire is the name as it is there, new. */
static int name_put(Encoder *self, Buffer *buffer, uint8_t tag, PyObject *name, PyObject **on_wire)
{
    Text text;
    if (name_read(self, name, on_wire, &text) < 0 || room_for(buffer, 1 + MAX_VARINT + text.size) < 0) {
        return -1;
    }
    buffer->at = put_text_field(buffer->at, tag, &text);
    return 0;
}

/* The field of a tracestate that is not empty; in its critical section. */
static int trace_state_put_held(Buffer *buffer, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t position = 0, count = 0;
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    Field field = field_begin(buffer, 0x1A, 0);
    while (PyDict_Next(dict, &position, &key, &value)) {
        Text first, second;
        if (!PyUnicode_CheckExact(key) || !PyUnicode_CheckExact(value)) {
            return unexpected();
        }
        if (text_of(key, -1, &first) < 0 || text_of(value, -1, &second) < 0 ||
            room_for(buffer, 2 + first.size + second.size) < 0) {
            return -1;
        }
        if (count++) {
            *buffer->at++ = ',';
        }
        buffer->at = put_text(buffer->at, &first);
        *buffer->at++ = '=';
        buffer->at = put_text(buffer->at, &second);
    }
    return field_end(buffer, field);
}

static int trace_state_put(Buffer *buffer, PyObject *dict)
{
    int failed;
    Py_BEGIN_CRITICAL_SECTION(dict);
    failed = trace_state_put_held(buffer, dict);
    Py_END_CRITICAL_SECTION();
    return failed;
}

/* What an event or a link is written with. */
typedef struct {
    Buffer *buffer;
    Py_ssize_t limit;
    SpanRecord *record;
} Writing;

/* One event; the record of its span has failed if it is an exception. */
static int event_put(Encoder *self, PyObject *event, void *with)
{
    const Writing *writing = with;
    Buffer *buffer = writing->buffer;
    if (!IS(event, EVENT)) {
        return unexpected();
    }
    PyObject *timestamp = get(self, event, E_TIMESTAMP), *name = NULL, *on_wire = NULL, *attributes = NULL;
    int failed = -1;
    uint64_t time;
    if (timestamp == NULL || (name = get(self, event, S_NAME)) == NULL ||
        (attributes = get(self, event, S_ATTRIBUTES)) == NULL || room_for(buffer, 10 + MAX_VARINT) < 0) {
        goto done;
    }
    if (!uint64_of(timestamp, &time)) {
        unexpected();
        goto done;
    }
    Field field = field_begin(buffer, 0x5A, 0);
    *buffer->at++ = 0x09;
    buffer->at = put_fixed64(buffer->at, time);
    if (name_put(self, buffer, 0x12, name, &on_wire) == 0 &&
        bounded_put(self, buffer, attributes, 0x1A, 0x20, writing->limit) == 0) {
        writing->record->failed |= PyUnicode_CompareWithASCIIString(on_wire, "exception") == 0;
        failed = field_end(buffer, field);
    }
done:
    Py_XDECREF(timestamp);
    Py_XDECREF(name);
    Py_XDECREF(on_wire);
    Py_XDECREF(attributes);
    return failed;
}

static int link_put(Encoder *self, PyObject *link, void *with)
{
    const Writing *writing = with;
    Buffer *buffer = writing->buffer;
    if (!IS(link, LINK)) {
        return unexpected();
    }
    PyObject *context = get(self, link, S_CONTEXT), *attributes = NULL;
    int failed = -1;
    if (context == NULL || (attributes = get(self, link, S_ATTRIBUTES)) == NULL ||
        room_for(buffer, 29 + MAX_VARINT) < 0) {
        goto done;
    }
    Number trace_id;
    uint64_t span_id;
    PyObject *is_remote = Py_None;
    if (IS(context, SPAN_CONTEXT) && PyTuple_GET_SIZE(context) == CONTEXT_SIZE) {
        is_remote = PyTuple_GET_ITEM(context, 2);
    }
    if (!PyBool_Check(is_remote) || !number_of(PyTuple_GET_ITEM(context, 0), &trace_id) ||
        !uint64_of(PyTuple_GET_ITEM(context, 1), &span_id)) {
        unexpected();
        goto done;
    }
    Field field = field_begin(buffer, 0x6A, 0);
    buffer->at = put_span_id(put_trace_id(buffer->at, trace_id), 0x12, span_id);
    if (bounded_put(self, buffer, attributes, 0x22, 0x28, writing->limit) == 0 && room_for(buffer, 5) == 0) {
        *buffer->at++ = 0x35;
        buffer->at = put_fixed32(buffer->at, is_remote == Py_True ? HAS_IS_REMOTE | IS_REMOTE : HAS_IS_REMOTE);
        failed = field_end(buffer, field);
    }
done:
    Py_XDECREF(context);
    Py_XDECREF(attributes);
    return failed;
}

/* The events or the links of a span, which are to be in the SDK's own list; how many are dropped after them. */
static int list_put(Encoder *self, PyObject *list, uint8_t dropped_tag, Visit put, Writing *writing)
{
    Py_ssize_t dropped;
    if (list_read(self, list, put, writing, &dropped) < 0) {
        return -1;
    }
    return count_put(writing->buffer, dropped_tag, dropped);
}

/* The status; returns its code, or -1. */
static int status_put(Encoder *self, Buffer *buffer, PyObject *status)
{
    PyObject *description;
    int code = status_read(self, status, &description);
    if (code < 0) {
        return -1;
    }
    Text text = {.size = 0};
    if (description != Py_None &&
        (PyUnicode_CheckExact(description) ? text_of(description, -1, &text) : unexpected()) < 0) {
        code = -1;
    }
    Py_ssize_t size = text_field_size(&text) + (code > 0 ? 2 : 0);
    if (code >= 0 && room_for(buffer, 1 + MAX_VARINT + size) < 0) {
        code = -1;
    }
    if (code >= 0) {
        uint8_t *at = buffer->at;
        *at++ = 0x7A;
        at = put_text_field(put_varint(at, (uint64_t)size), 0x12, &text);
        if (code > 0) {
            *at++ = 0x18;
            *at++ = (uint8_t)code;
        }
        buffer->at = at;
    }
    Py_DECREF(description);
    return code;
}

/* The group of this resource and this scope, new. Kept are those seen last, with what they are the group of; while
 * another thread is at those, Python is asked, which keeps them too. */
static PyObject *group_of(Encoder *self, PyObject *resource, PyObject *scope)
{
    size_t place = ((uintptr_t)scope >> 4 ^ (uintptr_t)scope >> 10 ^ (uintptr_t)resource >> 7) % GROUPS;
    Group *known = &self->groups[place];
    PyObject *group = NULL;
    if (latch_take(&self->latch)) {
        if (known->group != NULL && known->resource == resource && known->scope == scope) {
            group = Py_NewRef(known->group);
        }
        latch_let_go(&self->latch);
    }
    if (group != NULL) {
        return group;
    }
    group = PyObject_CallFunctionObjArgs(self->parts[GROUP], resource, scope, NULL);
    if (group != NULL && latch_take(&self->latch)) {
        /* All three are in place before what they replace may run its own code. */
        Group old = *known;
        *known = (Group){Py_NewRef(resource), Py_NewRef(scope), Py_NewRef(group)};
        latch_let_go(&self->latch);
        Py_XDECREF(old.resource);
        Py_XDECREF(old.scope);
        Py_XDECREF(old.group);
    }
    return group;
}

/* The span's bytes, in the order of span.py, into the buffer and the rest into the record, a draft; -1 with an
 * exception. */
static int span_put(Encoder *self, Buffer *buffer, const Reading *reading, Py_ssize_t limit, SpanRecord *record)
{
    PyObject *const *read = reading->read;
    Writing writing = {buffer, limit, record};
    Head head;
    if (head_read(self, reading, record, &head) < 0) {
        return -1;
    }
    uint8_t *at = put_span_id(put_trace_id(buffer->at, record->trace_id), 0x12, record->span_id);
    buffer->at = head.has_parent ? put_span_id(at, 0x22, record->parent_span_id) : at;
    if (name_put(self, buffer, 0x2A, read[S_NAME], &record->name) < 0 || room_for(buffer, 27) < 0) {
        return -1;
    }
    at = buffer->at;
    *at++ = 0x30;
    *at++ = (uint8_t)(record->kind + 1);
    *at++ = 0x39;
    at = put_fixed64(at, head.start);
    *at++ = 0x41;
    at = put_fixed64(at, head.end);
    *at++ = 0x85;
    *at++ = 0x01;
    buffer->at = put_fixed32(at, record->flags & (HAS_IS_REMOTE | IS_REMOTE));
    if (trace_state_read(self, head.trace_state, &record->trace_state) < 0 ||
        (record->trace_state != Py_None && trace_state_put(buffer, record->trace_state) < 0) ||
        attributes_field_put(self, buffer, reading->attributes, 0x4A, 0x50, limit) < 0 ||
        list_put(self, read[S_EVENTS], 0x60, event_put, &writing) < 0 ||
        list_put(self, read[S_LINKS], 0x70, link_put, &writing) < 0) {
        return -1;
    }
    int status = status_put(self, buffer, read[S_STATUS]);
    if (status < 0 || (record->group = group_of(self, read[S_RESOURCE], read[S_SCOPE])) == NULL) {
        return -1;
    }
    record->length = buffer->at - buffer->start;
    record->span = Py_NewRef(Py_None);
    record->status = (unsigned char)status;
    record->failed |= status == STATUS_ERROR;
    return 0;
}

SpanRecord *encode_quickly(Encoder *self, PyObject *span, const Reading *reading, Py_ssize_t limit)
{
    (void)span;
    SpanRecord draft = {0}, *record = NULL;
    Buffer buffer;
    buffer_init(&buffer);
    if (span_put(self, &buffer, reading, limit, &draft) == 0) {
        record = record_with(self->record_type, &draft, buffer.start, draft.length);
    }
    if (record == NULL) {
        record_let_go(&draft);
    }
    buffer_free(&buffer);
    return record;
}
