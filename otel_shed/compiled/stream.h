/* The type Stream: what otel_shed/pipeline/stream.py says of it. */
#ifndef OTEL_SHED_STREAM_H
#define OTEL_SHED_STREAM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec stream_spec;

#endif
