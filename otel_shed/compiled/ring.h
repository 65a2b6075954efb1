/* A queue of records that grows: what is put in at its end is taken out at either. It owns a reference to each, and is
 * itself owned by the Queue. No Python code runs in here.
 */
#ifndef OTEL_SHED_RING_H
#define OTEL_SHED_RING_H

#include "record.h"

#define RING_LEAST 64 /* places, a power of two */
/* What has had more places than this gives them back when it is empty. */
#define RING_KEPT 1024

typedef struct {
    SpanRecord **places;
    Py_ssize_t room; /* 0, or a power of two */
    Py_ssize_t first;
    Py_ssize_t count;
} Ring;

/* The record that so many stand before; there must be one. Not ours to keep. */
static inline SpanRecord *ring_at(const Ring *ring, Py_ssize_t index)
{
    return ring->places[(ring->first + index) & (ring->room - 1)];
}

/* Have places for so many more; -1 with an exception, and nothing changed. */
static inline int ring_reserve(Ring *ring, Py_ssize_t more)
{
    Py_ssize_t room = ring->room ? ring->room : RING_LEAST;
    while (room - ring->count < more) {
        if (room > PY_SSIZE_T_MAX / 2 / (Py_ssize_t)sizeof *ring->places) {
            PyErr_NoMemory();
            return -1;
        }
        room *= 2;
    }
    if (room == ring->room) {
        return 0;
    }
    SpanRecord **places = PyMem_Malloc((size_t)room * sizeof *places);
    if (places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t index = 0; index < ring->count; index++) {
        places[index] = ring_at(ring, index);
    }
    PyMem_Free(ring->places);
    ring->places = places;
    ring->room = room;
    ring->first = 0;
    return 0;
}

/* There must be a place for it. */
static inline void ring_push(Ring *ring, SpanRecord *record)
{
    Py_INCREF(record);
    ring->places[(ring->first + ring->count++) & (ring->room - 1)] = record;
}

static inline void ring_end(Ring *ring)
{
    PyMem_Free(ring->places);
    *ring = (Ring){.places = NULL};
}

/* Give up the references to the first ones; others must hold these records, or Python code might run. */
static inline void ring_skip(Ring *ring, Py_ssize_t count)
{
    for (Py_ssize_t index = 0; index < count; index++) {
        Py_DECREF(ring_at(ring, index));
    }
    ring->first += count;
    ring->count -= count;
    if (ring->count == 0 && ring->room > RING_KEPT) {
        ring_end(ring);
    }
}

/* As ring_skip, of the last ones. */
static inline void ring_cut(Ring *ring, Py_ssize_t count)
{
    for (Py_ssize_t index = ring->count - count; index < ring->count; index++) {
        Py_DECREF(ring_at(ring, index));
    }
    ring->count -= count;
}

#endif
