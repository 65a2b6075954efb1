"""otel-shed: keeps tracing from hurting the program it observes, and keeps the traces that matter."""
