/* A clock that is read for each span: the system's without making an object of what it says, any other by a call. */
#ifndef OTEL_SHED_CLOCK_H
#define OTEL_SHED_CLOCK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <time.h>

/* Whether it is time.monotonic, and nothing that was put in its place; -1 with an exception. */
static inline int is_monotonic(PyObject *clock)
{
    if (!PyCFunction_CheckExact(clock)) {
        return 0;
    }
    PyObject *module = PyImport_ImportModule("time");
    PyObject *monotonic = module == NULL ? NULL : PyObject_GetAttrString(module, "monotonic");
    int is_it = monotonic == NULL ? -1 : monotonic == clock;
    Py_XDECREF(module);
    Py_XDECREF(monotonic);
    return is_it;
}

/* The clock's seconds; -1 with an exception. ``is_monotonic``: as that says of it. */
static inline double seconds_of(PyObject *clock, int is_monotonic)
{
#ifdef CLOCK_MONOTONIC_COARSE
    /* The same clock, behind by a tick of the kernel, 10 ms at most. It takes 6 ns, and the call 43. */
    struct timespec time;
    if (is_monotonic && clock_gettime(CLOCK_MONOTONIC_COARSE, &time) == 0) {
        return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
    }
#else
    (void)is_monotonic;
#endif
    PyObject *now = PyObject_CallNoArgs(clock);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    return seconds;
}

#endif
