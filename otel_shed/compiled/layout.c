/* Reading attributes without their names: see layout.h. What is known here of the interpreter's insides is what its own
 * headers say, of versions that have been tried; with any other, attributes are looked up by name.
 */
#define PY_SSIZE_T_CLEAN
#include <patchlevel.h>
#include <pyconfig.h>
/* Without the interpreter lock another thread may take away what is at a place, before whoever has read it holds it. */
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
#define PLACES_ARE_KNOWN 1
#ifdef __has_include
#if !__has_include(<internal/pycore_dict.h>) /* some distributions leave them out */
#undef PLACES_ARE_KNOWN
#endif
#endif
#endif
#ifdef PLACES_ARE_KNOWN
#define Py_BUILD_CORE_MODULE 1 /* the headers of the interpreter's own parts ask for it */
#endif
#include <Python.h>
#ifdef PLACES_ARE_KNOWN
#include <internal/pycore_dict.h>
#include <internal/pycore_object.h>
#endif

#include "layout.h"

#ifdef PLACES_ARE_KNOWN
#if PY_VERSION_HEX >= 0x030D0000
#define HAS_VALUES Py_TPFLAGS_INLINE_VALUES
#else
#define HAS_VALUES Py_TPFLAGS_MANAGED_DICT
#endif

/* What an instance has instead of a dict, of a type that HAS_VALUES; NULL where it has a dict by now. */
static inline PyObject **values_of(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyDictValues *values = _PyObject_InlineValues(object);
    return values->valid ? values->values : NULL;
#elif PY_VERSION_HEX >= 0x030C0000
    PyDictOrValues either = *_PyObject_DictOrValuesPointer(object);
    return _PyDictOrValues_IsValues(either) ? _PyDictOrValues_GetValues(either)->values : NULL;
#else
    PyDictValues *values = *_PyObject_ValuesPointer(object);
    return values != NULL ? values->values : NULL;
#endif
}

/* How many values an instance of the type may have at most; 0 for a type whose instances have none. */
static Py_ssize_t most_values(PyTypeObject *type)
{
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || !(type->tp_flags & HAS_VALUES)) {
        return 0;
    }
    PyDictKeysObject *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;
    return keys == NULL ? 0 : keys->dk_nentries;
}
#else
static inline PyObject **values_of(PyObject *object)
{
    (void)object;
    return NULL;
}

static Py_ssize_t most_values(PyTypeObject *type)
{
    (void)type;
    return 0;
}
#endif

int layout_learn(Layout *layout, PyObject *sample, PyObject *const *names, int count)
{
    *layout = (Layout){.names = names, .count = count};
    for (int name = 0; name < count; name++) {
        PyObject *mark = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
        int failed = mark == NULL || PyObject_SetAttr(sample, names[name], mark) < 0;
        Py_XDECREF(mark);
        if (failed) {
            return -1;
        }
    }
    Py_ssize_t most = most_values(Py_TYPE(sample));
    PyObject **values = most > 0 ? values_of(sample) : NULL;
    for (int name = 0; name < count; name++) {
        PyObject *mark = PyObject_GetAttr(sample, names[name]);
        if (mark == NULL) {
            return -1;
        }
        Py_ssize_t place = 0;
        while (values != NULL && place < most && values[place] != mark) {
            place++;
        }
        Py_DECREF(mark);
        if (values == NULL || place == most) {
            return 0; /* a dict of its own has it, as before Python 3.11 */
        }
        layout->places[name] = (unsigned char)place;
    }
    layout->version = Py_TYPE(sample)->tp_version_tag; /* the type has one, since attributes have been looked up */
    return 0;
}

/* Whether all the attributes were at their places. */
static inline int read_by_place(const Layout *layout, PyObject *object, PyObject **read)
{
    PyObject **values;
    if (layout->version == 0 || Py_TYPE(object)->tp_version_tag != layout->version ||
        (values = values_of(object)) == NULL) {
        return 0;
    }
    for (int name = 0; name < layout->count; name++) {
        if ((read[name] = values[layout->places[name]]) == NULL) {
            return 0;
        }
    }
    for (int name = 0; name < layout->count; name++) {
        Py_INCREF(read[name]);
    }
    return 1;
}

int layout_read(const Layout *layout, PyObject *object, PyObject **read)
{
    if (read_by_place(layout, object, read)) {
        return 0;
    }
    for (int name = 0; name < layout->count; name++) {
        if ((read[name] = Py_TYPE(object)->tp_getattro(object, layout->names[name])) == NULL) {
            while (name > 0) {
                Py_DECREF(read[--name]);
            }
            return -1;
        }
    }
    return 0;
}
