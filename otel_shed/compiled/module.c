/* The extension module: the types, and nothing else. */
#include "encoder.h"
#include "record.h"

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
    return add_type(module, &record_spec) < 0 || add_type(module, &encoder_spec) < 0 ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "otel_shed.compiled._extension",
    .m_doc = "The compiled parts: see otel_shed/compiled/__init__.py.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__extension(void)
{
    return PyModuleDef_Init(&module_definition);
}
