/* Attributes on the wire: KeyValue and AnyValue (opentelemetry/proto/common/v1/common.proto).
 *
 * The rule: Python code runs only in attribute_put, and only for what is not of exactly the built-in types; whatever
 * that is, otel_shed/otlp/values.py encodes it, so that both encoders say the same of it.
 */
#ifndef OTEL_SHED_VALUES_H
#define OTEL_SHED_VALUES_H

#include "wire.h"

/* The functions of Python that take what is not of the built-in types. Borrowed from the encoder. */
typedef struct {
    PyObject *key;       /* a key that is not exactly a str: its bytes, or it raises */
    PyObject *any_value; /* a value: the body of its AnyValue, or it raises */
    PyObject *shortened; /* attributes and a limit: the attributes, cut, and how many were lost */
} Python;

/* Puts the attributes under the tag, values cut to ``limit`` characters (-1: whole). Returns how many attributes could
 * not be encoded, or -1 with an exception: the dict changed, memory ran out, or what is no Exception came up. */
Py_ssize_t attributes_put(const Python *python, Buffer *buffer, uint8_t tag, PyObject *attributes, Py_ssize_t limit);

#endif
