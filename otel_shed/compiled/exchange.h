/* One request and what comes of its answer first, on a socket: what otel_shed/otlp/connection.py says of it. */
#ifndef OTEL_SHED_EXCHANGE_H
#define OTEL_SHED_EXCHANGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Not where sockets are no file descriptors. */
#ifndef MS_WINDOWS
#define HAS_EXCHANGE
PyObject *exchange(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
#endif

#endif
