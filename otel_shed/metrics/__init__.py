"""The library's metrics about itself; docs/metrics.md lists them, those of ``otel_shed.otlp.operations`` included."""
