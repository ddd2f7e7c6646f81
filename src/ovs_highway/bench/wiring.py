# SPDX-License-Identifier: Apache-2.0
"""VNFs and how they are wired through the switch: over the highway, and in the traditional ways.

VNFs are unmodified testpmd processes with the same command lines in every way but for the kind of
port. *Traditional* is a switch without offload: each frame passes its core on every hop.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ovs_highway.bench import threads
from ovs_highway.bench.command import links
from ovs_highway.bench.sample import NICENESS
from ovs_highway.bench.testbed import BRIDGE, SLEEP_US, Testbed
from ovs_highway.errors import SandboxError
from ovs_highway.lab import TestPmd
from ovs_highway.lab.latency import Latency
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ovs_highway.bench.machine import Placement
    from ovs_highway.bench.sample import Sample, Sampler

SIZE: Final = 60
"""The shortest frame, in bytes: 64 with the frame check sequence."""
RING: Final = 1024
BURST: Final = 32
PATIENCE: Final = 20.0
_QUIET: Final = 0.2
LATENCY: Final = "latency"
_EAL_ARGS: Final = ("--single-file-segments",)  # vhost-user wants few memory segments
_FCS: Final = 4  # which flowgen leaves out of the length that it is told (flowgen.c)
_GAIN: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way from VNF to VNF.

    Attributes:
        offload: the switch has `hw-offload=true`, without which there is no bypass.
        vhost: ports are dpdkvhostuserclient, the VNF's driver is net_virtio_user.
    """

    what: str
    offload: bool = False
    vhost: bool = False


WAYS: Final = {
    "highway": Way(what="direct, over bypass channels", offload=True),
    "normal": Way(what="traditional: hw-offload=false, normal channel of our ports"),
    "vhostuser": Way(
        what="traditional: hw-offload=false, dpdkvhostuserclient and net_virtio_user", vhost=True
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnf:
    """A VNF to be started: testpmd in a forwarding mode, with one thread on `core`.

    In the mode `latency` it is not testpmd but the program of that name.
    """

    name: str
    ports: tuple[str, ...]
    core: int
    forward: str = "io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A port of the switch of another driver: its name, and its columns in the database."""

    name: str
    columns: tuple[str, ...]


class Wiring(Testbed):
    """A switch for one way: `with Wiring(cores, way="normal", sampler=…) as bed:`.

    Its thread polls all the time, unless it is to sleep where it has nothing to do. `devargs` are
    those of VNFs at our ports.

    Raises:
        SandboxError: on entering: the switch does not start.
    """

    def __init__(
        self,
        placement: Placement,
        *,
        way: str,
        sampler: Sampler,
        sleeping: bool = False,
        devargs: str = "idle=yield",
        pci: Sequence[str] = (),
    ) -> None:
        self.way = WAYS[way]
        super().__init__(
            placement,
            pci=pci,
            **{"hw-offload": "true" if self.way.offload else "false"},
            **{"pmd-maxsleep": str(SLEEP_US if sleeping else 0)},
        )
        self._sampler = sampler
        self._devargs = f",{devargs}" if devargs else ""

    @contextlib.contextmanager
    def running(
        self,
        vnfs: Sequence[Vnf],
        hops: Sequence[tuple[str, str]],
        *,
        size: int = SIZE,
        foreign: Sequence[Foreign] = (),
    ) -> Iterator[Running]:
        """Wire VNFs up, in both directions of each hop, and start them.

        Args:
            size: of frames that VNFs make, in bytes without the frame check sequence.

        Raises:
            SandboxError: something does not start.
        """
        ports = [port for vnf in vnfs for port in vnf.ports]
        numbers = {name: n for n, name in enumerate([*ports, *(f.name for f in foreign)], 1)}
        with contextlib.ExitStack() as stack:
            stack.callback(self._clear, list(numbers))
            for port in ports:
                self._add_port(port, numbers[port])
            for other in foreign:
                number = numbers[other.name]
                self.sandbox.add_dpdk_port(BRIDGE, other.name, "dpdk", number, *other.columns)
            programs: list[TestPmd | Latency] = []
            for vnf in vnfs:
                if vnf.forward == LATENCY:
                    programs.append(stack.enter_context(self._latency(vnf)))
                else:
                    programs.append(stack.enter_context(self._testpmd(vnf, size)))
            self._await_links(vnfs, programs)
            self.sandbox.ofctl("del-flows", BRIDGE)
            for one, two in hops:
                for source, target in {(one, two), (two, one)}:
                    output = "in_port" if one == two else f"output:{numbers[target]}"
                    flow = f"in_port={numbers[source]},actions={output}"
                    self.sandbox.ofctl("add-flow", BRIDGE, flow)
            yield Running(self, vnfs, programs, self._sampler)

    def _clear(self, ports: Sequence[str]) -> None:
        self.sandbox.ofctl("del-flows", BRIDGE)
        words = [word for name in ports for word in ("--", "--if-exists", "del-port", BRIDGE, name)]
        self.sandbox.vsctl(*words[1:])

    def _socket(self, port: str) -> str:
        return f"{self.sandbox.rundir}/vhost-{port}.sock"

    def _add_port(self, name: str, number: int) -> None:
        if self.way.vhost:
            path = f'options:vhost-server-path="{self._socket(name)}"'
            self.sandbox.add_dpdk_port(BRIDGE, name, "dpdkvhostuserclient", number, path)
        else:
            self.sandbox.add_port(BRIDGE, name, number, ring_size=RING)

    def _vdev(self, number: int, port: str) -> str:
        if self.way.vhost:
            rest = f"server=1,queues=1,queue_size={RING}"
            return f"net_virtio_user{number},path={self._socket(port)},{rest}"
        return f"net_highway{number},port={port}{self._devargs}"

    def _vdevs(self, vnf: Vnf) -> list[str]:
        return [self._vdev(number, port) for number, port in enumerate(vnf.ports)]

    def _latency(self, vnf: Vnf) -> Latency:
        return Latency(
            vnf.name,
            vdevs=self._vdevs(vnf),
            core=vnf.core,
            eal_args=_EAL_ARGS,
            env=self.sandbox.env,
        )

    def _testpmd(self, vnf: Vnf, size: int) -> TestPmd:
        generates = vnf.forward == "flowgen"
        return TestPmd(
            vnf.name,
            vdevs=self._vdevs(vnf),
            cores=[vnf.core],
            main_core=vnf.core,
            forward=vnf.forward,
            eal_args=_EAL_ARGS,
            app_args=[f"--burst={BURST}", f"--txpkts={size + (_FCS if generates else 0)}"],
            env=self.sandbox.env,
        )

    def _await_links(self, vnfs: Sequence[Vnf], programs: Sequence[TestPmd | Latency]) -> None:
        for vnf, program in zip(vnfs, programs, strict=True):
            for port in range(len(vnf.ports)):
                program.wait_link_up(port, timeout=PATIENCE)
        ports = [port for vnf in vnfs for port in vnf.ports]
        get = [word for name in ports for word in ("--", "get", "Interface", name, "link_state")]

        def up() -> bool:
            return self.sandbox.vsctl(*get[1:]).split() == ["up"] * len(ports)

        if not wait_until(up, PATIENCE, interval=0.05):
            raise SandboxError("the switch does not see the links of all its ports up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Cycles per packet, polls that found none left out, of a clock of `hz`."""

    cycles: float
    hz: float


class Running:
    """VNFs that are wired up."""

    def __init__(
        self,
        bed: Wiring,
        vnfs: Sequence[Vnf],
        programs: Sequence[TestPmd | Latency],
        sampler: Sampler,
    ) -> None:
        self._bed, self._vnfs, self._sampler = bed, vnfs, sampler
        self._all = {vnf.name: program for vnf, program in zip(vnfs, programs, strict=True)}
        self.programs = {n: each for n, each in self._all.items() if isinstance(each, TestPmd)}

    @property
    def probe(self) -> Latency:
        """The one VNF that measures latency."""
        (found,) = [each for each in self._all.values() if isinstance(each, Latency)]
        return found

    @property
    def pids(self) -> list[int]:
        """The process ids of all VNFs, first to last."""
        return [each.pid for each in self._all.values()]

    def begin(self, *, tx_first: Mapping[str, int] | None = None) -> None:
        """Let all VNFs forward, the last one first; some send bursts first, on every port."""
        daemon = self._bed.sandbox.daemon("ovs-vswitchd").pid
        for program in self.programs.values():
            program.command("set record-core-cycles on")
        threads.prioritize([*self.pids, daemon], NICENESS)
        for name, program in reversed(list(self.programs.items())):
            program.start(tx_first=(tx_first or {}).get(name, 0))

    def sample(self, ends: Sequence[tuple[str, int]], *, cores: tuple[int, int]) -> Sample:
        """Count what VNFs receive per second at some ports: of a VNF, by its name, the port's id.

        Raises:
            SandboxError: over the highway, a VNF goes on receiving on its normal channel.
        """
        read = [(self.programs[name], port) for name, port in ends]

        def received() -> tuple[int, int]:
            stats = [program.stats(port) for program, port in read]
            return sum(one.rx_packets for one in stats), sum(one.rx_bytes for one in stats)

        return self.sample_count(received, cores=cores)

    def sample_count(
        self,
        count: Callable[[], tuple[int, int]],
        *,
        cores: tuple[int, int],
        normal: Collection[tuple[str, int]] = (),
    ) -> Sample:
        """Measure a rate; `count` reads how many packets and bytes there have been so far.

        Args:
            normal: VNFs and ports that have no other channel than the normal one.

        Raises:
            SandboxError: over the highway, another VNF receives on its normal channel.
        """
        daemon = self._bed.sandbox.daemon("ovs-vswitchd").pid
        self._await_bypass(normal)
        before = self.strayed(normal)
        taken = self._sampler.take(count, pids=[daemon], cores=cores)
        strayed = self.strayed(normal) - before
        if strayed > (1 - _GAIN) * taken.packets:
            raise SandboxError(
                f"{strayed} packets took the normal channel, {taken.packets} arrived;"
                f" {self.links()}"
            )
        return replace(
            taken,
            command_lines=self.command_lines,
        )

    @property
    def command_lines(self) -> tuple[str, ...]:
        """How each VNF was started, first to last."""
        return tuple(" ".join(each.command_line) for each in self._all.values())

    def strayed(self, normal: Collection[tuple[str, int]] = ()) -> int:
        """Return what VNFs have received on normal channels though they should not."""
        if not self._bed.way.offload:
            return 0
        return sum(
            self._all[vnf.name].xstats(port).get("rx_normal_packets", 0)
            for vnf in self._vnfs
            for port in range(len(vnf.ports))
            if (vnf.name, port) not in normal
        )

    def _await_bypass(self, normal: Collection[tuple[str, int]]) -> None:
        """Wait until nobody receives on a normal channel any more who should not."""

        def quiet() -> bool:
            before = self.strayed(normal)
            time.sleep(_QUIET)
            return self.strayed(normal) == before

        if self._bed.way.offload and not wait_until(quiet, PATIENCE, interval=_QUIET):
            raise SandboxError(f"frames do not take the bypass: {self.links()}")

    def links(self) -> str:
        """Return what `highway links` says, in one line."""
        return links(self._bed.sandbox)

    def busy(self, name: str) -> Busy:
        """Return what a VNF's thread has spent on packets.

        Raises:
            SandboxError: testpmd does not tell.
        """
        text = self.programs[name].command("show fwd stats all")
        found = re.search(r"CPU cycles/packet=([\d.]+) .* at (\d+) MHz", text)
        if found is None:
            raise SandboxError(f"testpmd {name} tells no cycles; see {self.programs[name].log}")
        return Busy(cycles=float(found[1]), hz=int(found[2]) * 1e6)

    def clear_switch(self) -> None:
        """Begin to count the switch's cycles."""
        self._bed.sandbox.appctl("dpif-netdev/pmd-stats-clear")

    def switch_cycles(self) -> float:
        """Return how many cycles the switch's thread has spent per packet while it had some.

        Raises:
            SandboxError: it does not tell.
        """
        text = self._bed.sandbox.appctl("dpif-netdev/pmd-stats-show")
        found = re.search(r"avg processing cycles per packet: ([\d.]+)", text)
        if found is None:
            raise SandboxError("ovs-vswitchd tells no cycles: no packet has passed it")
        return float(found[1])


__all__ = ["BURST", "RING", "SIZE", "WAYS", "Busy", "Foreign", "Running", "Vnf", "Way", "Wiring"]
