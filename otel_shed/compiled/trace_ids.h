/* The type TraceIds: what otel_shed/pipeline/trace_ids.py says of it. */
#ifndef OTEL_SHED_TRACE_IDS_H
#define OTEL_SHED_TRACE_IDS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec trace_ids_spec;

#endif
