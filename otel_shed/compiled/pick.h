/* Which of the records in the Queue's rings go next: put into a list first, and taken away after, all or none. */
#ifndef OTEL_SHED_PICK_H
#define OTEL_SHED_PICK_H

#include "ring.h"

#define PRIORITIES 4 /* of otel_shed.record.Priority, whose values are 0, 1, ... */

/* Some of the first of each ring, in a list; nothing is taken away until ``pick_take``. */
typedef struct {
    PyObject *records;
    Py_ssize_t counts[PRIORITIES];
    Py_ssize_t lengths[PRIORITIES];
    Py_ssize_t spans;
    Py_ssize_t length;
} Pick;

static inline int pick_begin(Pick *pick)
{
    *pick = (Pick){.records = PyList_New(0)};
    return pick->records == NULL ? -1 : 0;
}

/* Pick one more of a priority, which has one; where it was -1, or that fails, that is the end: 0. */
static inline int pick_add(const Ring *rings, Pick *pick, int priority)
{
    if (priority < 0) {
        return 0;
    }
    SpanRecord *record = ring_at(&rings[priority], pick->counts[priority]);
    if (PyList_Append(pick->records, (PyObject *)record) < 0) {
        Py_CLEAR(pick->records);
        return 0;
    }
    pick->counts[priority]++;
    pick->lengths[priority] += record->length;
    pick->spans++;
    pick->length += record->length;
    return 1;
}

/* Of the lowest priority; -1 where none is left. */
static inline int pick_lowest(const Ring *rings, const Pick *pick)
{
    for (int priority = 0; priority < PRIORITIES; priority++) {
        if (pick->counts[priority] < rings[priority].count) {
            return priority;
        }
    }
    return -1;
}

/* Of the lowest order; -1 where none is left. */
static inline int pick_oldest(const Ring *rings, const Pick *pick)
{
    int oldest = -1;
    long long order = 0;
    for (int priority = 0; priority < PRIORITIES; priority++) {
        const Ring *ring = &rings[priority];
        if (pick->counts[priority] < ring->count) {
            long long next = ring_at(ring, pick->counts[priority])->order;
            if (oldest < 0 || next < order) {
                oldest = priority;
                order = next;
            }
        }
    }
    return oldest;
}

/* Pick the oldest, if with it no more than so many bytes are picked; otherwise, or where none is left, 0. */
static inline int pick_oldest_within(const Ring *rings, Pick *pick, Py_ssize_t most_bytes)
{
    int priority = pick_oldest(rings, pick);
    if (priority < 0 || pick->length + ring_at(&rings[priority], pick->counts[priority])->length > most_bytes) {
        return 0;
    }
    return pick_add(rings, pick, priority);
}

#endif
