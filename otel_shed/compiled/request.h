/* Requests put together from records: what otel_shed/otlp/request.py says of them. */
#ifndef OTEL_SHED_REQUEST_H
#define OTEL_SHED_REQUEST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *build_request(PyObject *module, PyObject *records);
PyObject *total_size(PyObject *module, PyObject *records);

#endif
