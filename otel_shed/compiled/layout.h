/* Where the instances of a type keep their attributes: at which place among what its tp_traverse visits.
 *
 * A third of an encoding was looking up a span's twelve attributes by name. All instances of a class keep them in one
 * order, that of the keys that they share, and a traversal (gc.get_referents shows one) visits them in it. Places are
 * learned of an instance, by what its attributes are. The rule: where there is not exactly as much to visit as there was
 * then, and where what is visited last is not the attribute of that name (an earlier one is missing, then), attributes
 * are looked up by name.
 */
#ifndef OTEL_SHED_LAYOUT_H
#define OTEL_SHED_LAYOUT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define MOST_ATTRIBUTES 12
#define MOST_VISITS 24

typedef struct {
    PyObject *const *names;
    int count;
    int last; /* whichever of them is visited last */
    int visits; /* 0 where it cannot be told at which places they are */
    unsigned char places[MOST_ATTRIBUTES];
} Layout;

/* ``sample``: an instance of the type, which gets other attributes; -1 with an exception. */
int layout_learn(Layout *layout, PyObject *sample, PyObject *const *names, int count);

/* All the attributes of an instance of just the type of the sample, new, into ``read``; -1 with an exception. */
int layout_read(const Layout *layout, PyObject *object, PyObject **read);

#endif
