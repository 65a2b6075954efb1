/* Protobuf's wire format: a buffer that grows, varints, lengths and UTF-8.
 *
 * Owns nothing that outlives a call. The rule: nothing here runs Python code, so that what is borrowed stays alive.
 * The put_* functions write without looking: room_for is asked before them, for all that they will write.
 */
#ifndef OTEL_SHED_WIRE_H
#define OTEL_SHED_WIRE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Most spans fit this, on the C stack; a larger one moves to memory of its own. */
#define STACK_ROOM 1536
#define MAX_VARINT 10

typedef struct {
    uint8_t *at; /* where the next byte goes */
    uint8_t *end;
    uint8_t *start;
    uint8_t room[STACK_ROOM];
} Buffer;

static inline void buffer_init(Buffer *buffer)
{
    buffer->at = buffer->start = buffer->room;
    buffer->end = buffer->room + STACK_ROOM;
}

static inline void buffer_free(Buffer *buffer)
{
    if (buffer->start != buffer->room) {
        PyMem_Free(buffer->start);
    }
}

int buffer_grow(Buffer *buffer, Py_ssize_t more);

/* 0 if so many bytes can be put, -1 with MemoryError if not. Pointers into the buffer are worth nothing after it. */
static inline int room_for(Buffer *buffer, Py_ssize_t more)
{
    return buffer->end - buffer->at >= more ? 0 : buffer_grow(buffer, more);
}

static inline int varint_size(uint64_t number)
{
    int size = 1;
    while (number >= 0x80) {
        number >>= 7;
        size++;
    }
    return size;
}

static inline uint8_t *put_varint(uint8_t *at, uint64_t number)
{
    while (number >= 0x80) {
        *at++ = (uint8_t)(number | 0x80);
        number >>= 7;
    }
    *at++ = (uint8_t)number;
    return at;
}

static inline uint8_t *put_bytes(uint8_t *at, const void *bytes, Py_ssize_t size)
{
    memcpy(at, bytes, (size_t)size);
    return at + size;
}

static inline uint8_t *put_fixed32(uint8_t *at, uint32_t number)
{
    for (int byte = 0; byte < 4; byte++) {
        *at++ = (uint8_t)(number >> (8 * byte));
    }
    return at;
}

static inline uint8_t *put_fixed64(uint8_t *at, uint64_t number)
{
    for (int byte = 0; byte < 8; byte++) {
        *at++ = (uint8_t)(number >> (8 * byte));
    }
    return at;
}

static inline uint8_t *put_big_endian64(uint8_t *at, uint64_t number)
{
    for (int byte = 7; byte >= 0; byte--) {
        *at++ = (uint8_t)(number >> (8 * byte));
    }
    return at;
}

/* A length-delimited field whose length is known when it is whole: so many bytes are kept free for the length. */
typedef struct {
    Py_ssize_t at;
    int kept;
} Field;

/* ``guess``: what the body will have at least; a wrong one costs a move. There must be room for 1 + MAX_VARINT. */
static inline Field field_begin(Buffer *buffer, uint8_t tag, Py_ssize_t guess)
{
    Field field;
    *buffer->at++ = tag;
    field.at = buffer->at - buffer->start;
    field.kept = varint_size((uint64_t)guess);
    buffer->at += field.kept;
    return field;
}

int field_end(Buffer *buffer, Field field);

/* A str, or the beginning of one that is cut, as it will be on the wire. */
typedef struct {
    const void *data;
    Py_ssize_t length; /* code points */
    Py_ssize_t size;   /* bytes of UTF-8, the ellipsis included */
    int kind;          /* of PyUnicode; 0 for ASCII */
    int is_cut;        /* an ellipsis follows */
    int is_mended;     /* halves of surrogate pairs are replaced */
} Text;

int text_measure(PyObject *string, Py_ssize_t limit, Text *text);
uint8_t *put_text_slowly(uint8_t *at, const Text *text);

/* 0, or -1 with an exception. ``limit``: characters; -1 for none. ``string`` is exactly a str. */
static inline int text_of(PyObject *string, Py_ssize_t limit, Text *text)
{
    if (PyUnicode_IS_COMPACT_ASCII(string)) {
        Py_ssize_t length = PyUnicode_GET_LENGTH(string);
        if (limit < 0 || length <= limit) {
            text->data = PyUnicode_DATA(string);
            text->size = text->length = length;
            text->kind = text->is_cut = text->is_mended = 0;
            return 0;
        }
    }
    return text_measure(string, limit, text);
}

static inline uint8_t *put_text(uint8_t *at, const Text *text)
{
    return text->kind == 0 && !text->is_cut ? put_bytes(at, text->data, text->size) : put_text_slowly(at, text);
}

/* A string field of proto3, which leaves out an empty one: its size, and its bytes. */
static inline Py_ssize_t text_field_size(const Text *text)
{
    return text->size ? 1 + varint_size((uint64_t)text->size) + text->size : 0;
}

static inline uint8_t *put_text_field(uint8_t *at, uint8_t tag, const Text *text)
{
    if (text->size) {
        *at++ = tag;
        at = put_text(put_varint(at, (uint64_t)text->size), text);
    }
    return at;
}

#endif
