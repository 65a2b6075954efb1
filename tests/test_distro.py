"""The entry points: named, they put our parts in; not named or disabled, it is as if the package were not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from opentelemetry.distro import OpenTelemetryConfigurator, OpenTelemetryDistro
from opentelemetry.instrumentation.auto_instrumentation import _load
from opentelemetry.instrumentation.distro import DefaultDistro
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON

from otel_shed import LoadShedder, Phase, SheddingSpanExporter, SheddingSpanProcessor, distro, launcher, substitution
from otel_shed.distro import ShedConfigurator, ShedDistro, parentbased_shed_sampler, shed_sampler
from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span

BIN = Path(sys.executable).parent

# What a program finds when it starts, told as one line of JSON.
PROGRAM = """
import json, os
from opentelemetry import trace
provider = trace.get_tracer_provider()
provider.get_tracer("program").start_span("work").end()
print("TOLD", json.dumps({
    "sampler": provider.sampler.get_description(),
    "processors": [
        [type(each).__module__, type(each).__name__, type(each.span_exporter).__module__]
        for each in provider._active_span_processor._span_processors
    ],
    "queues": [
        each.config.max_queue_size if hasattr(each, "config") else None
        for each in provider._active_span_processor._span_processors
    ],
    "environ": {name: value for name, value in os.environ.items() if name.startswith("OTEL_")},
}))
provider.force_flush()
"""
# Metrics and logs of the stock distro would look for a collector for a while.
QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}

OURS = ["otel_shed.processor", "SheddingSpanProcessor"]
STOCK = ["opentelemetry.sdk.trace.export", "BatchSpanProcessor"]
OUR_OTLP = "otel_shed.otlp.exporter"
STOCK_GRPC = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
CONSOLE = "opentelemetry.sdk.trace.export"


@dataclass
class Told:
    """What the program told, and the lines that the process logged."""

    sampler: str
    processors: list[list[str]]
    queues: list[int | None]
    environ: dict[str, str]
    log: str


def clean(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | environ


def run(command: list[str], environ: dict[str, str]) -> Told:
    done = subprocess.run(command, env=clean(environ), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    return Told(**json.loads(line.removeprefix("TOLD ")), log=done.stderr)


def launch(environ: dict[str, str], *flags: str) -> Told:
    """The program under the real launcher."""
    launcher = str(BIN / "opentelemetry-instrument")
    return run([launcher, *flags, sys.executable, "-c", PROGRAM], QUIET | environ)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    forget_warnings()
    yield
    forget_warnings()


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[MutableMapping[str, str]]:
    """The process's environment without OpenTelemetry in it, and no shedder made from it yet."""
    monkeypatch.setattr("otel_shed.shedder._default", None)
    with mock.patch.dict(os.environ, clean({}), clear=True):
        yield os.environ


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "otel_shed"]


def test_the_distro_alone_turns_load_shedding_on() -> None:
    """OTEL_PYTHON_DISTRO=shed is all it takes: our processor, exporter and sampler, and the span arrives."""
    with Receiver(grpc_port=None) as receiver:
        told = launch(
            {
                "OTEL_PYTHON_DISTRO": "shed",
                "OTEL_TRACES_SAMPLER": "",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            }
        )
        assert receiver.counts.spans == 1
    assert told.processors == [[*OURS, OUR_OTLP]]
    assert told.sampler.startswith("ParentBased{root:AdaptiveSampler{root:AlwaysOnSampler}")
    assert told.environ["OTEL_PYTHON_CONFIGURATOR"] == "shed"
    assert told.environ["OTEL_TRACES_EXPORTER"] == "otlp"
    assert told.environ["OTEL_TRACES_SAMPLER"] == "parentbased_shed"
    assert told.environ["OTEL_SHED_FLUSH_ON_SIGTERM"] == "true"
    assert told.log == ""


@pytest.mark.parametrize("named", [{"OTEL_PYTHON_DISTRO": "shed"}, {"OTEL_PYTHON_CONFIGURATOR": "shed"}], ids=str)
def test_metrics_and_logs_go_out_as_with_the_stock_distro(named: dict[str, str]) -> None:
    """Traces, metrics and logs all arrive with nothing set but the name, the endpoint and the protocol."""
    program = f"""
import logging
from opentelemetry import metrics
from opentelemetry._logs import get_logger_provider
from opentelemetry.sdk._logs import LoggingHandler
metrics.get_meter("program").create_counter("orders").add(1)
logging.getLogger("program").addHandler(LoggingHandler(logger_provider=get_logger_provider()))
logging.getLogger("program").error("an order failed")
{PROGRAM}"""
    with Receiver(grpc_port=None, keep=100) as receiver:
        variables = named | {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            "PYTHONWARNINGS": "ignore",
        }
        told = run([str(BIN / "opentelemetry-instrument"), sys.executable, "-c", program], variables)
        paths = {request.path for request in receiver.requests}
    assert paths == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert told.environ["OTEL_METRICS_EXPORTER"] == told.environ["OTEL_LOGS_EXPORTER"] == "otlp"


@pytest.mark.parametrize("named", [{"OTEL_PYTHON_DISTRO": "shed"}, {"OTEL_PYTHON_CONFIGURATOR": "shed"}], ids=str)
@pytest.mark.parametrize(
    ("sampler", "begins"), [("traceidratio", "Ratio"), ("parentbased_traceidratio", "ParentBased{root:Ratio")]
)
def test_the_standard_ratio_samplers_by_their_names(named: dict[str, str], sampler: str, begins: str) -> None:
    """They tell the threshold that they decided by, in the tracestate of what the collector gets."""
    with Receiver(grpc_port=None, keep=10) as receiver:
        told = launch(
            named
            | {
                "OTEL_TRACES_SAMPLER": sampler,
                "OTEL_TRACES_SAMPLER_ARG": "0.999999",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            }
        )
        (request,) = receiver.requests
    assert told.sampler.startswith(f"{begins}Sampler{{0.999999}}")
    assert re.search(rb"ot=th:000010c6f7[0-9a-f]+;rv:[0-9a-f]{14}", request.payload)


@pytest.mark.parametrize("name", ["otel-shed", "otel_shed", "otelshed", "Shed", "SHED"])
def test_near_misses_of_the_name(name: str) -> None:
    """OTEL_PYTHON_DISTRO may also be what people take the name to be; the launcher does not say when it finds none."""
    told = launch({"OTEL_PYTHON_DISTRO": name, "OTEL_TRACES_EXPORTER": "console"})
    assert told.processors == [[*OURS, CONSOLE]]
    assert told.environ["OTEL_PYTHON_DISTRO"] == told.environ["OTEL_PYTHON_CONFIGURATOR"] == "shed"


def test_the_configurator_beside_another_distro() -> None:
    """OTEL_PYTHON_CONFIGURATOR=shed works with the stock distro: our processors before every exporter named."""
    told = launch(
        {
            "OTEL_PYTHON_DISTRO": "distro",
            "OTEL_PYTHON_CONFIGURATOR": "shed",
            "OTEL_TRACES_EXPORTER": "otlp_shed,console",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_BSP_EXPORT_TIMEOUT": "200",
            "OTEL_SHED_SHUTDOWN_GRACE": "100",
        }
    )
    assert told.processors == [[*OURS, OUR_OTLP], [*OURS, CONSOLE]]
    assert told.sampler.startswith("ParentBased{root:AdaptiveSampler{root:AlwaysOnSampler}")
    assert told.environ["OTEL_SHED_FLUSH_ON_SIGTERM"] == "true"


def test_found_but_not_named() -> None:
    """Installed and not named, the package changes nothing: distro, configurator and parts are the stock ones."""
    told = launch({"OTEL_TRACES_EXPORTER": "otlp,console", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0.1"})
    assert told.processors == [[*STOCK, STOCK_GRPC], [*STOCK, CONSOLE]]
    assert told.sampler.startswith("ParentBased{root:AlwaysOnSampler")
    assert told.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"  # the stock distro's doing
    assert not [name for name in told.environ if "SHED" in name or name == "OTEL_PYTHON_CONFIGURATOR"]


def test_disabled_by_a_launcher_flag() -> None:
    """--shed_enabled false makes the named distro the stock one, and no name of ours is set."""
    told = launch({"OTEL_PYTHON_DISTRO": "shed", "OTEL_TRACES_EXPORTER": "console"}, "--shed_enabled", "false")
    assert told.processors == [[*STOCK, CONSOLE]]
    assert told.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
    assert "OTEL_TRACES_SAMPLER" not in told.environ
    assert "OTEL_PYTHON_CONFIGURATOR" not in told.environ


def test_the_exporter_and_the_sampler_in_a_stock_set_up() -> None:
    """OTEL_TRACES_EXPORTER=otlp_shed and OTEL_TRACES_SAMPLER=shed work where nothing else of ours is named."""
    with Receiver(grpc_port=None) as receiver:
        told = launch(
            {
                "OTEL_TRACES_EXPORTER": "otlp_shed",
                "OTEL_TRACES_SAMPLER": "shed",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            }
        )
        assert receiver.counts.spans == 1
    assert told.processors == [[*STOCK, "otel_shed.shedder"]]
    assert told.sampler == "AdaptiveSampler{root:AlwaysOnSampler}"


def test_a_configuration_file(tmp_path: Path) -> None:
    """With OTEL_CONFIG_FILE, batch processors are ours with the file's settings; a bad one is a warning."""
    file = tmp_path / "otel.yaml"
    file.write_text(
        """
file_format: "1.0"
tracer_provider:
  sampler: {parent_based: {root: {trace_id_ratio_based: {ratio: 1.0}}}}
  processors:
    - batch: {max_queue_size: 100, schedule_delay: 0, exporter: {console: }}
    - batch: {max_queue_size: 10, max_export_batch_size: 20, exporter: {otlp_shed: {}}}
    - simple: {exporter: {console: }}
"""
    )
    told = launch(
        {
            "OTEL_PYTHON_DISTRO": "shed",
            "OTEL_CONFIG_FILE": str(file),
            "OTEL_TRACES_EXPORTER": "ignored with a file",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_BSP_EXPORT_TIMEOUT": "200",
            "OTEL_SHED_SHUTDOWN_GRACE": "100",
        }
    )
    assert told.processors == [
        [*OURS, CONSOLE],
        [*OURS, OUR_OTLP],
        ["opentelemetry.sdk.trace.export", "SimpleSpanProcessor", CONSOLE],
    ]
    assert told.queues == [100, 10, None]
    assert told.sampler.startswith("ParentBased{root:RatioSampler{1}")
    assert told.log.count("schedule_delay_millis must be a number") == 1
    assert told.log.count("max_export_batch_size is larger than max_queue_size; using 10") == 1
    assert "ignored with a file" not in told.log


def test_code_that_calls_the_configurator() -> None:
    """Without the launcher, and with it not installed, ShedConfigurator().configure() reads the environment."""
    program = f"""
import sys
sys.modules["opentelemetry.instrumentation"] = sys.modules["opentelemetry.distro"] = None
from otel_shed.distro import ShedConfigurator
ShedConfigurator().configure()
{PROGRAM}"""
    told = run([sys.executable, "-c", program], QUIET | {"OTEL_TRACES_EXPORTER": "console"})
    assert told.processors == [[*OURS, CONSOLE]]


def test_the_distro_sets_only_what_is_unset(environ: MutableMapping[str, str]) -> None:
    """What the user set stays; empty counts as unset."""
    environ |= {"OTEL_PYTHON_DISTRO": "shed", "OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": " "}
    environ |= {"OTEL_PYTHON_CONFIGURATOR": "configurator", "OTEL_SHED_FLUSH_ON_SIGTERM": "false"}
    ShedDistro().configure()
    assert environ["OTEL_TRACES_EXPORTER"] == "console"
    assert environ["OTEL_TRACES_SAMPLER"] == "parentbased_shed"
    assert environ["OTEL_PYTHON_CONFIGURATOR"] == "configurator"
    assert environ["OTEL_SHED_FLUSH_ON_SIGTERM"] == "false"


@pytest.mark.parametrize("installed", [True, False], ids=["stock distro", "no stock distro"])
def test_the_disabled_distro(
    environ: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Named and disabled it is the stock distro if there is one, and does nothing if not."""
    environ |= {"OTEL_PYTHON_DISTRO": "shed", "OTEL_SHED_ENABLED": "false"}
    before = dict(environ)
    if not installed:
        monkeypatch.setitem(sys.modules, "opentelemetry.distro", None)
    named = ShedDistro()
    named.configure()
    assert type(named._without_us) is (OpenTelemetryDistro if installed else DefaultDistro)
    assert (environ == before) is not installed


def test_the_distro_loads_instrumentors_as_the_other_does(
    environ: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not named, it leaves the instrumentors to the distro that stands in for it, too."""
    asked: list[Any] = []
    monkeypatch.setattr(OpenTelemetryDistro, "load_instrumentor", lambda self, point, **kw: asked.append((point, kw)))
    found = ShedDistro()
    found.configure()
    found.load_instrumentor("entry point", skip_dep_check=True)
    assert asked == [("entry point", {"skip_dep_check": True})]


def test_a_fault_of_ours_leaves_the_stock_processor(
    environ: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If ours cannot be made, the SDK's own is, with variables that it would raise for made good."""

    def fail(cls: type) -> LoadShedder:
        raise OSError("out of threads")

    environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "100"
    monkeypatch.setattr(LoadShedder, "default", classmethod(fail))
    exporter = InMemorySpanExporter()
    for processor in (substitution.span_processor(exporter), substitution._batch_processor(exporter)):
        assert type(processor) is BatchSpanProcessor
        assert processor.span_exporter is exporter
        processor.shutdown()
    assert shed_sampler() is ALWAYS_ON
    assert parentbased_shed_sampler() is DEFAULT_ON
    assert sum("OSError: out of threads" in line for line in lines(caplog)) == 4


def test_a_fault_of_ours_leaves_the_stock_exporter(
    environ: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If our OTLP exporter cannot be made, its name is left to the SDK."""
    monkeypatch.setitem(sys.modules, "otel_shed.otlp.exporter", None)
    assert substitution.otlp_exporters(["otlp"]) == {}
    assert len(lines(caplog)) == 1


def test_names_of_one_exporter(environ: MutableMapping[str, str]) -> None:
    """Names that come to the same protocol share one exporter, so that no span is sent twice."""
    made = substitution.otlp_exporters(["otlp", "otlp_shed", "console", "otlp_proto_http", "otlp_proto_grpc"])
    assert made["otlp"] is made["otlp_shed"] is made["otlp_proto_grpc"] is not made["otlp_proto_http"]
    assert "console" not in made
    for exporter in made.values():
        exporter.shutdown()


@pytest.fixture
def configured(environ: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the SDK's own configurator is asked to do, in place of doing it."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(ShedConfigurator, "_configure_stock", lambda self, **kwargs: asked.append(kwargs))
    monkeypatch.setattr(distro, "_tracing_is_set_up", lambda: False)
    return asked


@pytest.mark.parametrize("failures", [1, 2])
def test_a_set_up_that_fails(
    configured: list[dict[str, Any]], failures: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the set-up with our parts fails, the SDK gets to do it alone; nothing is raised if that fails as well."""

    def fail(self: ShedConfigurator, **kwargs: Any) -> None:
        configured.append(kwargs)
        if len(configured) <= failures:
            raise RuntimeError("no")

    monkeypatch.setattr(ShedConfigurator, "_configure_stock", fail)
    ShedConfigurator().configure(resource_attributes={"a": "b"})
    assert configured[0]["export_span_processor"] is substitution.span_processor
    assert configured[1:] == [{"resource_attributes": {"a": "b"}}]
    assert len(lines(caplog)) == failures


def test_the_configurator_named_and_disabled(
    configured: list[dict[str, Any]], environ: MutableMapping[str, str]
) -> None:
    """Named and disabled it does what the stock one does, and nothing is repaired for it."""
    environ |= {"OTEL_PYTHON_CONFIGURATOR": "shed", "OTEL_SHED_ENABLED": "false", "OTEL_TRACES_EXPORTER": "bogus"}
    ShedConfigurator().configure(auto_instrumentation_version="1")
    assert configured == [{"auto_instrumentation_version": "1"}]
    assert environ["OTEL_TRACES_EXPORTER"] == "bogus"


def test_the_configurator_found_alone_and_not_named(
    configured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the launcher finds no configurator but ours, nothing is set up, as without the package."""
    monkeypatch.setattr(launcher, "entry_points", lambda group: [])
    ShedConfigurator().configure(auto_instrumentation_version="1")
    assert configured == []


def passing_over(
    found: list[str], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What the real launcher logs about configurators that it finds in this order."""
    homes = {"shed": ShedConfigurator, "configurator": OpenTelemetryConfigurator, "vendor": OpenTelemetryConfigurator}
    points = [mock.Mock(value=f"{homes[name].__module__}:{homes[name].__name__}") for name in found]
    for name, point in zip(found, points, strict=True):
        point.name, point.load.return_value = name, homes[name]
    with monkeypatch.context() as patch:
        patch.setattr(OpenTelemetryConfigurator, "_configure", lambda self, **kwargs: None)
        for module in (_load, launcher):
            patch.setattr(module, "entry_points", lambda group: points)
        for name, value in environ.items():
            patch.setenv(name, value)
        if environ.get("OTEL_PYTHON_DISTRO") == "shed":
            ShedDistro().configure()
        _load._load_configurators()
    told = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return told


def test_the_launcher_logs_nothing_where_all_is_well(
    configured: list[dict[str, Any]],
    environ: MutableMapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Named, ours passes over the others without a line, in whatever order the launcher finds them."""
    distro = {"OTEL_PYTHON_DISTRO": "shed"}
    for found in (["shed", "configurator", "vendor"], ["configurator", "vendor", "shed"]):
        assert passing_over(found, distro, monkeypatch, caplog) == []
    configurator = {"OTEL_PYTHON_CONFIGURATOR": "shed"}
    assert passing_over(["shed", "configurator"], configurator, monkeypatch, caplog) == []
    assert len(configured) == 3


def test_the_launcher_logs_of_others_what_it_would_without_us(
    configured: list[dict[str, Any]],
    environ: MutableMapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not named, the lines are about the configurator that does the work; named beside another one, they all stay."""
    assert passing_over(["shed", "configurator"], {}, monkeypatch, caplog) == []
    (line,) = passing_over(["shed", "configurator", "vendor"], {}, monkeypatch, caplog)
    assert line == "Configuration of vendor not loaded, configurator already loaded"
    both = {"OTEL_PYTHON_DISTRO": "shed", "OTEL_PYTHON_CONFIGURATOR": "configurator"}
    (line,) = passing_over(["shed", "configurator"], both, monkeypatch, caplog)
    assert "Configuration of shed not loaded because configurator is set by" in line
    assert configured == []


def test_what_code_passes_to_the_configurator_counts_as_set(
    configured: list[dict[str, Any]], environ: MutableMapping[str, str]
) -> None:
    """No second exporter is put beside one that the arguments name; what else is unset gets the distro's defaults."""
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    ShedConfigurator().configure(trace_exporter_names=["console"], log_record_processors=[mock.Mock()])
    assert "OTEL_TRACES_EXPORTER" not in environ
    assert "OTEL_LOGS_EXPORTER" not in environ
    assert environ["OTEL_METRICS_EXPORTER"] == "otlp"
    assert environ["OTEL_TRACES_SAMPLER"] == "parentbased_shed"
    assert environ["OTEL_SHED_FLUSH_ON_SIGTERM"] == "true"
    assert configured[0]["span_processors"] == []


def test_an_exporter_of_metrics_that_cannot_be_loaded(
    environ: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out with one line, because it would have the SDK set nothing up at all; traces go on."""
    environ |= {"OTEL_PYTHON_DISTRO": "shed", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.metric_exporter", None)
    ShedDistro().configure()
    assert "OTEL_METRICS_EXPORTER" not in environ
    assert environ["OTEL_LOGS_EXPORTER"] == environ["OTEL_TRACES_EXPORTER"] == "otlp"
    (line,) = lines(caplog)
    assert line.startswith(f"{PREFIX}metrics are not exported: ")


def test_the_configurator_leaves_the_work_to_another(
    configured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not named, it has the configurator do the work that the launcher would have found next."""
    other = mock.Mock()
    found = [mock.Mock(value="otel_shed.distro:ShedConfigurator"), mock.Mock(value="vendor:Configurator", load=other)]
    monkeypatch.setattr(launcher, "entry_points", lambda group: found)
    ShedConfigurator().configure(auto_instrumentation_version="1")
    other.return_value.return_value.configure.assert_called_once_with(auto_instrumentation_version="1")
    assert configured == []


def test_a_file_factory_that_moved(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the private factory is not to be found, batch processors stay stock, with one warning."""
    monkeypatch.setattr(substitution, "_FILE_FACTORIES", ("opentelemetry.configuration.elsewhere", "json"))
    with substitution.batch_processors_of_ours():
        pass
    assert len(lines(caplog)) == 1


def test_a_queue_before_a_queue_is_taken_away(environ: MutableMapping[str, str]) -> None:
    """A SheddingSpanExporter that the SDK made gives its exporter to our processor."""
    exporter = InMemorySpanExporter()
    processor = substitution.span_processor(SheddingSpanExporter(exporter))
    assert isinstance(processor, SheddingSpanProcessor)
    assert processor.span_exporter is exporter
    processor.shutdown()


def test_the_exporter_shares_the_samplers_shedder(environ: MutableMapping[str, str]) -> None:
    """What OTEL_TRACES_EXPORTER=otlp_shed makes is of the process's shedder: its stats, its pressure, its phase."""
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    (entry_point,) = entry_points(group="opentelemetry_traces_exporter", name="otlp_shed")
    exporter = entry_point.load()()
    assert isinstance(exporter, SheddingSpanExporter)
    LoadShedder.default().force_phase(Phase.SHED_OPTIONAL)
    exporter.export([ended_span()])
    assert exporter.force_flush()
    assert LoadShedder.default().stats().summarized == exporter.stats().summarized == 1
    exporter.shutdown()


def test_sampler_factories(environ: MutableMapping[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """They give the samplers of the process's shedder, count for its stats, and take a ceiling as their argument."""
    shed_sampler("").should_sample(None, 1, "root")
    parentbased_shed_sampler(None).should_sample(None, 1, "root")
    assert LoadShedder.default().stats().started == 2
    assert shed_sampler("rate=5").get_description() == "AdaptiveSampler{root:AlwaysOnSampler,ceiling:rate=5}"
    assert lines(caplog) == []


def test_sampler_factories_when_disabled(environ: MutableMapping[str, str]) -> None:
    """OTEL_SHED_ENABLED=false makes them the SDK's always_on and parentbased_always_on."""
    environ["OTEL_SHED_ENABLED"] = "false"
    assert shed_sampler() is ALWAYS_ON
    assert parentbased_shed_sampler().get_description() == DEFAULT_ON.get_description()
