"""The memory signal: cgroup v1 and v2, the set limit, and files that are not there."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from otel_shed.control.signals.memory import ProcessMemory, cgroup_memory, resident_bytes

MIB = 1 << 20


def lay(root: Path, files: dict[str, object]) -> Path:
    """A file system with these files below ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def v2(root: Path, **files: object) -> Path:
    """A container of cgroup v2 that sees its own group as the root."""
    names = {"limit": "memory.max", "used": "memory.current", "stat": "memory.stat"}
    found: dict[str, object] = {f"sys/fs/cgroup/{names[name]}": text for name, text in files.items()}
    return lay(root, {"proc/self/cgroup": "0::/"} | found)


def test_v2_limit(tmp_path: Path) -> None:
    """cgroup v2: the limit and what is used, less the files that the kernel would let go of."""
    root = v2(tmp_path, limit=100 * MIB, used=90 * MIB, stat=f"anon 5\ninactive_file {30 * MIB}\nactive_file 7")
    cgroup = cgroup_memory(root)
    assert cgroup is not None
    assert (cgroup.limit, cgroup.used()) == (100 * MIB, 60 * MIB)


def test_far_from_the_limit_one_file_is_enough(tmp_path: Path) -> None:
    """Where even with those files there is room, nobody asks for them: that file is slow to read on large machines."""
    cgroup = cgroup_memory(v2(tmp_path, limit=100 * MIB, used=50 * MIB, stat=f"inactive_file {30 * MIB}"))
    assert cgroup is not None
    assert cgroup.used() == 50 * MIB


def test_v2_without_a_limit(tmp_path: Path) -> None:
    """cgroup v2 says `max` where there is none."""
    assert cgroup_memory(v2(tmp_path, limit="max", used=90 * MIB)) is None


def test_v2_the_tightest_group_counts(tmp_path: Path) -> None:
    """A limit holds for all groups below it, whichever of them the process is in."""
    root = lay(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/app.service/worker",
            "sys/fs/cgroup/system.slice/memory.max": 80 * MIB,
            "sys/fs/cgroup/system.slice/memory.current": 20 * MIB,
            "sys/fs/cgroup/system.slice/app.service/memory.max": 200 * MIB,
            "sys/fs/cgroup/system.slice/app.service/worker/memory.max": "max",
        },
    )
    cgroup = cgroup_memory(root)
    assert cgroup is not None
    assert (cgroup.limit, cgroup.used()) == (80 * MIB, 20 * MIB)


def test_v1_limit(tmp_path: Path) -> None:
    """cgroup v1: other names, the same meaning."""
    root = lay(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/app\n4:memory:/app\n1:name=systemd:/app",
            "sys/fs/cgroup/memory/app/memory.limit_in_bytes": 100 * MIB,
            "sys/fs/cgroup/memory/app/memory.usage_in_bytes": 95 * MIB,
            "sys/fs/cgroup/memory/app/memory.stat": f"inactive_file 1\ntotal_inactive_file {10 * MIB}",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        },
    )
    cgroup = cgroup_memory(root)
    assert cgroup is not None
    assert (cgroup.limit, cgroup.used()) == (100 * MIB, 85 * MIB)


def test_v1_in_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    """The path names a group of the host's that is not there; the mount itself is the container's own group."""
    root = lay(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/0123456789abcdef\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 64 * MIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": 32 * MIB,
        },
    )
    cgroup = cgroup_memory(root)
    assert cgroup is not None
    assert (cgroup.limit, cgroup.used()) == (64 * MIB, 32 * MIB)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": ""},
        {"proc/self/cgroup": "nonsense\n::\n0:x"},
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "0"},
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "-7"},
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "9" * 400},
        {"proc/self/cgroup": "0::/../../../etc", "sys/fs/cgroup/memory.max": ""},
        {"proc/self/cgroup": "4:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712},
    ],
)
def test_no_limit_is_no_limit(tmp_path: Path, files: dict[str, object]) -> None:
    """Where there are no control groups, or they say something else, there is no limit and no error."""
    assert cgroup_memory(lay(tmp_path, files)) is None


def test_this_machine_can_be_read() -> None:
    """Whatever this machine's control groups are, reading them ends in a limit or in none."""
    cgroup = cgroup_memory()
    assert cgroup is None or cgroup.limit > 0


@pytest.mark.parametrize(
    ("used", "low", "high"), [(60, 0.0, 0.0), (70, 0.0, 0.0), (85, 0.49, 0.51), (91, 0.75, 0.85), (97, 0.95, 1.0)]
)
def test_pressure_by_use(used: int, low: float, high: float) -> None:
    """Nothing up to 0.70 of the limit, DEGRADE from a good 0.90, SHED_OPTIONAL from 0.96."""
    reading = ProcessMemory(100, resident=lambda: used).read(0.0)
    assert low <= reading.pressure <= high
    assert reading.reason == "memory"


def test_a_set_limit_goes_before_the_groups(tmp_path: Path) -> None:
    """A limit from the settings is held against the process itself."""
    cgroup = cgroup_memory(v2(tmp_path, limit=100 * MIB, used=99 * MIB))
    assert ProcessMemory(1000, resident=lambda: 10, cgroup=cgroup).read(0.0).pressure == 0.0
    assert ProcessMemory(cgroup=cgroup, resident=lambda: 10).read(0.0).pressure > 0.95


def test_without_a_limit_nothing_is_read() -> None:
    """Neither set nor found: no pressure, and no system call."""

    def never() -> int:
        raise AssertionError

    assert ProcessMemory(resident=never).read(0.0).pressure == 0.0


def test_read_once_a_second() -> None:
    """Memory is looked at once a second, and again when the clock goes back."""
    reads = []

    def resident() -> int:
        reads.append(1)
        return 95

    signal = ProcessMemory(100, resident=resident)
    for now in (0.0, 0.1, 0.9, 1.0, 1.5, 0.5, 0.6):
        assert signal.read(now).pressure > 0.9
    assert len(reads) == 3


def test_a_group_that_vanishes_counts_as_before(tmp_path: Path) -> None:
    """A file that cannot be read any more leaves the last value."""
    signal = ProcessMemory(cgroup=cgroup_memory(v2(tmp_path, limit=100 * MIB, used=95 * MIB)))
    pressure = signal.read(0.0).pressure
    (tmp_path / "sys/fs/cgroup/memory.current").unlink()
    assert signal.read(2.0).pressure == pressure > 0.9


def test_resident_memory_is_this_processs() -> None:
    """What is read without a group is the process's own resident memory."""
    assert resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
