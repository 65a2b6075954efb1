/* The type Queue: what otel_shed/pipeline/queue.py says of it. */
#ifndef OTEL_SHED_QUEUE_H
#define OTEL_SHED_QUEUE_H

#include "record.h"

extern PyType_Spec queue_spec;

/* Queue the record, or count why not; 1 if a consumer is to be woken. The object must be a Queue. -1 with an exception,
 * and the record counted as failed, where a signal handler has raised while a foreign tracestate was read. */
int queue_push(PyObject *queue, SpanRecord *record);

/* Count one span that ended and is not queued, for want of memory or of stack. The object must be a Queue. */
void queue_count_failed(PyObject *queue);

#endif
