/* The type HotPath: see hot_path.c. */
#ifndef OTEL_SHED_HOT_PATH_H
#define OTEL_SHED_HOT_PATH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec hot_path_spec;

#endif
