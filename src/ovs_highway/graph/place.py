# SPDX-License-Identifier: Apache-2.0
"""Which cores a graph's VNFs have, and whether the machine has room for it.

A VNF that runs keeps its cores, so that a change elsewhere does not restart it. New ones go near
those that they exchange packets with: on the same NUMA node, if it has cores left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovs_highway import shm
from ovs_highway.graph.marks import Problem
from ovs_highway.graph.needs import Needs, needs, pairs
from ovs_highway.graph.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ovs_highway.graph.model import Graph, Vnf


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """A core, its NUMA node, and the threads of the same physical one, itself included."""

    number: int
    node: int = 0
    siblings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine has to give; sizes are in bytes.

    Attributes:
        switch: cores of the switch's polling threads.
        taken: cores that VNFs of other graphs have for themselves.
        huge_free, memory_free: now, so without what the graph has already.
        nics: NUMA node of each card, by PCI address.
        bar_space: PCI address space that highwayd fills in a VM at most.
        host: its name, as graphs have it.
    """

    cores: tuple[Core, ...]
    switch: frozenset[int] = frozenset()
    taken: frozenset[int] = frozenset()
    huge_free: int
    memory_free: int
    nics: Mapping[str, int] = field(default_factory=dict)
    bar_space: int = 1536 << 20
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where VNFs go.

    Attributes:
        cores: of each VNF; complete only without problems.
        problems: why the machine cannot carry the graph; empty if it can.
        warnings: what will be slow.
    """

    cores: Mapping[str, tuple[int, ...]]
    needs: Needs
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def place(graph: Graph, machine: Machine, actual: State | None = None) -> Placement:
    """Choose cores for a graph that was checked, and add up what it needs beyond `actual`."""
    actual = actual or State()
    placer = _Placer(graph, machine, actual)
    placer.run()
    more = needs(graph, actual)
    problems = (*placer.problems, *_hosts(graph, machine), *_room(more, machine))
    warnings = () if problems else (*_far(graph, machine, placer.cores), *_polling(graph))
    return Placement(cores=placer.cores, needs=more, problems=problems, warnings=warnings)


class _Placer:
    def __init__(self, graph: Graph, machine: Machine, actual: State) -> None:
        self._graph, self._machine, self._actual = graph, machine, actual
        self._all = {core.number: core for core in machine.cores}
        self._free = set(self._all) - machine.switch - machine.taken
        self._neighbours = _neighbours(graph)
        self.cores: dict[str, tuple[int, ...]] = {}
        self.problems: list[Problem] = []

    def run(self) -> None:
        """Place all VNFs: those with cores of their choice, those that run, new ones, shared."""
        vnfs = self._graph.vnfs
        named = [vnf for vnf in vnfs if isinstance(vnf.cores, tuple)]
        own = [vnf for vnf in vnfs if isinstance(vnf.cores, int)]
        for vnf in named:
            assert isinstance(vnf.cores, tuple)
            self._fixed(vnf, vnf.cores)
        for vnf in own:
            running = self._actual.vnfs.get(vnf.name)
            if running and not running.shared and self._fits(vnf, running.cores):
                self._give(vnf, running.cores)
        rest = [vnf for vnf in own if vnf.name not in self.cores]
        if (wanted := sum(map(_count, rest))) > len(self._free):
            shown = ", ".join(f"{vnf.name} {_count(vnf)}" for vnf in rest)
            self._add(
                f"{wanted} cores are needed ({shown}) and {len(self._free)} are free"
                f"{self._those_free()}; give fewer, or cores: shared"
            )
            return
        for vnf in rest:
            self._give(vnf, self._near(vnf))
        self._share([vnf for vnf in vnfs if vnf.cores == "shared"])

    def _fixed(self, vnf: Vnf, cores: tuple[int, ...]) -> None:
        for core in cores:
            if core not in self._all:
                self._add(f"core {core} is not there; there are {_shown(self._all)}", vnf)
            elif core in self._machine.switch:
                self._add(f"core {core} is the switch's; name another one", vnf)
            elif core not in self._free:
                self._add(f"core {core} is another VNF's; name another one", vnf)
        self._give(vnf, cores)

    def _fits(self, vnf: Vnf, cores: tuple[int, ...]) -> bool:
        return len(cores) == vnf.cores and self._free >= {*cores}

    def _give(self, vnf: Vnf, cores: tuple[int, ...]) -> None:
        self.cores[vnf.name] = cores
        self._free -= {*cores}

    def _near(self, vnf: Vnf) -> tuple[int, ...]:
        """Choose free cores: on one node if one has enough, near those that it talks to."""
        free = Counter(self._all[core].node for core in self._free)
        near = Counter(node for name in self._neighbours[vnf.name] for node in self._nodes(name))
        count = _count(vnf)
        nodes = sorted(free, key=lambda node: (free[node] < count, -near[node], -free[node], node))
        return tuple(sorted(self._best(nodes, count)))

    def _best(self, nodes: list[int], count: int) -> list[int]:
        chosen: list[int] = []
        for _ in range(count):
            idle = self._free - {*chosen}
            busy = {*self._all} - idle

            def rank(number: int, busy: set[int] = busy) -> tuple[int, bool, bool, int]:
                core = self._all[number]
                beside = bool({*core.siblings} - {number} & busy)
                # The first core takes most interrupts.
                return nodes.index(core.node), beside, number == min(self._all), number

            chosen.append(min(idle, key=rank))
        return chosen

    def _nodes(self, name: str) -> set[int]:
        """The nodes of a VNF that was placed, or of a card."""
        if name in self._machine.nics:
            return {self._machine.nics[name]}
        return {self._all[core].node for core in self.cores.get(name, ()) if core in self._all}

    def _share(self, vnfs: list[Vnf]) -> None:
        """Deal out what is left, in turn; one that runs keeps its core."""
        if vnfs and not self._free:
            names = ", ".join(vnf.name for vnf in vnfs)
            self._add(f"no core is left for those that share one ({names}); give others fewer")
            return
        load = dict.fromkeys(sorted(self._free), 0)
        new = []
        for vnf in vnfs:
            running = self._actual.vnfs.get(vnf.name)
            if running and running.shared and {*running.cores} <= load.keys():
                self.cores[vnf.name] = running.cores
                load[running.cores[0]] += 1
            else:
                new.append(vnf)
        for vnf in new:
            core = min(load, key=lambda number: (load[number], number))
            load[core] += 1
            self.cores[vnf.name] = (core,)

    def _those_free(self) -> str:
        switch = f"; the switch has {_shown(self._machine.switch)}" if self._machine.switch else ""
        return f" ({_shown(self._free)}{switch})" if self._free else switch

    def _add(self, text: str, vnf: Vnf | None = None) -> None:
        path = ("vnfs", vnf.name, "cores") if vnf else ("vnfs",)
        self.problems.append(Problem(path, text))


def _count(vnf: Vnf) -> int:
    return vnf.cores if isinstance(vnf.cores, int) else 0


def _shown(cores: frozenset[int] | set[int] | Mapping[int, Core]) -> str:
    return ", ".join(map(str, sorted(cores)))


def _neighbours(graph: Graph) -> dict[str, list[str]]:
    """The VNFs and cards with which each VNF exchanges packets, once for each pair of ports."""
    found: dict[str, list[str]] = {vnf.name: [] for vnf in graph.vnfs}
    for end in graph.ends.values():
        if end.vnf is None:
            continue
        for name in sorted(graph.peers(end.name)):
            peer = graph.ends[name]
            if peer.vnf and peer.vnf is not end.vnf:
                found[end.vnf.name].append(peer.vnf.name)
            elif peer.endpoint and peer.endpoint.nic:
                found[end.vnf.name].append(peer.endpoint.nic)
    return found


def _hosts(graph: Graph, machine: Machine) -> Iterator[Problem]:
    for vnf in graph.vnfs:
        if vnf.host and vnf.host != machine.host:
            yield Problem(
                ("vnfs", vnf.name, "host"),
                f"is '{vnf.host}', and this is '{machine.host}'; a graph is on one: take it out",
            )


def _room(more: Needs, machine: Machine) -> Iterator[Problem]:
    if more.huge > machine.huge_free:
        lacking = -(-(more.huge - machine.huge_free) // shm.HUGE_PAGE)
        yield Problem(
            (),
            f"{_mib(more.huge)} MiB of huge pages are needed ({_mib(more.vnfs)} by VNFs,"
            f" {_mib(more.ports)} by ports, {_mib(more.links)} by links) and"
            f" {machine.huge_free >> 20} are free; add {lacking} to vm.nr_hugepages",
        )
    if more.plain > machine.memory_free:
        yield Problem(
            (),
            f"{_mib(more.plain)} MiB of memory are needed and {machine.memory_free >> 20} are free;"
            " give VMs less",
        )
    for name, size in more.bars.items():
        if size > machine.bar_space:
            yield Problem(
                ("vnfs", name),
                f"its ports and links need {_mib(size)} MiB of PCI address space, and a VM has"
                f" {machine.bar_space >> 20}; give it fewer queues or ports, or smaller rings",
            )


def _mib(size: int) -> int:
    return -(-size // (1 << 20))


def _far(graph: Graph, machine: Machine, cores: Mapping[str, tuple[int, ...]]) -> Iterator[Problem]:
    nodes = {core.number: core.node for core in machine.cores}

    def of(name: str) -> set[int]:
        return {nodes[core] for core in cores[name]}

    for one, other in pairs(graph):
        if one.vnf and other.vnf and not of(one.vnf.name) & of(other.vnf.name):
            yield _apart(one.name, of(one.vnf.name), other.name, of(other.vnf.name))
    for end in graph.ends.values():
        nic = end.endpoint.nic if end.endpoint else ""
        for name in sorted(graph.peers(end.name)):
            vnf = graph.ends[name].vnf
            if nic in machine.nics and vnf and machine.nics[nic] not in of(vnf.name):
                yield _apart(end.name, {machine.nics[nic]}, name, of(vnf.name))


def _apart(one: str, nodes: set[int], other: str, others: set[int]) -> Problem:
    return Problem(
        (),
        f"{one} is on NUMA node {min(nodes)} and {other} on {min(others)}: each frame crosses; name"
        " cores of one node if that is too slow",
    )


def _polling(graph: Graph) -> Iterator[Problem]:
    for vnf in graph.vnfs:
        if vnf.cores == "shared":
            for port in vnf.ports:
                if port.idle == "poll":
                    yield Problem(
                        ("vnfs", vnf.name, "ports", port.name, "idle"),
                        "polls on a core that others share, and starves them; give yield or sleep",
                    )
