"""What the ``otel-shed`` command does; each module writes to the stream that it is given."""
