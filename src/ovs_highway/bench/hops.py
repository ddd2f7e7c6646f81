# SPDX-License-Identifier: Apache-2.0
"""One hop from VNF to VNF, or from VNF through the switch: the alternatives, by frame size.

VNFs are stock dpdk-testpmd, and all alternatives run beside the same Open vSwitch. In
those of *one way* one core sends and another receives; what the second one takes per second
counts. In those of a *circle* one VNF core forwards between two ports, one core of the switch
between the same two; a fixed number of packets goes round, and what the VNF takes per second has
passed the switch.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ovs_highway.bench import threads
from ovs_highway.bench.command import highway, links
from ovs_highway.bench.sample import NICENESS, Sample
from ovs_highway.bench.testbed import BRIDGE, SLEEP_US, Testbed
from ovs_highway.errors import SandboxError
from ovs_highway.lab import TestPmd
from ovs_highway.lab.gauge import Gauge
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ovs_highway.bench.machine import Placement
    from ovs_highway.bench.sample import Sampler
    from ovs_highway.lab.dpdk import DpdkProgram
    from ovs_highway.lab.testpmd import PortStats

BURST: Final = 32
ONE_WAY_RING: Final = 2048
CIRCLE_RING: Final = 1024
CIRCLE_BURSTS: Final = 8
"""Bursts that are sent on each of the two ports to go round: a quarter of the ring."""
PATIENCE: Final = 15.0
LONGEST: Final = 9216  # bytes of a frame
_USUAL: Final = 2048
_HEADROOM: Final = 128
_ETHERNET: Final = 14
_USUAL_MTU: Final = 1500
_GAIN: Final = 0.99
_TOLERANCE: Final = 0.02
_A_B: Final = ("a", "b")


class Hops(Testbed):
    """The alternatives, in a sandbox of their own: `with Hops(…) as hops: hops.bypass(64)`.

    Each takes the length of frames in bytes, without the frame check sequence, and every frame is
    one segment. Each raises `SandboxError` if a program does not do what it should.
    """

    def __init__(self, placement: Placement, sampler: Sampler) -> None:
        super().__init__(placement)
        self._sampler = sampler

    # One way ---------------------------------------------------------------------------------

    def bypass(self, size: int) -> Sample:
        """Measure one core to one core over the bypass."""
        return self._bypass(size)

    def bypass_external(self, size: int) -> Sample:
        """Measure the same with a receiver that takes large frames without a copy."""
        return self._bypass(size, receiver=",external-buffers=1")

    def bypass_checked(self, size: int) -> Sample:
        """Measure the same over a link whose receiver checks what comes."""
        return self._bypass(size, mode="checked")

    def _bypass(self, size: int, *, receiver: str = "", mode: str = "") -> Sample:
        vdevs = [f"net_highway0,port={name}" for name in _A_B]
        vdevs[1] += receiver
        with (
            self._highway_ports(size, ring_size=ONE_WAY_RING, mode=mode),
            self._one_way(size, *vdevs) as (source, sink),
        ):
            _await(
                lambda: sink.xstats().get("rx_bypass_packets", 0) > 0,
                f"no packet takes the bypass: {links(self.sandbox)}",
            )
            before = sink.xstats()["rx_bypass_packets"]
            sample = self._sample(size, sink, [source, sink])
            taken = sink.xstats()["rx_bypass_packets"] - before
            if taken < _GAIN * sample.packets:
                raise SandboxError(
                    f"only {taken} of {sample.packets} packets took the bypass:"
                    f" {links(self.sandbox)}"
                )
            return sample

    def memif(self, size: int) -> Sample:
        """Measure the same two programs over net_memif; the switch runs, without ports."""
        return self._memif(size)

    def memif_zc_tx(self, size: int) -> Sample:
        """Measure net_memif where the receiver copies out of the sender's own mbufs."""
        return self._memif(size, zero_copy="sender")

    def memif_zc_rx(self, size: int) -> Sample:
        """Measure net_memif where the sender copies into the receiver's own mbufs."""
        return self._memif(size, zero_copy="receiver")

    def _memif(self, size: int, *, zero_copy: str = "") -> Sample:
        """Measure net_memif; only its client's memory can be shared, the server comes first."""
        server_first = zero_copy == "receiver"
        client = "client" + (",zero-copy=yes" if zero_copy else "")
        roles = ("server", client) if server_first else (client, "server")
        vdevs = [f"net_memif0,role={role},{self._memif_args('m', size)}" for role in roles]
        Path(self._socket("m")).unlink(missing_ok=True)
        eal = ["--single-file-segments"] if zero_copy else []
        with self._one_way(size, *vdevs, eal=eal, sender_first=server_first) as (sender, receiver):
            if shares_mbufs(_maps(sender.pid), _maps(receiver.pid)) != bool(zero_copy):
                state = "not " if zero_copy else ""
                raise SandboxError(f"net_memif's mbufs are {state}shared; see {sender.log}")
            return self._sample(size, receiver, [sender, receiver])

    # Circles ---------------------------------------------------------------------------------

    def normal(self, size: int) -> Sample:
        """Measure the way through the switch and back, over the normal channel."""
        highway(self.sandbox, "off", "--all")
        try:
            with self._highway_ports(size, ring_size=CIRCLE_RING), self._polling_switch():
                vdevs = [f"net_highway{n},port={name}" for n, name in enumerate(_A_B)]
                sample, vnf_xstats = self._circle(size, vdevs)
                if any(xstats.get("rx_bypass_packets", 0) for xstats in vnf_xstats):
                    raise SandboxError("packets took the bypass though it is off; see the log")
                return sample
        finally:
            highway(self.sandbox, "on", "--all")

    def vhostuser(self, size: int) -> Sample:
        """Measure the way through the switch and back, over vhost-user and virtio-user."""
        return self._vhostuser(size)

    def vhostuser_packed(self, size: int) -> Sample:
        """Measure the same with packed virtqueues, which net_virtio_user uses when told to."""
        return self._vhostuser(size, ",packed_vq=1")

    def _vhostuser(self, size: int, devargs: str = "") -> Sample:
        options = [f'options:vhost-server-path="{self._socket(name)}"' for name in _A_B]
        with self._other_ports(size, "dpdkvhostuserclient", options), self._polling_switch():
            rest = f"server=1,queues=1,queue_size={CIRCLE_RING}{devargs}"
            vdevs = [
                f"net_virtio_user{n},path={self._socket(name)},{rest}"
                for n, name in enumerate(_A_B)
            ]
            sample, _ = self._circle(size, vdevs, ready=self._links_up)
            return sample

    def ovs_memif(self, size: int) -> Sample:
        """Measure the way through the switch and back, over net_memif at both sides.

        Each side has two queues: OVS sends on its second one, its first being the main thread's,
        and net_memif connects as many as both sides have.
        """
        args = [self._memif_args(name, size, ring=CIRCLE_RING) for name in _A_B]
        options = [
            f'options:dpdk-devargs="net_memif_{name},role=server,{args[n]}" options:n_rxq=2'
            for n, name in enumerate(_A_B)
        ]
        for name in _A_B:
            Path(self._socket(name)).unlink(missing_ok=True)
        with self._other_ports(size, "dpdk", options), self._polling_switch():
            vdevs = [f"net_memif{n},role=client,{args[n]}" for n in range(len(_A_B))]
            # The switch is to let go first: memif's receive function may crash when a peer closes.
            sample, _ = self._circle(size, vdevs, queues=2, leave=self._clear)
            return sample

    # What bounds them: the machine, and the generator ----------------------------------------

    def limit_bare(self, size: int) -> Sample:
        """Measure a bare loop that moves the same bytes from the one core to the other."""
        return self._limit(size, mbufs=False)

    def limit_mbufs(self, size: int) -> Sample:
        """Measure the same loop with what every driver adds: an mbuf's allocation and its end."""
        return self._limit(size, mbufs=True)

    def _limit(self, size: int, *, mbufs: bool) -> Sample:
        cores = (self.cores.second, self.cores.first)
        with Gauge("gauge", cores=cores, main_core=cores[1], env=self.sandbox.env) as gauge:

            def moved() -> tuple[int, int, float]:
                found = gauge.limit(seconds=self._sampler.seconds, size=size, mbufs=mbufs)
                packets = round(found.mpps * found.seconds * 1e6)
                return packets, packets * size, found.seconds

            return self._watched(
                lambda pids: self._sampler.watch(moved, pids=pids, cores=cores), [gauge]
            )

    def null_tx(self, size: int) -> Sample:
        """Measure what testpmd sends when net_null frees it at once."""
        return self._null(size, "txonly", lambda stats: (stats.tx_packets, stats.tx_bytes))

    def null_rx(self, size: int) -> Sample:
        """Measure what testpmd receives when net_null has nothing to do but allocate."""
        return self._null(size, "rxonly", lambda stats: (stats.rx_packets, stats.rx_bytes))

    def _null(
        self, size: int, forward: str, counts: Callable[[PortStats], tuple[int, int]]
    ) -> Sample:
        with self._vnf("null", self.cores.first, forward, f"net_null0,size={size}", size) as vnf:
            vnf.start()
            return self._take(lambda: counts(vnf.stats()), [vnf], cores=None)

    # What they are made of -------------------------------------------------------------------

    @contextlib.contextmanager
    def _highway_ports(self, size: int, *, ring_size: int, mode: str = "") -> Iterator[None]:
        try:
            for number, name in enumerate(_A_B, 1):
                self.sandbox.add_port(BRIDGE, name, number, ring_size=ring_size)
                if mode:
                    mode_id = f"external_ids:highway-mode={mode}"
                    self.sandbox.vsctl("set", "Interface", name, mode_id)
                if mtu := _mtu(size):
                    self.sandbox.vsctl("set", "Interface", name, mtu)
            self._connect()
            yield
        finally:
            self._clear()

    @contextlib.contextmanager
    def _other_ports(self, size: int, kind: str, options: Sequence[str]) -> Iterator[None]:
        """Two ports of a kind; `options` are the columns of each, with a space between them."""
        try:
            for number, (name, columns) in enumerate(zip(_A_B, options, strict=True), 1):
                more = [*columns.split(), *filter(None, [_mtu(size)])]
                self.sandbox.add_dpdk_port(BRIDGE, name, kind, number, *more)
            self._connect()
            yield
        finally:
            self._clear()

    def _socket(self, name: str) -> str:
        return f"{self.sandbox.rundir}/peer-{name}.sock"

    def _memif_args(self, name: str, size: int, *, ring: int = ONE_WAY_RING) -> str:
        socket = f"socket={self._socket(name)},socket-abstract=no"
        # With a buffer as long as an mbuf's both of its burst functions take their shorter way.
        buffers = f",bsize={_room(size)}" if _room(size) != _USUAL else ""
        return f"{socket},rsize={ring.bit_length() - 1}{buffers}"

    def _connect(self) -> None:
        self.sandbox.ofctl("del-flows", BRIDGE)
        self.sandbox.ofctl("add-flow", BRIDGE, "in_port=1,actions=output:2")
        self.sandbox.ofctl("add-flow", BRIDGE, "in_port=2,actions=output:1")

    def _links_up(self) -> bool:
        """Tell whether the switch sees its links up: what it is to send before, vhost drops."""
        get = [word for name in _A_B for word in ("--", "get", "Interface", name, "link_state")]
        return self.sandbox.vsctl(*get[1:]).split() == ["up"] * len(_A_B)

    def _clear(self) -> None:
        self.sandbox.ofctl("del-flows", BRIDGE)
        for name in _A_B:
            self.sandbox.vsctl("--if-exists", "del-port", BRIDGE, name)

    @contextlib.contextmanager
    def _polling_switch(self) -> Iterator[None]:
        """Let the switch poll all the time; else it sleeps, where it has nothing to do."""
        self.sandbox.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-maxsleep=0")
        try:
            yield
        finally:
            sleep = f"other_config:pmd-maxsleep={SLEEP_US}"
            self.sandbox.vsctl("set", "Open_vSwitch", ".", sleep)

    def _vnf(
        self,
        name: str,
        core: int,
        forward: str,
        vdevs: str | Sequence[str],
        size: int,
        *,
        eal: Sequence[str] = (),
        queues: int = 1,
    ) -> TestPmd:
        room = _room(size)
        return TestPmd(
            name,
            vdevs=[vdevs] if isinstance(vdevs, str) else vdevs,
            cores=[core],
            main_core=self.cores.first,
            forward=forward,
            eal_args=eal,
            app_args=[
                # Before the frames' length, which it bounds.
                *([f"--mbuf-size={room + _HEADROOM}"] if room != _USUAL else []),
                *(f"--burst={BURST}", f"--txpkts={size}"),
                *([f"--rxq={queues}", f"--txq={queues}"] if queues > 1 else []),
            ],
            env=self.sandbox.env,
        )

    @contextlib.contextmanager
    def _one_way(
        self,
        size: int,
        sender_vdev: str,
        receiver_vdev: str,
        *,
        eal: Sequence[str] = (),
        sender_first: bool = False,
    ) -> Iterator[tuple[TestPmd, TestPmd]]:
        """A sender and a receiver, with packets on their way."""
        receiver = self._vnf("rx", self.cores.first, "rxonly", receiver_vdev, size, eal=eal)
        sender = self._vnf("tx", self.cores.second, "txonly", sender_vdev, size, eal=eal)
        first, second = (sender, receiver) if sender_first else (receiver, sender)
        with first, second:
            for vnf in (receiver, sender):
                vnf.wait_link_up()
            receiver.start()
            sender.start()
            _await(lambda: receiver.stats().rx_packets > 0, f"nothing reaches {receiver.log}")
            yield sender, receiver
            # Before its peer closes: memif's receive function may crash when that happens.
            sender.stop()
            receiver.stop()

    def _circle(
        self,
        size: int,
        vdevs: Sequence[str],
        *,
        queues: int = 1,
        ready: Callable[[], bool] = lambda: True,
        leave: Callable[[], None] = lambda: None,
    ) -> tuple[Sample, list[dict[str, int]]]:
        """Have packets go round between a VNF with two ports and the switch.

        Returns the sample and the extended statistics of both ports. Nothing is sent before the
        switch is `ready`; `leave` is called before the VNF closes its ports.
        """
        eal = ["--single-file-segments"]
        first = self.cores.first
        with self._vnf("vnf", first, "io", vdevs, size, eal=eal, queues=queues) as vnf:
            try:
                for port in (0, 1):
                    vnf.wait_link_up(port)
                _await(ready, f"the switch's links are not up; see {vnf.log}")
                vnf.start(tx_first=CIRCLE_BURSTS)
                for port in (0, 1):
                    _await(
                        lambda port=port: vnf.stats(port).rx_packets > 0,  # type: ignore[misc]
                        f"nothing comes back from the switch; see {vnf.log}",
                    )
                sample = self._sample(size, vnf, [vnf], switch=True)
                return sample, [vnf.xstats(port) for port in (0, 1)]
            finally:
                leave()

    def _sample(
        self, size: int, vnf: TestPmd, vnfs: Sequence[TestPmd], *, switch: bool = False
    ) -> Sample:
        """Count what a VNF receives, on two ports if from the switch; frames must be of `size`."""

        def received() -> tuple[int, int]:
            read = [vnf.stats(port) for port in ((0, 1) if switch else (0,))]
            return sum(each.rx_packets for each in read), sum(each.rx_bytes for each in read)

        cores = (self.cores.first, self.cores.switch if switch else self.cores.second)
        sample = self._take(received, vnfs, cores=cores, switch=switch)
        if abs(sample.octets - size * sample.packets) > _TOLERANCE * size * sample.packets:
            raise SandboxError(
                f"{sample.packets} packets had {sample.octets} bytes instead of {size} each;"
                f" see {vnf.log}"
            )
        return sample

    def _take(
        self,
        count: Callable[[], tuple[int, int]],
        vnfs: Sequence[TestPmd],
        *,
        cores: tuple[int, int] | None,
        switch: bool = False,
    ) -> Sample:
        return self._watched(
            lambda pids: self._sampler.take(count, pids=pids, cores=cores), vnfs, switch=switch
        )

    def _watched(
        self,
        take: Callable[[Sequence[int]], Sample],
        programs: Sequence[DpdkProgram],
        *,
        switch: bool = False,
    ) -> Sample:
        """Take a sample with everybody at the same priority; `take` is given process ids."""
        pids = [each.pid for each in programs]
        daemon = self.sandbox.daemon("ovs-vswitchd").pid
        threads.prioritize([*pids, daemon], NICENESS)
        return replace(
            take([*pids, daemon] if switch else pids),
            switch_drops=drops(self.sandbox.ofctl("dump-ports", BRIDGE)),
            command_lines=tuple(" ".join(each.command_line) for each in programs),
        )


def _room(size: int) -> int:
    """Return how many bytes of data an mbuf needs for a frame."""
    return _USUAL if size <= _USUAL else LONGEST


def _mtu(size: int) -> str:
    """Return the Interface column that lets a frame pass, '' if the usual MTU does."""
    return f"mtu_request={size - _ETHERNET}" if size - _ETHERNET > _USUAL_MTU else ""


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    if not wait_until(condition, PATIENCE, interval=0.05):
        raise SandboxError(otherwise)


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def shares_mbufs(first: str, second: str) -> bool:
    """Tell from two processes' `/proc/PID/maps` whether they share more than memif's rings."""

    def files(maps: str) -> set[tuple[str, str]]:
        found = re.findall(r"^\S+ \S+ \S+ (\S+) (\d+)\s+/memfd:(\S+)", maps, re.MULTILINE)
        return {(device, inode) for device, inode, name in found if "memif_region" not in name}

    return bool(files(first) & files(second))


def drops(dump_ports: str) -> int:
    """Return how many packets the ports of a bridge have dropped, as `dump-ports` prints it."""
    return sum(int(number) for number in re.findall(r"drop=(\d+)", dump_ports))
