/* What is read of a span for every record, whether its bytes go with it or the span itself: the record's header.
 *
 * Owns nothing. Any thread may come here, in the middle of others and of itself: names of foreign types run Python code.
 */
#include "encoder.h"

int unexpected(void)
{
    PyErr_SetString(PyExc_TypeError, "not as expected");
    return -1;
}

int attributes_read(Encoder *self, PyObject *attributes, PyObject **read)
{
    if (!IS(attributes, BOUNDED_ATTRIBUTES)) {
        return unexpected();
    }
    if (known_read(self, ATTRIBUTES_LAYOUT, attributes, read) < 0) {
        return -1;
    }
    if (!PyDict_CheckExact(read[0])) {
        known_end(self, ATTRIBUTES_LAYOUT, read);
        return unexpected();
    }
    return 0;
}

int dropped_read(PyObject *dropped, Py_ssize_t *count)
{
    if (!PyLong_CheckExact(dropped)) {
        return unexpected();
    }
    *count = PyLong_AsSsize_t(dropped);
    if (*count > PY_SSIZE_T_MAX / 2) {
        *count = PY_SSIZE_T_MAX / 2;
    }
    return *count == -1 ? unexpected() : 0;
}

/* The place of an enum's member among them: its value. */
static inline int value_of(PyObject *members, PyObject *member)
{
    for (Py_ssize_t value = 0; value < PyTuple_GET_SIZE(members); value++) {
        if (PyTuple_GET_ITEM(members, value) == member) {
            return (int)value;
        }
    }
    return unexpected();
}

/* The W3C trace flags, 0 to 255, or -1. */
static inline int trace_flags_of(Encoder *self, PyObject *flags)
{
    if (!IS(flags, TRACE_FLAGS) && !PyLong_CheckExact(flags)) {
        return unexpected();
    }
    long value = PyLong_AsLong(flags);
    return value < 0 ? unexpected() : (int)(value & 0xFF);
}

int head_read(Encoder *self, const Reading *reading, SpanRecord *record, Head *head)
{
    PyObject *const *read = reading->read, *context = read[S_CONTEXT], *parent = read[S_PARENT];
    uint64_t span_id, parent_id = 0;
    int flags, kind = value_of(self->parts[KINDS], read[S_KIND]);
    if (kind < 0 || !IS(context, SPAN_CONTEXT) || PyTuple_GET_SIZE(context) != CONTEXT_SIZE ||
        !number_of(PyTuple_GET_ITEM(context, 0), &record->trace_id) ||
        !uint64_of(PyTuple_GET_ITEM(context, 1), &span_id) ||
        (flags = trace_flags_of(self, PyTuple_GET_ITEM(context, 3))) < 0 || !uint64_of(read[S_START], &head->start) ||
        !uint64_of(read[S_END], &head->end)) {
        return unexpected();
    }
    flags |= HAS_IS_REMOTE;
    head->has_parent = parent != Py_None;
    if (head->has_parent) {
        if (!IS(parent, SPAN_CONTEXT) || PyTuple_GET_SIZE(parent) != CONTEXT_SIZE ||
            !PyBool_Check(PyTuple_GET_ITEM(parent, 2)) || !uint64_of(PyTuple_GET_ITEM(parent, 1), &parent_id)) {
            return unexpected();
        }
        flags |= PyTuple_GET_ITEM(parent, 2) == Py_True ? IS_REMOTE : 0;
    }
    head->trace_state = PyTuple_GET_ITEM(context, 4);
    record->priority = Py_NewRef(self->parts[PRIORITY]);
    record->span_id = span_id;
    record->parent_span_id = parent_id;
    record->duration_ns = head->end > head->start && head->start > 0 ? head->end - head->start : 0;
    record->flags = (unsigned int)flags;
    record->kind = (unsigned char)kind;
    return 0;
}

int name_read(Encoder *self, PyObject *name, PyObject **on_wire, Text *text)
{
    Py_INCREF(name);
    if (PyUnicode_CheckExact(name) && text_of(name, -1, text) < 0) {
        Py_DECREF(name);
        return -1;
    }
    if (!PyUnicode_CheckExact(name) || text->is_mended) {
        Py_SETREF(name, PyObject_CallOneArg(self->parts[NAME], name));
        if (name == NULL) {
            return -1;
        }
        if (!PyUnicode_CheckExact(name) || text_of(name, -1, text) < 0) {
            Py_DECREF(name);
            return unexpected();
        }
    }
    *on_wire = name;
    return 0;
}

int trace_state_read(Encoder *self, PyObject *trace_state, PyObject **dict)
{
    if (trace_state == Py_None) {
        *dict = Py_NewRef(Py_None);
        return 0;
    }
    if (!IS(trace_state, TRACE_STATE)) {
        return unexpected();
    }
    PyObject *inside;
    if (known_read(self, TRACE_STATE_LAYOUT, trace_state, &inside) < 0) {
        return -1;
    }
    if (!PyDict_CheckExact(inside)) {
        Py_DECREF(inside);
        return unexpected();
    }
    if (PyDict_GET_SIZE(inside) == 0) {
        Py_SETREF(inside, Py_NewRef(Py_None));
    }
    *dict = inside;
    return 0;
}

int status_read(Encoder *self, PyObject *status, PyObject **description)
{
    PyObject *read[OF_STATUS];
    if (!IS(status, STATUS)) {
        return unexpected();
    }
    if (known_read(self, STATUS_LAYOUT, status, read) < 0) {
        return -1;
    }
    int code = value_of(self->parts[STATUS_CODES], read[0]);
    *description = code < 0 ? NULL : Py_NewRef(read[1]);
    known_end(self, STATUS_LAYOUT, read);
    return code;
}

static int each_read(Encoder *self, PyObject *deque, Visit visit, void *with)
{
    Py_ssize_t size = PyObject_Size(deque);
    if (size <= 0) {
        return size < 0 ? -1 : 0;
    }
    PyObject *items = PyObject_GetIter(deque), *item;
    int failed = items == NULL ? -1 : 0;
    while (!failed && (item = PyIter_Next(items)) != NULL) {
        failed = visit(self, item, with);
        Py_DECREF(item);
    }
    Py_XDECREF(items);
    return !failed && PyErr_Occurred() ? -1 : failed;
}

int list_read(Encoder *self, PyObject *list, Visit visit, void *with, Py_ssize_t *dropped)
{
    PyObject *read[OF_LIST];
    if (!IS(list, BOUNDED_LIST)) {
        return unexpected();
    }
    if (known_read(self, LIST_LAYOUT, list, read) < 0) {
        return -1;
    }
    int failed = each_read(self, read[0], visit, with) < 0 || dropped_read(read[1], dropped) < 0;
    known_end(self, LIST_LAYOUT, read);
    return failed ? -1 : 0;
}

/* Whether an event is an exception, into the record; only what is of the SDK is looked at here. */
static int event_visit(Encoder *self, PyObject *event, void *with)
{
    SpanRecord *record = with;
    PyObject *name = IS(event, EVENT) ? get(self, event, S_NAME) : NULL;
    int failed = name != NULL && PyUnicode_CheckExact(name) ? 0 : unexpected();
    if (!failed) {
        record->failed |= PyUnicode_CompareWithASCIIString(name, "exception") == 0;
    }
    Py_XDECREF(name);
    return failed;
}

SpanRecord *wrap_quickly(Encoder *self, PyObject *span, const Reading *reading, Py_ssize_t limit)
{
    SpanRecord *record;
    PyObject *description = NULL;
    Py_ssize_t dropped;
    Head head;
    Text text;
    if (limit >= INT32_MAX) { /* LONGEST_LIMIT */
        unexpected();
        return NULL;
    }
    if ((record = record_new(self->record_type)) == NULL) {
        return NULL;
    }
    int status = -1;
    if (head_read(self, reading, record, &head) < 0 ||
        name_read(self, reading->read[S_NAME], &record->name, &text) < 0 ||
        trace_state_read(self, head.trace_state, &record->trace_state) < 0 ||
        (status = status_read(self, reading->read[S_STATUS], &description)) < 0 ||
        list_read(self, reading->read[S_EVENTS], event_visit, record, &dropped) < 0) {
        Py_XDECREF(description);
        Py_DECREF(record);
        return NULL;
    }
    Py_DECREF(description);
    if (record->trace_state != Py_None) {
        Py_SETREF(record->trace_state, Py_NewRef(head.trace_state));
    }
    record->cut = limit < 0 ? 0 : (unsigned int)limit + 1;
    record->status = (unsigned char)status;
    record->failed |= status == STATUS_ERROR;
    record->group = Py_NewRef(Py_None);
    record->body = Py_NewRef(Py_None);
    record->span = Py_NewRef(span);
    return record;
}
