"""Memory: what the process or its container uses, against what it may use before it is killed.

``cgroup_memory`` reads where the limit is once; the signal reads files of the kernel's own at most once a second, on
whichever thread evaluates the brownout. The rule: a file that is not there or says something else means that nothing
is known, never that there is no memory left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from otel_shed.control.pressure import PressureReading, memory_shape

# Many a program lives well at two thirds of its limit; where memory runs out for good it passes 0.9, which is 0.74.
START = 0.70
# Memory does not come and go within a tenth of a second, and reading it is a system call or two.
READ_SECONDS = 1.0
# cgroup v1 has no word for "no limit": it is the largest number of pages, or of bytes less what pages leave over.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class _Version:
    """What cgroup v1 and v2 call the same things."""

    folder: str
    controller: str
    limit: str
    usage: str
    reclaimable: str


_V2 = _Version("", "", "memory.max", "memory.current", "inactive_file")
# On a machine that mixes both, v2's tree has no memory controller and is mounted beside.
_V1 = _Version("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    """The memory cgroup with the tightest limit of those that the process is in. limit: bytes."""

    limit: int
    folder: Path
    version: _Version

    def used(self) -> int | None:
        """Bytes in use that cannot simply be taken back, which is what counts before the process is killed."""
        usage = _number(self.folder / self.version.usage)
        if usage is None or usage < START * self.limit:  # the longer look is for those who are near
            return usage
        return max(0, usage - self._reclaimable())

    def _reclaimable(self) -> int:
        """Bytes of files that the kernel keeps in memory only as long as there is room."""
        for line in _text(self.folder / "memory.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == self.version.reclaimable and value.isdecimal():
                return int(value)
        return 0


def cgroup_memory(root: Path = Path("/")) -> CgroupMemory | None:
    """The tightest memory limit that the process's control groups set; None without one, or where there are none.

    ``root``: the file system's root; the files read are proc/self/cgroup and those below sys/fs/cgroup.
    """
    found = [
        CgroupMemory(limit, folder, version)
        for folder, version in _folders(root)
        if (limit := _number(folder / version.limit)) is not None and 0 < limit < _NO_LIMIT
    ]
    return min(found, key=lambda each: each.limit, default=None)


def _folders(root: Path) -> Iterator[tuple[Path, _Version]]:
    """Every group that the process is in, innermost first: a limit holds for all that is below it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for version in (_V2, _V1):
            if version is _V2 and (number, controllers) != ("0", ""):
                continue
            if version is _V1 and version.controller not in controllers.split(","):
                continue
            # In a container whose groups are hidden the path is one of the host's: its own group is the mount itself.
            mount = root / "sys/fs/cgroup" / version.folder
            parts = [part for part in path.split("/") if part not in ("", ".", "..")]
            for depth in range(len(parts), -1, -1):
                yield mount.joinpath(*parts[:depth]), version


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() and len(text) < 20 else None


def resident_bytes() -> int:
    """What the process has in memory; asked of a new object each time, as one made before a fork is the parent's."""
    return int(psutil.Process().memory_info().rss)


class ProcessMemory:
    """Memory in use against its limit: nothing below 0.70 of it, 0.50 at 0.85, 0.75 at 0.90, 0.95 at 0.96.

    A limit that is set is held against the process's resident memory; without one, the limit of the process's control
    group against what the whole group uses, which is what the kernel goes by. Where there is neither, it reads 0.
    """

    name = "memory"

    def __init__(
        self,
        limit: int | None = None,
        *,
        resident: Callable[[], int] = resident_bytes,
        cgroup: CgroupMemory | None = None,
    ) -> None:
        """``limit``: bytes; None for that of ``cgroup``, which is ``cgroup_memory()``'s to find."""
        self.limit = limit or (cgroup.limit if cgroup else None)
        self._used: Callable[[], int | None] = resident if limit or cgroup is None else cgroup.used
        self._read_at = -math.inf
        self._pressure = 0.0

    def read(self, now: float) -> PressureReading:
        if self.limit and not 0.0 <= now - self._read_at < READ_SECONDS:
            self._read_at = now
            used = self._used()
            if used is not None:
                self._pressure = memory_shape(used / self.limit, start=START)
        return PressureReading(self._pressure, self.name)
