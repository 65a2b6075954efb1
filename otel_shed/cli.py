"""The ``otel-shed`` command: reads its arguments, and leaves the rest to the modules of ``otel_shed.command``.

Called on the main thread. The rule: nothing of the SDK is imported before it is known what to do, because the SDK reads
the environment in the course of that, and raises for what it cannot parse.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from otel_shed.command.bench import BENCHMARKS, INTERRUPTED, BenchOptions, run_bench
from otel_shed.command.companion import StartError
from otel_shed.command.output import OutputError
from otel_shed.otlp.secrets import without_secrets
from otel_shed.otlp.settings import PROTOCOLS, ExporterSettings

_USAGE = 2  # argparse's


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status. ``argv`` are the arguments, sys.argv's if None."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _demo(arguments: argparse.Namespace) -> int:
    from otel_shed.command.demo import DemoOptions, run_demo
    from otel_shed.command.storm.run import Plan

    plan = Plan(
        rate=arguments.rate,
        seconds=arguments.seconds,
        calm=arguments.calm,
        capacity=arguments.capacity,
        mode=arguments.mode,
        protocol=arguments.protocol,
        collector=arguments.collector,
    )
    try:
        return run_demo(DemoOptions(plan=plan, page=None if arguments.no_html else arguments.out), sys.stdout)
    except StartError as error:
        print(f"otel-shed demo: a process could not be started: {error}", file=sys.stderr)
        return 1
    except OutputError as error:
        print(f"otel-shed demo: the page cannot be written: {error}", file=sys.stderr)
        return 1


def _outage(arguments: argparse.Namespace) -> int:
    from otel_shed.command.outage import OutageOptions, run_outage

    try:
        ExporterSettings.resolve({}, protocol=arguments.protocol, endpoint=arguments.endpoint)
    except ValueError as error:
        print(f"otel-shed outage: {error}", file=sys.stderr)
        return _USAGE
    options = OutageOptions(
        seconds=arguments.seconds,
        outage=0.0 if arguments.endpoint else min(arguments.stopped, arguments.seconds),
        rate=arguments.rate,
        endpoint=arguments.endpoint,
        protocol=arguments.protocol,
        collector=arguments.collector,
    )
    try:
        return run_outage(options, sys.stdout)
    except StartError as error:
        print(f"otel-shed outage: no collector could be started: {error}", file=sys.stderr)
        return 1


def _doctor(arguments: argparse.Namespace) -> int:
    from otel_shed.command.doctor import run_doctor

    return run_doctor(
        endpoint=arguments.endpoint,
        protocol=arguments.protocol,
        timeout=arguments.timeout,
        out=sys.stdout,
        verbose=arguments.verbose,
        as_json=arguments.json,
    )


def _bench(arguments: argparse.Namespace) -> int:
    try:
        return run_bench(BenchOptions(names=arguments.names, quick=arguments.quick, out=arguments.out), sys.stdout)
    except (OutputError, StartError) as error:
        print(f"otel-shed bench: {error}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments without the keys in a URL that is one of them."""

    def error(self, message: str) -> NoReturn:
        words = (without_secrets(word) if "://" in word else word for word in message.split(" "))
        super().error(" ".join(words))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="otel-shed",
        description="Keeps OpenTelemetry tracing from hurting the program it observes.",
    )
    parser.add_argument("--version", action="version", version=f"otel-shed {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="see a storm: the same workload through the stock processor and through otel-shed",
        description="Run a program that has far more to tell than its collector takes, once through the stock "
        "BatchSpanProcessor and once through otel-shed, and lay the two side by side: in a table, and in pictures, "
        "in one HTML file. The exit status is 0 if otel-shed's account balances and the collector counted the same.",
    )
    demo.add_argument("--seconds", type=_positive, default=10.0, help="how long the storm lasts (default: 10)")
    demo.add_argument("--calm", type=_not_negative, default=6.0, help="seconds that follow it (default: 6)")
    demo.add_argument("--rate", type=_positive, default=5000.0, help="spans a second in the storm (default: 5000)")
    demo.add_argument("--capacity", type=_positive, default=500.0, help="that the collector takes (default: 500)")
    demo.add_argument(
        "--mode",
        choices=("slow", "reject"),
        default="slow",
        help="what the collector does about more: answer late, or refuse it (default: slow)",
    )
    demo.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="how to talk to it (default: grpc)")
    _add_collector(demo, "which one counts what was accepted: rotel, none (the limit counts), or rotel if it is there")
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("otel-shed-demo.html"),
        metavar="FILE",
        help="where to write the page (default: otel-shed-demo.html)",
    )
    demo.add_argument("--no-html", action="store_true", help="write no page")
    demo.set_defaults(run=_demo)

    outage = commands.add_parser(
        "outage",
        help="see a traced workload get over a collector that stops answering",
        description="Run a traced workload against a collector that stops answering for a while and comes back, and "
        "give the account of every span. The exit status is 0 if it balances and the collector counted the same.",
    )
    outage.add_argument("--seconds", type=_positive, default=20.0, help="how long the workload runs (default: 20)")
    outage.add_argument(
        "--stopped", type=_not_negative, default=5.0, help="for how many of them the collector is stopped (default: 5)"
    )
    outage.add_argument("--rate", type=_positive, default=700.0, help="spans a second (default: 700)")
    _add_where(outage, "use this collector, which is not stopped and not asked for its count")
    _add_collector(outage, "which one to start: rotel, the small receiver of this package, or rotel if it is there")
    outage.set_defaults(run=_outage)

    doctor = commands.add_parser(
        "doctor",
        help="see what is configured, and whether spans arrive",
        description="Say what is configured and from where, whether the collector answers, and what becomes of one "
        "test span. The exit status is 0 if the collector accepts it, else 1.",
    )
    _add_where(doctor, "ask this collector instead of the configured one")
    doctor.add_argument(
        "--timeout", type=_positive, default=5.0, help="seconds to wait for any one answer (default: 5)"
    )
    doctor.add_argument("--verbose", action="store_true", help="add the libraries' own words for what fails")
    doctor.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    doctor.set_defaults(run=_doctor)

    bench = commands.add_parser(
        "bench",
        help="measure what it costs, beside the stock SDK (in a source tree)",
        description="Run the benchmarks of the source tree, stock and otel-shed in turns, and write a table and a "
        "plot. The exit status is 0 if all of them went through, whatever they found. Ctrl-C and SIGTERM end it early: "
        "what has been measured until then is written.",
    )
    bench.add_argument(
        "names", nargs="*", type=_benchmark, metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all)"
    )
    bench.add_argument(
        "--quick", action="store_true", help="within 4 minutes instead of about 40; rough, and compiled only"
    )
    bench.add_argument(
        "--out",
        type=Path,
        default=Path("otel-shed-bench"),
        metavar="FOLDER",
        help="where to write them (default: otel-shed-bench)",
    )
    bench.set_defaults(run=_bench)
    return parser


def _add_where(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument("--endpoint", metavar="URL", help=f"{meaning}, e.g. http://localhost:4317")
    command.add_argument("--protocol", choices=PROTOCOLS, help="how to talk to it (default: as configured, or grpc)")


def _add_collector(command: argparse.ArgumentParser, meaning: str) -> None:
    command.add_argument(
        "--collector", choices=("auto", "rotel", "receiver"), default="auto", help=f"{meaning} (default: auto)"
    )


def _version() -> str:
    try:
        return importlib.metadata.version("otel-shed")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "(not installed)"


def _benchmark(text: str) -> str:
    if text not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(BENCHMARKS)}")
    return text


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("it has to be more than 0")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value
