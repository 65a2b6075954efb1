/* Values and attributes: see values.h. */
#include "values.h"

#include "interruption.h"
#include "locking.h"

/* As otel_shed/otlp/values.py. What nests deeper than this, or has more elements, is left to it. */
#define MAX_ELEMENTS (1 << 18)
#define DEPTH 6

typedef enum { TEXT, NUMBER, FLOATING, RAW, TRUTH, NOTHING } Kind;

/* A value that is no container, and what it will be on the wire. */
typedef struct {
    Kind kind;
    Text text;
    uint64_t number; /* also the bits of a float */
    const char *raw;
    Py_ssize_t raw_size;
    Py_ssize_t size; /* of the AnyValue's body */
} Scalar;

/* 1 if the value is exactly of a scalar type and fits; 0 if not; -1 with an exception. */
static inline int scalar_of(PyObject *value, Py_ssize_t limit, Scalar *scalar)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type) {
        scalar->kind = TEXT;
        if (text_of(value, limit, &scalar->text) < 0) {
            return -1;
        }
        scalar->size = 1 + varint_size((uint64_t)scalar->text.size) + scalar->text.size;
    }
    else if (type == &PyLong_Type) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            return 0;
        }
        scalar->kind = NUMBER;
        scalar->number = (uint64_t)number;
        scalar->size = 1 + varint_size(scalar->number);
    }
    else if (type == &PyBool_Type) {
        scalar->kind = TRUTH;
        scalar->number = value == Py_True;
        scalar->size = 2;
    }
    else if (type == &PyFloat_Type) {
        double number = PyFloat_AS_DOUBLE(value);
        memcpy(&scalar->number, &number, sizeof number);
        scalar->kind = FLOATING;
        scalar->size = 9;
    }
    else if (type == &PyBytes_Type) {
        scalar->kind = RAW;
        scalar->raw = PyBytes_AS_STRING(value);
        scalar->raw_size = PyBytes_GET_SIZE(value);
        if (limit >= 0 && scalar->raw_size > limit) {
            scalar->raw_size = limit;
        }
        scalar->size = 1 + varint_size((uint64_t)scalar->raw_size) + scalar->raw_size;
    }
    else if (value == Py_None) {
        scalar->kind = NOTHING;
        scalar->size = 0;
    }
    else {
        return 0;
    }
    return 1;
}

static inline uint8_t *put_scalar(uint8_t *at, const Scalar *scalar)
{
    switch (scalar->kind) {
    case TEXT:
        *at++ = 0x0A;
        return put_text(put_varint(at, (uint64_t)scalar->text.size), &scalar->text);
    case NUMBER:
        *at++ = 0x18;
        return put_varint(at, scalar->number);
    case FLOATING:
        *at++ = 0x21;
        return put_fixed64(at, scalar->number);
    case RAW:
        *at++ = 0x3A;
        return put_bytes(put_varint(at, (uint64_t)scalar->raw_size), scalar->raw, scalar->raw_size);
    case TRUTH:
        *at++ = 0x10;
        *at++ = (uint8_t)scalar->number;
        return at;
    case NOTHING:
        break;
    }
    return at;
}

static int any_value_put(Buffer *buffer, PyObject *value, int depth, Py_ssize_t *left);

/* A value as a field of its own. */
static int value_field_put(Buffer *buffer, uint8_t tag, PyObject *value, int depth, Py_ssize_t *left)
{
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    Field field = field_begin(buffer, tag, 0);
    int put = any_value_put(buffer, value, depth, left);
    return put <= 0 ? put : field_end(buffer, field) < 0 ? -1 : 1;
}

/* An array, a map; in its critical section, if it is no tuple. Without the interpreter lock that ends for a while where a container in it is
 * waited for: this one is held then, and what has changed meanwhile is not for here. */
static int array_put(Buffer *buffer, PyObject *array, int depth, Py_ssize_t *left)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(array);
    if ((*left -= count) < 0) {
        return 0;
    }
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    Field field = field_begin(buffer, 0x2A, count);
    for (Py_ssize_t index = 0; index < count; index++) {
        int put = value_field_put(buffer, 0x0A, PySequence_Fast_GET_ITEM(array, index), depth, left);
        if (put <= 0) {
            return put;
        }
        if (PySequence_Fast_GET_SIZE(array) != count) {
            return 0;
        }
    }
    return field_end(buffer, field) < 0 ? -1 : 1;
}

static int map_put(Buffer *buffer, PyObject *map, int depth, Py_ssize_t *left)
{
    Py_ssize_t count = PyDict_GET_SIZE(map);
    if ((*left -= count) < 0) {
        return 0;
    }
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    Field field = field_begin(buffer, 0x32, count);
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(map, &position, &key, &value)) {
        Text text;
        if (!PyUnicode_CheckExact(key)) {
            return 0;
        }
        if (text_of(key, -1, &text) < 0 || room_for(buffer, 2 + 2 * MAX_VARINT + text.size) < 0) {
            return -1;
        }
        Field pair = field_begin(buffer, 0x0A, text.size);
        buffer->at = put_text_field(buffer->at, 0x0A, &text);
        int put = value_field_put(buffer, 0x12, value, depth, left);
        if (put <= 0) {
            return put;
        }
        if (field_end(buffer, pair) < 0) {
            return -1;
        }
        if (PyDict_GET_SIZE(map) != count) {
            return 0;
        }
    }
    return field_end(buffer, field) < 0 ? -1 : 1;
}

/* The body of an AnyValue. 1 if it was put; 0 if it is not for here, and what has been put of it is to be taken back;
 * -1 with MemoryError. Nothing here runs Python code: with the interpreter lock, what the containers hold stays where it
 * is. */
static int any_value_put(Buffer *buffer, PyObject *value, int depth, Py_ssize_t *left)
{
    Scalar scalar;
    int is_scalar = scalar_of(value, -1, &scalar);
    if (is_scalar) {
        if (is_scalar < 0 || room_for(buffer, scalar.size) < 0) {
            return -1;
        }
        buffer->at = put_scalar(buffer->at, &scalar);
        return 1;
    }
    int is_array = PyTuple_CheckExact(value) || PyList_CheckExact(value), put;
    if (depth == 0 || !(is_array || PyDict_CheckExact(value))) {
        return 0;
    }
    Py_INCREF(value);
    if (PyTuple_CheckExact(value)) { /* never changes */
        put = array_put(buffer, value, depth - 1, left);
    }
    else {
        Py_BEGIN_CRITICAL_SECTION(value);
        put = is_array ? array_put(buffer, value, depth - 1, left) : map_put(buffer, value, depth - 1, left);
        Py_END_CRITICAL_SECTION();
    }
    Py_DECREF(value);
    return put;
}

/* 0 if it was an Exception, which costs an attribute; -1 if it is the application's. */
static int forgive(void)
{
    if (is_applications()) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* What a function of Python returned, put as it is: 1; 0 and -1 as forgive. */
static int returned_put(Buffer *buffer, PyObject *returned)
{
    if (returned == NULL) {
        return forgive();
    }
    int put = 0;
    if (PyBytes_CheckExact(returned)) {
        put = room_for(buffer, PyBytes_GET_SIZE(returned)) < 0 ? -1 : 1;
        if (put > 0) {
            buffer->at = put_bytes(buffer->at, PyBytes_AS_STRING(returned), PyBytes_GET_SIZE(returned));
        }
    }
    Py_DECREF(returned);
    return put;
}

/* An attribute whose key or value is not of the simplest: 1 if it was put, 0 if it cannot be, -1 with an exception. */
static int odd_attribute_put(const Python *python, Buffer *buffer, uint8_t tag, PyObject *key, PyObject *value)
{
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    Field field = field_begin(buffer, tag, 0);
    if (PyUnicode_CheckExact(key)) {
        Text text;
        if (text_of(key, -1, &text) < 0 || room_for(buffer, 1 + MAX_VARINT + text.size) < 0) {
            return -1;
        }
        buffer->at = put_text_field(buffer->at, 0x0A, &text);
    }
    else {
        int put = returned_put(buffer, PyObject_CallOneArg(python->key, key));
        if (put <= 0) {
            return put;
        }
    }
    if (room_for(buffer, 1 + MAX_VARINT) < 0) {
        return -1;
    }
    Field value_field = field_begin(buffer, 0x12, 0);
    Py_ssize_t before = buffer->at - buffer->start, left = MAX_ELEMENTS;
    int put = any_value_put(buffer, value, DEPTH, &left);
    if (put == 0) {
        buffer->at = buffer->start + before;
        put = returned_put(buffer, PyObject_CallOneArg(python->any_value, value));
    }
    if (put <= 0) {
        return put;
    }
    return field_end(buffer, value_field) < 0 || field_end(buffer, field) < 0 ? -1 : 1;
}

static inline int attribute_put(const Python *python, Buffer *buffer, uint8_t tag, PyObject *key, PyObject *value,
                                Py_ssize_t limit)
{
    if (PyUnicode_CheckExact(key)) {
        Scalar scalar;
        Text text;
        int is_scalar = scalar_of(value, limit, &scalar);
        if (is_scalar) {
            if (is_scalar < 0 || text_of(key, -1, &text) < 0) {
                return -1;
            }
            Py_ssize_t size = text_field_size(&text) + 1 + varint_size((uint64_t)scalar.size) + scalar.size;
            if (room_for(buffer, 1 + MAX_VARINT + size) < 0) {
                return -1;
            }
            uint8_t *at = buffer->at;
            *at++ = tag;
            at = put_text_field(put_varint(at, (uint64_t)size), 0x0A, &text);
            *at++ = 0x12;
            buffer->at = put_scalar(put_varint(at, (uint64_t)scalar.size), &scalar);
            return 1;
        }
    }
    Py_ssize_t before = buffer->at - buffer->start;
    Py_INCREF(key);
    Py_INCREF(value);
    int put = odd_attribute_put(python, buffer, tag, key, value);
    Py_DECREF(key);
    Py_DECREF(value);
    if (put == 0) {
        buffer->at = buffer->start + before;
    }
    return put;
}

static int is_short(PyObject *value, Py_ssize_t limit, int depth);

/* In the critical section of the array, if it is no tuple: what it holds stays where it is, as nothing here ends that. */
static int are_short(PyObject *array, Py_ssize_t limit)
{
    for (Py_ssize_t index = 0; index < PySequence_Fast_GET_SIZE(array); index++) {
        if (!is_short(PySequence_Fast_GET_ITEM(array, index), limit, 0)) {
            return 0;
        }
    }
    return 1;
}

/* Whether nothing in the value can be too long: it is a scalar, or, at a depth of 1, an array of short ones. */
static int is_short(PyObject *value, Py_ssize_t limit, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type) {
        return PyUnicode_GetLength(value) <= limit;
    }
    if (type == &PyBytes_Type) {
        return PyBytes_GET_SIZE(value) <= limit;
    }
    if (type == &PyLong_Type || type == &PyBool_Type || type == &PyFloat_Type || value == Py_None) {
        return 1;
    }
    if (depth == 0 || !(type == &PyTuple_Type || type == &PyList_Type)) {
        return 0;
    }
    if (type == &PyTuple_Type) {
        return are_short(value, limit);
    }
    int are;
    Py_INCREF(value);
    Py_BEGIN_CRITICAL_SECTION(value);
    are = are_short(value, limit);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(value);
    return are;
}

/* Whether every value is short, or a string or bytes that can be cut while it is put. In the critical section of the
 * attributes, as dict_put. */
static int can_cut(PyObject *attributes, Py_ssize_t limit)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(attributes, &position, &key, &value)) {
        if (!PyUnicode_CheckExact(key)) {
            return 0; /* its own code may run, and change what was looked at */
        }
        if (!PyUnicode_CheckExact(value) && !PyBytes_CheckExact(value) && !is_short(value, limit, 1)) {
            return 0;
        }
    }
    return 1;
}

static Py_ssize_t dict_put(const Python *python, Buffer *buffer, uint8_t tag, PyObject *attributes, Py_ssize_t limit)
{
    Py_ssize_t position = 0, dropped = 0, size = PyDict_GET_SIZE(attributes);
    PyObject *key, *value;
    while (PyDict_Next(attributes, &position, &key, &value)) {
        int put = attribute_put(python, buffer, tag, key, value, limit);
        if (put < 0) {
            return -1;
        }
        dropped += put == 0;
        if (PyDict_GET_SIZE(attributes) != size) {
            PyErr_SetString(PyExc_RuntimeError, "attributes changed while they were encoded");
            return -1;
        }
    }
    return dropped;
}

Py_ssize_t attributes_put(const Python *python, Buffer *buffer, uint8_t tag, PyObject *attributes, Py_ssize_t limit)
{
    Py_ssize_t put = -1;
    int is_here;
    Py_BEGIN_CRITICAL_SECTION(attributes);
    is_here = limit < 0 || can_cut(attributes, limit);
    if (is_here) {
        put = dict_put(python, buffer, tag, attributes, limit);
    }
    Py_END_CRITICAL_SECTION();
    if (is_here) {
        return put;
    }
    PyObject *most = PyLong_FromSsize_t(limit);
    PyObject *result = most ? PyObject_CallFunctionObjArgs(python->shortened, attributes, most, NULL) : NULL;
    Py_XDECREF(most);
    if (result == NULL) {
        return -1;
    }
    PyObject *cut;
    Py_ssize_t lost, dropped = -1;
    if (PyArg_ParseTuple(result, "O!n", &PyDict_Type, &cut, &lost)) {
        dropped = attributes_put(python, buffer, tag, cut, -1);
        dropped += dropped < 0 ? 0 : lost;
    }
    Py_DECREF(result);
    return dropped;
}
