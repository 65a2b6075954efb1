/* What may be passed over of exceptions, and what may not: see otel_shed/interruption.py. */
#ifndef OTEL_SHED_INTERRUPTION_H
#define OTEL_SHED_INTERRUPTION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Whether the exception that is set, and stays so, is the application's: one of a signal handler of its own, or one that
 * nobody passes over, such as Ctrl-C. */
int is_applications(void);

#endif
