/* Reading attributes without their names: see layout.h. */
#include "layout.h"

typedef struct {
    PyObject *found[MOST_VISITS];
    int count;
} Visited;

static int visit(PyObject *object, void *into)
{
    Visited *visited = into;
    if (visited->count == MOST_VISITS) {
        return 1;
    }
    visited->found[visited->count++] = object;
    return 0;
}

/* Whether all that there is to visit was visited. */
static inline int visit_all(PyObject *object, Visited *visited)
{
    visited->count = 0;
    return Py_TYPE(object)->tp_traverse(object, visit, visited) == 0;
}

int layout_learn(Layout *layout, PyObject *sample, PyObject *const *names, int count)
{
    Visited visited;
    layout->names = names;
    layout->count = count;
    layout->last = 0;
    layout->visits = 0;
    for (int name = 0; name < count; name++) {
        PyObject *mark = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
        int failed = mark == NULL || PyObject_SetAttr(sample, names[name], mark) < 0;
        Py_XDECREF(mark);
        if (failed) {
            return -1;
        }
    }
    if (Py_TYPE(sample)->tp_traverse == NULL || !visit_all(sample, &visited)) {
        return 0;
    }
    for (int name = 0; name < count; name++) {
        PyObject *value = PyObject_GetAttr(sample, names[name]);
        if (value == NULL) {
            return -1;
        }
        int place = 0;
        while (place < visited.count && visited.found[place] != value) {
            place++;
        }
        Py_DECREF(value);
        if (place == visited.count) {
            return 0; /* a dict of its own has them, as before Python 3.11 */
        }
        layout->places[name] = (unsigned char)place;
        if (place > layout->places[layout->last]) {
            layout->last = name;
        }
    }
    layout->visits = visited.count;
    return 0;
}

/* Whether attributes are at their places. */
static inline int is_as_learned(const Layout *layout, PyObject *object, Visited *visited)
{
    if (!layout->visits || !visit_all(object, visited) || visited->count != layout->visits) {
        return 0;
    }
    PyObject *last = Py_TYPE(object)->tp_getattro(object, layout->names[layout->last]);
    if (last == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(last); /* the object has it */
    return last == visited->found[layout->places[layout->last]];
}

int layout_read(const Layout *layout, PyObject *object, PyObject **read)
{
    Visited visited;
    if (is_as_learned(layout, object, &visited)) {
        for (int name = 0; name < layout->count; name++) {
            read[name] = Py_NewRef(visited.found[layout->places[name]]);
        }
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
