/* The type SummaryRows: what otel_shed/pipeline/summary_rows.py says of it. */
#ifndef OTEL_SHED_SUMMARY_ROWS_H
#define OTEL_SHED_SUMMARY_ROWS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec summary_rows_spec;

#endif
