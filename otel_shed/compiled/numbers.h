/* Python's ints as numbers of 64 and of 128 bits, checked. No Python code runs here. An int never changes, so without the
 * interpreter lock its digits are read as with it. */
#ifndef OTEL_SHED_NUMBERS_H
#define OTEL_SHED_NUMBERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif
#include <stdint.h>

/* Whether this version's ints are laid out as here; a later one is asked through its documented functions. */
#ifndef DIGITS_ARE_KNOWN
#define DIGITS_ARE_KNOWN (PY_VERSION_HEX < 0x030E0000)
#endif

typedef struct {
    uint64_t high;
    uint64_t low;
} Number;

/* 1 if the object is exactly an int of 0 or more that fits 128 bits, else 0; never an exception. */
static inline int number_of(PyObject *object, Number *number)
{
    number->high = number->low = 0;
    if (!PyLong_CheckExact(object)) {
        return 0;
    }
#if DIGITS_ARE_KNOWN
    /* The functions of these versions go byte by byte, four times as slow, and a span has five such numbers. */
#if PY_VERSION_HEX >= 0x030C0000
    const _PyLongValue *value = &((PyLongObject *)object)->long_value;
    const digit *digits = value->ob_digit;
    Py_ssize_t count = (Py_ssize_t)(value->lv_tag >> 3);
    if ((value->lv_tag & 3) == 2) { /* negative */
        return 0;
    }
#else
    const digit *digits = ((PyLongObject *)object)->ob_digit;
    Py_ssize_t count = Py_SIZE(object);
    if (count < 0) {
        return 0;
    }
#endif
    while (count > 0) {
        if (number->high >> (64 - PyLong_SHIFT)) {
            return 0;
        }
        number->high = number->high << PyLong_SHIFT | number->low >> (64 - PyLong_SHIFT);
        number->low = number->low << PyLong_SHIFT | digits[--count];
    }
#else
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (!overflow) {
        number->low = (uint64_t)small;
        return small >= 0;
    }
    uint64_t words[2] = {0, 0};
    Py_ssize_t size = PyLong_AsNativeBytes(object, words, sizeof words,
                                           Py_ASNATIVEBYTES_NATIVE_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER |
                                               Py_ASNATIVEBYTES_REJECT_NEGATIVE);
    if (size < 0 || size > (Py_ssize_t)sizeof words) {
        PyErr_Clear();
        return 0;
    }
    number->high = words[PY_LITTLE_ENDIAN];
    number->low = words[!PY_LITTLE_ENDIAN];
#endif
    return 1;
}

static inline int uint64_of(PyObject *object, uint64_t *value)
{
    Number number;
    int fits = number_of(object, &number) && number.high == 0;
    *value = number.low;
    return fits;
}

/* A new int, or NULL with an exception. */
static inline PyObject *int_of(Number number)
{
    if (number.high == 0) {
        return PyLong_FromUnsignedLongLong(number.low);
    }
    uint64_t words[2];
    words[PY_LITTLE_ENDIAN] = number.high;
    words[!PY_LITTLE_ENDIAN] = number.low;
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(words, sizeof words, Py_ASNATIVEBYTES_NATIVE_ENDIAN);
#else
    return _PyLong_FromByteArray((const unsigned char *)words, sizeof words, PY_LITTLE_ENDIAN, 0);
#endif
}

#endif
