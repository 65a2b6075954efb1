/* Where the instances of a type keep their attributes: at which place of the array that stands in for their dict.
 *
 * A third of an encoding was looking up attributes by name, a span's twelve and ten of what it is made of. Since Python
 * 3.11 all instances of a class keep them in one order, that of the keys that the class has and adds to, and for as long
 * as nobody has asked an instance for its dict they are in an array; the interpreter reads them there by place too, once
 * a line of a program has been run a few times. Places are learned of an instance, by what its attributes are. The rule:
 * of an instance that has no such array, or has nothing at one of the places, or whose class has been changed since, and
 * without the interpreter lock, attributes are looked up by name.
 */
#ifndef OTEL_SHED_LAYOUT_H
#define OTEL_SHED_LAYOUT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define MOST_ATTRIBUTES 12

typedef struct {
    PyObject *const *names;
    int count;
    unsigned int version; /* of the type, which changes with it; 0 where it cannot be told at which places they are */
    unsigned char places[MOST_ATTRIBUTES];
} Layout;

/* ``sample``: an instance of the type, which gets other attributes; -1 with an exception. */
int layout_learn(Layout *layout, PyObject *sample, PyObject *const *names, int count);

/* All the attributes of an instance of just the type of the sample, new, into ``read``; -1 with an exception. */
int layout_read(const Layout *layout, PyObject *object, PyObject **read);

#endif
