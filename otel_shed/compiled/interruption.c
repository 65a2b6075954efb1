/* Exceptions that are the application's: see interruption.h. */
#include "interruption.h"

/* The exception that is set, with its traceback, and no longer set. */
static PyObject *taken(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(error, trace);
    }
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
#endif
}

/* Set it again, unless another one has come up meanwhile; takes the reference. */
static void set_again(PyObject *error)
{
    if (PyErr_Occurred()) {
        Py_DECREF(error);
        return;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

int is_applications(void)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return 1;
    }
    PyObject *error = taken(), *trace = PyException_GetTraceback(error), *said = NULL;
    if (trace != NULL) { /* without one it has come up in C, where no handler runs */
        Py_DECREF(trace);
        PyObject *module = PyImport_ImportModule("otel_shed.interruption");
        said = module ? PyObject_CallMethod(module, "is_applications", "O", error) : NULL;
        Py_XDECREF(module);
    }
    /* What comes up while it is asked is a handler's again. */
    int is = said != NULL ? said == Py_True : PyErr_Occurred() != NULL;
    Py_XDECREF(said);
    set_again(error);
    return is;
}
