/* The type SummaryRows: what otel_shed/pipeline/summary_rows.py says of it. */
#ifndef OTEL_SHED_SUMMARY_ROWS_H
#define OTEL_SHED_SUMMARY_ROWS_H

#include "record.h"

extern PyType_Spec summary_rows_spec;

/* Count the span of a record in rows, which must be a SummaryRows; one that there is no memory for is left out. Runs no
 * Python code, raises nothing. */
void summary_rows_add(PyObject *rows, SpanRecord *record);

#endif
