/* What of the wire format is too long to be inlined: see wire.h. */
#include "wire.h"

int buffer_grow(Buffer *buffer, Py_ssize_t more)
{
    Py_ssize_t used = buffer->at - buffer->start;
    if (more > PY_SSIZE_T_MAX / 2 - used) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t wanted = (used + more) * 2;
    uint8_t *kept = buffer->start == buffer->room ? NULL : buffer->start;
    uint8_t *start = PyMem_Realloc(kept, (size_t)wanted);
    if (start == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (kept == NULL) {
        memcpy(start, buffer->room, (size_t)used);
    }
    buffer->start = start;
    buffer->at = start + used;
    buffer->end = start + wanted;
    return 0;
}

int field_end(Buffer *buffer, Field field)
{
    Py_ssize_t size = buffer->at - buffer->start - field.at - field.kept;
    int needed = varint_size((uint64_t)size);
    if (needed != field.kept) {
        if (room_for(buffer, MAX_VARINT) < 0) {
            return -1;
        }
        uint8_t *length = buffer->start + field.at;
        memmove(length + needed, length + field.kept, (size_t)size);
        buffer->at += needed - field.kept;
    }
    put_varint(buffer->start + field.at, (uint64_t)size);
    return 0;
}

/* U+FFFD stands for half a surrogate pair, and has three bytes as the half would have. */
static inline int is_high(Py_UCS4 point)
{
    return point >= 0xD800 && point < 0xDC00;
}

static inline int is_low(Py_UCS4 point)
{
    return point >= 0xDC00 && point < 0xE000;
}

int text_measure(PyObject *string, Py_ssize_t limit, Text *text)
{
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(string) < 0) {
        return -1;
    }
#endif
    Py_ssize_t length = PyUnicode_GET_LENGTH(string);
    text->is_cut = limit >= 0 && length > limit && limit > 0;
    if (limit >= 0 && length > limit) {
        length = limit > 0 ? limit - 1 : 0;
    }
    text->data = PyUnicode_DATA(string);
    text->length = length;
    text->is_mended = 0;
    Py_ssize_t size = length;
    if (PyUnicode_IS_ASCII(string)) {
        text->kind = 0;
    }
    else {
        int kind = text->kind = (int)PyUnicode_KIND(string);
        for (Py_ssize_t index = 0; index < length; index++) {
            Py_UCS4 point = PyUnicode_READ(kind, text->data, index);
            size += (point >= 0x80) + (point >= 0x800) + (point >= 0x10000);
            if (is_high(point) || is_low(point)) {
                text->is_mended = 1;
                if (is_high(point) && index + 1 < length && is_low(PyUnicode_READ(kind, text->data, index + 1))) {
                    index++; /* two halves that meet: four bytes, of which one is counted with each code point */
                }
            }
        }
    }
    text->size = size + (text->is_cut ? 3 : 0);
    return 0;
}

static inline uint8_t *put_point(uint8_t *at, Py_UCS4 point)
{
    if (point < 0x80) {
        *at++ = (uint8_t)point;
    }
    else if (point < 0x800) {
        *at++ = (uint8_t)(0xC0 | point >> 6);
        *at++ = (uint8_t)(0x80 | (point & 0x3F));
    }
    else if (point < 0x10000) {
        *at++ = (uint8_t)(0xE0 | point >> 12);
        *at++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
        *at++ = (uint8_t)(0x80 | (point & 0x3F));
    }
    else {
        *at++ = (uint8_t)(0xF0 | point >> 18);
        *at++ = (uint8_t)(0x80 | (point >> 12 & 0x3F));
        *at++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
        *at++ = (uint8_t)(0x80 | (point & 0x3F));
    }
    return at;
}

uint8_t *put_text_slowly(uint8_t *at, const Text *text)
{
    if (text->kind == 0) {
        at = put_bytes(at, text->data, text->length);
    }
    else {
        for (Py_ssize_t index = 0; index < text->length; index++) {
            Py_UCS4 point = PyUnicode_READ(text->kind, text->data, index);
            if (is_high(point) || is_low(point)) {
                Py_UCS4 next = index + 1 < text->length ? PyUnicode_READ(text->kind, text->data, index + 1) : 0;
                if (is_high(point) && is_low(next)) {
                    point = 0x10000 + ((point - 0xD800) << 10) + (next - 0xDC00);
                    index++;
                }
                else {
                    point = 0xFFFD;
                }
            }
            at = put_point(at, point);
        }
    }
    return text->is_cut ? put_point(at, 0x2026) : at; /* U+2026, the ellipsis */
}
