"""The library's own variables, for the launcher: each name that starts with OTEL_ becomes one of its flags.

Owns names only. ``opentelemetry-instrument --shed_enabled false app`` works because this module is an entry point of
the group opentelemetry_environment_variables. It must list exactly the own variables of the table in config.py.
"""

OTEL_SHED_ENABLED = "OTEL_SHED_ENABLED"
"""Whether the library acts at all (true or false; default true); false is exactly the stock SDK."""

OTEL_SHED_SHUTDOWN_GRACE = "OTEL_SHED_SHUTDOWN_GRACE"
"""Milliseconds without progress after which shutdown gives up (default 3000)."""

OTEL_SHED_MAX_HELD_BYTES = "OTEL_SHED_MAX_HELD_BYTES"
"""Bytes of encoded spans held in all: queued, waiting and in flight (default 33554432)."""

OTEL_SHED_MAX_REQUEST_BYTES = "OTEL_SHED_MAX_REQUEST_BYTES"
"""Bytes of one request before compression (default 4000000)."""

OTEL_SHED_FLUSH_ON_SIGTERM = "OTEL_SHED_FLUSH_ON_SIGTERM"
"""Whether SIGTERM flushes before the process ends (true or false; default false, with the distro true)."""
