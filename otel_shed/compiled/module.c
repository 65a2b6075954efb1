/* The extension module: the types and the functions, and nothing else. */
#include "encoder.h"
#include "exchange.h"
#include "hot_path.h"
#include "queue.h"
#include "record.h"
#include "request.h"
#include "summary_rows.h"
#include "trace_ids.h"

static int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

static int module_exec(PyObject *module)
{
    return add_type(module, &record_spec) < 0 || add_type(module, &encoder_spec) < 0 ||
                   add_type(module, &hot_path_spec) < 0 || add_type(module, &queue_spec) < 0 ||
                   add_type(module, &summary_rows_spec) < 0 || add_type(module, &trace_ids_spec) < 0
               ? -1
               : 0;
}

static PyMethodDef module_functions[] = {
    {"build_request", build_request, METH_O, "build_request(records, /): the request for these records."},
    {"total_size", total_size, METH_O, "total_size(records, /): how many bytes build_request would make."},
#ifdef HAS_EXCHANGE
    {"exchange", (PyCFunction)(void (*)(void))exchange, METH_FASTCALL,
     "exchange(socket, head, body, seconds, /): what comes first of the answer; None if something had come before."},
#endif
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED}, /* see locking.h */
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "otel_shed.compiled._extension",
    .m_doc = "The compiled parts: see otel_shed/compiled/__init__.py.",
    .m_methods = module_functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__extension(void)
{
    return PyModuleDef_Init(&module_definition);
}
