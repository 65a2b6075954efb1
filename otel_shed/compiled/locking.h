/* What is shared between threads, where there is no interpreter lock: held for a while, or changed in one step.
 *
 * With the interpreter lock all of this is plain C, since each call into the compiled parts is one step. Without it the
 * rules are: what is borrowed of a list or a dict that others may change is used only in a critical section of that
 * object; such a section ends for a while where Python code runs or another object is waited for, so whatever is used
 * after that is held; and nothing waits in the middle of on_end but for another thread's few instructions.
 */
#ifndef OTEL_SHED_LOCKING_H
#define OTEL_SHED_LOCKING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Python 3.13 and later have them, and there they are nothing with the interpreter lock. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* An object that any thread may put another in the place of, new. ``owner`` has it, and is locked by whoever writes. */
static inline PyObject *held_member(PyObject *owner, PyObject *const *member)
{
    PyObject *held;
    (void)owner; /* where there is the interpreter lock */
    Py_BEGIN_CRITICAL_SECTION(owner);
    held = Py_XNewRef(*member);
    Py_END_CRITICAL_SECTION();
    return held;
}

/* What is in a sequence, as a list or a tuple that nobody changes while it is read, new; NULL with an exception. */
static inline PyObject *sequence_held(PyObject *sequence)
{
#ifdef Py_GIL_DISABLED
    return PySequence_Tuple(sequence);
#else
    return PySequence_Fast(sequence, "records come in a sequence");
#endif
}

/* Whether the latch was free, and is ours now: to be let go of after a few instructions. Nobody waits for one, so that a
 * forked child goes on where it was the latch of a thread that is not there. */
typedef uint8_t Latch;

static inline int latch_take(Latch *latch)
{
#ifdef Py_GIL_DISABLED
    uint8_t is_free = 0;
    return _Py_atomic_compare_exchange_uint8(latch, &is_free, 1);
#else
    (void)latch;
    return 1;
#endif
}

static inline void latch_let_go(Latch *latch)
{
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_uint8(latch, 0);
#else
    (void)latch;
#endif
}

/* The object that is there, to be compared with and not to be used; there is one. */
static inline const PyObject *object_seen(PyObject *const *place)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_ptr_relaxed(place);
#else
    return *place;
#endif
}

/* Put an object in the place of another, which is the caller's from now on. */
static inline PyObject *object_exchanged(PyObject **place, PyObject *object)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_exchange_ptr(place, object);
#else
    PyObject *before = *place;
    *place = object;
    return before;
#endif
}

/* Two numbers that are read for each span: whoever sees the one that was written last sees the other too. */
typedef struct {
    uint64_t last; /* the bits of a double */
    Py_ssize_t first;
} Pair;

static inline double pair_last(const Pair *pair)
{
#ifdef Py_GIL_DISABLED
    uint64_t bits = _Py_atomic_load_uint64(&pair->last);
#else
    uint64_t bits = pair->last;
#endif
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static inline Py_ssize_t pair_first(const Pair *pair)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_ssize_relaxed(&pair->first);
#else
    return pair->first;
#endif
}

static inline void pair_write(Pair *pair, Py_ssize_t first, double last)
{
    uint64_t bits;
    memcpy(&bits, &last, sizeof bits);
#ifdef Py_GIL_DISABLED
    _Py_atomic_store_ssize_relaxed(&pair->first, first);
    _Py_atomic_store_uint64(&pair->last, bits);
#else
    pair->first = first;
    pair->last = bits;
#endif
}

#endif
