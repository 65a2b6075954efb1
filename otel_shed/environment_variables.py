"""The library's own variables, for the launcher: each name that starts with OTEL_ becomes one of its flags.

Owns names only. ``opentelemetry-instrument --shed_enabled false app`` works because this module is an entry point of
the group opentelemetry_environment_variables. It must list exactly the own variables of the table in config.py, and
the one that is read when the package is imported.
"""

OTEL_SHED_ENABLED = "OTEL_SHED_ENABLED"
"""Whether the library acts at all (true or false; default true); false is exactly the stock SDK."""

OTEL_SHED_PURE_PYTHON = "OTEL_SHED_PURE_PYTHON"
"""Whether the compiled parts are left aside (true or false; default false); read when the package is imported."""

OTEL_SHED_MODE = "OTEL_SHED_MODE"
"""enforce (the default), or observe, which computes and reports the same and sheds nothing."""

OTEL_SHED_SHUTDOWN_GRACE = "OTEL_SHED_SHUTDOWN_GRACE"
"""Milliseconds without progress after which shutdown gives up (default 3000)."""

OTEL_SHED_MAX_HELD_SPANS = "OTEL_SHED_MAX_HELD_SPANS"
"""Spans held in all while traces wait for their decision (default 16384)."""

OTEL_SHED_MAX_HELD_BYTES = "OTEL_SHED_MAX_HELD_BYTES"
"""Bytes of encoded spans held in all: queued, waiting and in flight (default 33554432)."""

OTEL_SHED_MAX_REQUEST_BYTES = "OTEL_SHED_MAX_REQUEST_BYTES"
"""Bytes of one request before compression (default 4000000)."""

OTEL_SHED_CONCURRENT_REQUESTS = "OTEL_SHED_CONCURRENT_REQUESTS"
"""Requests made at a time, each on its own connection (default 1)."""

OTEL_SHED_FLUSH_ON_SIGTERM = "OTEL_SHED_FLUSH_ON_SIGTERM"
"""Whether SIGTERM flushes before the process ends (true or false; default false, with the distro true)."""

OTEL_SHED_ENTER_PRESSURE = "OTEL_SHED_ENTER_PRESSURE"
"""The pressure, up to 1, at which shedding begins (default 0.75)."""

OTEL_SHED_LEAVE_PRESSURE = "OTEL_SHED_LEAVE_PRESSURE"
"""The pressure below which shedding may end (default 0.5)."""

OTEL_SHED_ENTER_DROPS_PER_SECOND = "OTEL_SHED_ENTER_DROPS_PER_SECOND"
"""Spans a second lost to a full queue at which shedding begins (default 5)."""

OTEL_SHED_CALM = "OTEL_SHED_CALM"
"""Milliseconds that the pressure must stay low before less is shed (default 3000)."""

OTEL_SHED_MIN_PROBABILITY = "OTEL_SHED_MIN_PROBABILITY"
"""The least share of unremarkable traces that is kept (default 0.01)."""

OTEL_SHED_KEEP_SHARE = "OTEL_SHED_KEEP_SHARE"
"""The share of the budget that goes first to failed, HIGH and CRITICAL traces (default 0.5)."""

OTEL_SHED_PRIORITY_ATTRIBUTES = "OTEL_SHED_PRIORITY_ATTRIBUTES"
"""Span attributes that hold a priority (default otlp.priority,observability.priority)."""

OTEL_SHED_LOW_PRIORITY_NAMES = "OTEL_SHED_LOW_PRIORITY_NAMES"
"""Comma-separated patterns (* and ?) of the names of spans that are LOW (default none)."""

OTEL_SHED_HIGH_PRIORITY_NAMES = "OTEL_SHED_HIGH_PRIORITY_NAMES"
"""Comma-separated patterns (* and ?) of the names of spans that are HIGH (default none)."""

OTEL_SHED_CRITICAL_PRIORITY_NAMES = "OTEL_SHED_CRITICAL_PRIORITY_NAMES"
"""Comma-separated patterns (* and ?) of the names of spans that are CRITICAL (default none)."""

OTEL_SHED_LOW_PRIORITY_KINDS = "OTEL_SHED_LOW_PRIORITY_KINDS"
"""Comma-separated kinds of spans that are LOW (default none)."""

OTEL_SHED_HIGH_PRIORITY_KINDS = "OTEL_SHED_HIGH_PRIORITY_KINDS"
"""Comma-separated kinds of spans that are HIGH (default none)."""

OTEL_SHED_CRITICAL_PRIORITY_KINDS = "OTEL_SHED_CRITICAL_PRIORITY_KINDS"
"""Comma-separated kinds of spans that are CRITICAL (default none)."""

OTEL_SHED_ATTRIBUTE_LENGTH = "OTEL_SHED_ATTRIBUTE_LENGTH"
"""Characters that attribute values are cut to, always (default unset)."""

OTEL_SHED_DEGRADED_ATTRIBUTE_LENGTH = "OTEL_SHED_DEGRADED_ATTRIBUTE_LENGTH"
"""Characters that attribute values are cut to while spans are shed (default 255)."""

OTEL_SHED_MEMORY_LIMIT = "OTEL_SHED_MEMORY_LIMIT"
"""Bytes that the process may use (default the cgroup's limit if there is one)."""

OTEL_SHED_CPU_SHARE = "OTEL_SHED_CPU_SHARE"
"""Tracing's share of the process's CPU time above which spans are shed (default unset)."""

OTEL_SHED_SLOW_TRACE = "OTEL_SHED_SLOW_TRACE"
"""Milliseconds from which on a local trace is kept as failed ones are (default unset)."""

OTEL_SHED_TRACE_TIMEOUT = "OTEL_SHED_TRACE_TIMEOUT"
"""Milliseconds after which a trace that is held is decided at the latest (default 30000)."""

OTEL_SHED_REPORT = "OTEL_SHED_REPORT"
"""Whether a span tells what was shed, at most once a minute (default true)."""
