# SPDX-License-Identifier: Apache-2.0
"""What a result depends on: processor, caches, kernel, versions, huge pages.

Read from /proc and /sys; what cannot be read is left out, and nothing raises.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import ovs_highway

ROOT: Final = Path("/")
_CPU: Final = "sys/devices/system/cpu"
_HUGE: Final = "sys/kernel/mm/hugepages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """A core, the cores that are threads of the same one, and those that share its caches.

    `cache_shared_with` are those of its last cache, `l2_shared_with` those of its L2 cache.
    """

    number: int
    siblings: tuple[int, ...]
    cache_shared_with: tuple[int, ...]
    last_cache: str
    l2_shared_with: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which core does what: two for VNFs, one for the switch's polling thread.

    Attributes:
        vnfs: of a large machine: a core for each VNF of a chain.
        switches: of a large machine: all cores of the switch.
    """

    first: int
    second: int
    switch: int
    vnfs: tuple[int, ...] = ()
    switches: tuple[int, ...] = ()

    @property
    def chain(self) -> tuple[int, ...]:
        """The cores that the VNFs of a chain take in turn; one only if they share it."""
        return self.vnfs or (self.first,)

    @property
    def pmd_mask(self) -> str:
        """The switch's cores as `pmd-cpu-mask` has them."""
        return f"{sum(1 << core for core in self.switches or (self.switch,)):x}"

    @property
    def described(self) -> str:
        """Say who is where, for the notes of results."""
        switches = ", ".join(map(str, self.switches or (self.switch,)))
        if self.vnfs:
            return f"each VNF on a core of its own, the switch's polling threads on {switches}"
        return f"all VNFs on core {self.first}, the switch's polling thread alone on {switches}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts of a machine at one time; `date` is in UTC, sizes are in KiB."""

    cpu: str
    virtual: bool
    cores: tuple[Core, ...]
    memory_kib: int
    kernel: str
    system: str
    huge_pages: dict[str, dict[str, int]]
    load: tuple[float, float, float]
    date: str
    ovs_highway: str

    def json(self) -> dict[str, Any]:
        """Return the facts as JSON has them."""
        return asdict(self)


def parse_list(text: str) -> tuple[int, ...]:
    """Parse a list of cores as the kernel writes it: `0-2,8` is (0, 1, 2, 8); '' is ()."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def gather(root: Path = ROOT) -> Machine:
    """Read the facts of this machine, or of a copy of its files below `root`."""
    cpuinfo = _text(root / "proc/cpuinfo")
    names = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo, re.MULTILINE))
    memory = re.search(r"^MemTotal:\s+(\d+)", _text(root / "proc/meminfo"), re.MULTILINE)
    release = re.search(r'^PRETTY_NAME="?(.*?)"?$', _text(root / "etc/os-release"), re.MULTILINE)
    return Machine(
        cpu=names.get("model name", platform.machine()),
        virtual="hypervisor" in names.get("flags", "").split(),
        cores=tuple(read_core(number, root) for number in sorted(os.sched_getaffinity(0))),
        memory_kib=int(memory[1]) if memory else 0,
        kernel=platform.release(),
        system=release[1] if release else platform.system(),
        huge_pages=_huge_pages(root),
        load=os.getloadavg(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        ovs_highway=ovs_highway.__version__,
    )


def read_core(number: int, root: Path = ROOT) -> Core:
    """Read what the kernel tells of one core."""
    base = root / _CPU / f"cpu{number}"
    caches = [
        (int(_text(index / "level") or 0), index)
        for index in base.glob("cache/index*")
        if _text(index / "type").strip() != "Instruction"
    ]
    level, last = max(caches, default=(0, base))
    second = dict(caches).get(2, base)
    return Core(
        number=number,
        siblings=parse_list(_text(base / "topology/thread_siblings_list")) or (number,),
        cache_shared_with=parse_list(_text(last / "shared_cpu_list")) or (number,),
        last_cache=f"L{level} {_text(last / 'size').strip()}" if level else "",
        l2_shared_with=parse_list(_text(second / "shared_cpu_list")) or (number,),
    )


def topology(cores: tuple[Core, ...], first: int, second: int) -> str:
    """Return how near two cores are: `SMT siblings`, `shared L2`, `shared L3` or `apart`.

    A virtual machine is told what its host chose to tell it; what is not told counts as apart.
    """
    one = next((core for core in cores if core.number == first), None)
    if one is None or first == second:
        return "one core" if first == second else "apart"
    if second in one.siblings:
        return "SMT siblings"
    if second in one.l2_shared_with:
        return "shared L2"
    if second in one.cache_shared_with:
        return f"shared {one.last_cache.split()[0]}" if one.last_cache else "apart"
    return "apart"


def place(cores: tuple[Core, ...]) -> Placement | None:
    """Choose cores: real ones rather than threads of one, near each other; None for fewer than 2.

    The switch gets a core of its own if there are three, else it shares the second one.
    """
    whole = {core.siblings: core for core in reversed(cores)}
    chosen = sorted(whole.values(), key=lambda core: core.number)
    if len(chosen) < 2:
        chosen = list(cores)
    if len(chosen) < 2:
        return None
    groups: dict[tuple[int, ...], list[int]] = {}
    for core in chosen:
        groups.setdefault(core.cache_shared_with, []).append(core.number)
    largest = max(groups.values(), key=len)
    rest = [core.number for core in chosen if core.number not in largest]
    near = [*largest, *rest]
    if len(near) == 2:
        return Placement(first=near[0], second=near[1], switch=near[1])
    # The first core takes most interrupts: leave it out where there is a choice.
    near = near[1:] if len(near) > 3 else near
    return Placement(first=near[0], second=near[1], switch=near[2])


def place_large(cores: tuple[Core, ...], *, vnfs: int, switches: int) -> Placement | None:
    """Choose a core for each VNF of a chain and some for the switch; None if they do not suffice.

    One is left for everything else. Cores that share their last cache come first.
    """
    whole = sorted(
        {core.siblings: core for core in reversed(cores)}.values(), key=lambda core: core.number
    )
    groups: dict[tuple[int, ...], list[int]] = {}
    for core in whole:
        groups.setdefault(core.cache_shared_with, []).append(core.number)
    near = [number for group in sorted(groups.values(), key=len, reverse=True) for number in group]
    if len(near) < vnfs + switches + 1:
        return None
    # The first core takes most interrupts.
    rest = [number for number in near if number != whole[0].number]
    chosen, beside = rest[:vnfs], rest[vnfs : vnfs + switches]
    return Placement(
        first=chosen[0],
        second=chosen[1],
        switch=beside[0],
        vnfs=tuple(chosen),
        switches=tuple(beside),
    )


def _huge_pages(root: Path) -> dict[str, dict[str, int]]:
    found = {}
    for folder in sorted((root / _HUGE).glob("hugepages-*")):
        size = folder.name.removeprefix("hugepages-")
        found[size] = {
            "total": int(_text(folder / "nr_hugepages") or 0),
            "free": int(_text(folder / "free_hugepages") or 0),
        }
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
