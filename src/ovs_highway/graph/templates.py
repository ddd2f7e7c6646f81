# SPDX-License-Identifier: Apache-2.0
"""Command lines of the stock DPDK programs that Debian ships, by names for graphs.

Of the programs in the packages dpdk and dpdk-dev, testpmd is the one that forwards packets of any
ports without further files; the others are tools (pdump, proc-info) and tests of libraries.

In a command of the graph's own, `{vdevs}`, `{lcores}`, `{memory}` (MiB) and `{prefix}` stand for
what a template would have.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.graph.marks import hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.graph.model import Vnf

TESTPMD: Final = "dpdk-testpmd"
_STATS_PERIOD: Final = 60
_MBUF: Final = 2560
_BESIDES: Final = 32 << 20
"""Bytes of huge pages: of an mbuf with its buffer, and of all else that testpmd allocates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A way to run testpmd.

    Attributes:
        mode: its `--forward-mode`.
        pairs: it takes ports in pairs: what comes in at one goes out at the other.
        options: names of numbers that a graph may give, with their least, greatest and default.
    """

    mode: str
    says: str
    pairs: bool
    options: tuple[tuple[str, int, int, int], ...] = ()


_BURST: Final = ("burst", 1, 512, 32)
_MBUFS: Final = ("mbufs", 2048, 1 << 20, 16384)
_SIZE: Final = ("size", 60, 9000, 60)
_FORWARD: Final = (_BURST, _MBUFS)

TEMPLATES: Final = {
    "forward": Template(
        mode="io", says="each port of a pair to the other", pairs=True, options=_FORWARD
    ),
    "forward-mac": Template(
        mode="mac", says="the same, with new MAC addresses", pairs=True, options=_FORWARD
    ),
    "swap-mac": Template(
        mode="macswap",
        says="the same, with source and destination MAC swapped",
        pairs=True,
        options=_FORWARD,
    ),
    "swap-flow": Template(
        mode="5tswap",
        says="the same, with MACs, addresses and TCP or UDP ports swapped",
        pairs=True,
        options=_FORWARD,
    ),
    "checksum": Template(
        mode="csum", says="the same, with checksums made anew", pairs=True, options=_FORWARD
    ),
    "source": Template(
        mode="txonly",
        says="sends UDP frames of `size` bytes (without checksum) as fast as it can",
        pairs=False,
        options=(*_FORWARD, _SIZE),
    ),
    "sink": Template(mode="rxonly", says="takes everything", pairs=False, options=_FORWARD),
    "ping": Template(
        mode="icmpecho", says="answers ARP and echo requests", pairs=False, options=_FORWARD
    ),
}


def problems(vnf: Vnf) -> Iterator[tuple[tuple[str, ...], str]]:
    """Return what is wrong with how a VNF uses its template: field and text."""
    template = TEMPLATES.get(vnf.template)
    if template is None:
        yield ("template",), f"there is no '{vnf.template}'{hint(vnf.template, TEMPLATES)}"
        return
    if template.pairs and len(vnf.ports) > 1 and len(vnf.ports) % 2:
        yield (
            ("ports",),
            f"'{vnf.template}' takes ports in pairs, and there are {len(vnf.ports)}; give an even"
            " number",
        )
    limits = {name: (least, most) for name, least, most, _ in template.options}
    for name, value in (vnf.options or {}).items():
        if name not in limits:
            yield ("options", name), f"'{vnf.template}' has no such option{hint(name, limits)}"
        elif not isinstance(value, int) or not limits[name][0] <= value <= limits[name][1]:
            least, most = limits[name]
            yield ("options", name), f"is {value!r}; give a number from {least} to {most}"
    mbufs = _options(vnf, template)["mbufs"]
    if isinstance(mbufs, int) and vnf.memory < (need := mbufs * _MBUF + _BESIDES):
        yield (
            ("memory",),
            f"is {vnf.memory >> 20} MiB, and {mbufs} mbufs need {(need >> 20) + 1}; give more, or"
            " fewer as options: {mbufs: …}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a program runs.

    Attributes:
        cores: those it forwards on; its main thread, which mostly sleeps, is on the first.
        shared: others are on them too, so its ports sleep unless the graph tells otherwise.
        prefix: EAL's `--file-prefix`, one of each program.
    """

    cores: tuple[int, ...]
    shared: bool
    prefix: str

    @property
    def lcores(self) -> str:
        """EAL's `--lcores`."""
        return ",".join(
            f"{lcore}@{core}" for lcore, core in enumerate((self.cores[0], *self.cores))
        )


def command_line(vnf: Vnf, place: Place) -> tuple[str, ...]:
    """Return the words of the command of a VNF that was checked; none for a VM."""
    if vnf.template:
        return _testpmd(vnf, place)
    words = shlex.split(vnf.command) if isinstance(vnf.command, str) else vnf.command
    return tuple(part for word in words for part in _filled(word, vnf, place))


def _testpmd(vnf: Vnf, place: Place) -> tuple[str, ...]:
    """It runs without a terminal until it gets a signal, and prints statistics once a minute."""
    template = TEMPLATES[vnf.template]
    option = _options(vnf, template)
    queues = min(port.queues for port in vnf.ports)
    return (
        *(TESTPMD, "--no-pci", "--in-memory", "--no-telemetry", "--file-prefix", place.prefix),
        *("--lcores", place.lcores, "-m", str(vnf.memory >> 20)),
        *_vdevs(vnf, place),
        "--",
        f"--forward-mode={template.mode}",
        f"--nb-cores={len(place.cores)}",
        f"--rxq={queues}",
        f"--txq={queues}",
        f"--burst={option['burst']}",
        f"--total-num-mbufs={option['mbufs']}",
        *((f"--txpkts={option['size']}",) if "size" in option else ()),
        f"--stats-period={_STATS_PERIOD}",
        "--no-mlockall",
    )


def _filled(word: str, vnf: Vnf, place: Place) -> tuple[str, ...]:
    if word == "{vdevs}":
        return _vdevs(vnf, place)
    for name, value in (
        ("{lcores}", place.lcores),
        ("{memory}", str(vnf.memory >> 20)),
        ("{prefix}", place.prefix),
    ):
        word = word.replace(name, value)
    return (word,)


def _vdevs(vnf: Vnf, place: Place) -> tuple[str, ...]:
    """EAL's `--vdev` for each port."""
    found: list[str] = []
    for number, port in enumerate(vnf.ports):
        idle = port.idle or ("sleep" if place.shared else "poll")
        found += ("--vdev", f"net_highway{number},port={vnf.ovs_port(port)},idle={idle}")
    return tuple(found)


def _options(vnf: Vnf, template: Template) -> dict[str, str | int]:
    defaults: dict[str, str | int] = {name: default for name, _, _, default in template.options}
    return defaults | (vnf.options or {})
