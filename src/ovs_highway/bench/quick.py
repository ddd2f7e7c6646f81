# SPDX-License-Identifier: Apache-2.0
"""`highway bench quick`: bypass and normal channel beside their peers, 64-byte packets.

All programs are stock dpdk-testpmd, and all four alternatives run beside the same Open vSwitch:

- *bypass*: one core sends, another receives; what the second one takes per second.
- *memif*: the same two programs over DPDK's net_memif.
- *normal*: one VNF core forwards between two ports, one core of the switch between the same two;
  a fixed number of packets goes round, and what the VNF takes per second has passed the switch.
- *vhostuser*: the same over OVS's dpdkvhostuserclient ports and DPDK's net_virtio_user.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import machine, probe, stats, threads
from ovs_highway.bench.command import highway
from ovs_highway.bench.schedule import measure
from ovs_highway.errors import SandboxError, SetupError
from ovs_highway.lab import Sandbox, TestPmd
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ovs_highway.bench.machine import Machine, Placement
    from ovs_highway.bench.schedule import Results, Turn
    from ovs_highway.lab.testpmd import PortStats

PACKET: Final = 64
BURST: Final = 32
BRIDGE: Final = "br0"
ONE_WAY_RING: Final = 2048
CIRCLE_RING: Final = 1024
CIRCLE_BURSTS: Final = 8
"""Bursts that are sent on each of the two ports to go round: a quarter of the ring."""
SLEEP_US: Final = 500
NICENESS: Final = -15
WARM_UP: Final = 1.0
PATIENCE: Final = 15.0
DISTURBED: Final = 0.1
FAR: Final = 1.5
TRIES: Final = 4
"""A round that tells nothing is repeated: at most so many rounds for one that is asked for."""
_PROBES: Final = 12
_PROBE_PAUSE: Final = 0.5
_GAIN: Final = 0.99

WHAT: Final = {
    "bypass": "one sender core to one receiver core, over the bypass",
    "memif": "the same two programs over net_memif",
    "normal": "through the switch and back, over the normal channel",
    "vhostuser": "the same over dpdkvhostuserclient and net_virtio_user",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement: packets that were received in `seconds`, and how clean it was.

    `disturbance` is the largest share of the time for which a polling thread waited for its core,
    `round_trip_ns` how long a cache line took between the cores, the slower of before and after.
    """

    packets: int
    seconds: float
    disturbance: float
    round_trip_ns: float | None = None
    switch_drops: int = 0
    command_lines: tuple[str, ...] = field(default=(), repr=False)

    @property
    def mpps(self) -> float:
        """Million packets per second."""
        return self.packets / self.seconds / 1e6


class Quick:
    """The four alternatives, in a sandbox of their own: `with Quick() as quick: …`."""

    def __init__(self, placement: Placement, *, seconds: float) -> None:
        self._cores = placement
        self._seconds = seconds
        self._near = math.inf
        config = {"pmd-maxsleep": str(SLEEP_US)}
        self.sandbox = Sandbox(pmd_cpu_mask=f"{1 << placement.switch:x}", other_config=config)

    def __enter__(self) -> Quick:
        self.sandbox.__enter__()
        try:
            self.sandbox.add_bridge(BRIDGE)
        except BaseException:
            self.sandbox.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.sandbox.close()

    @property
    def alternatives(self) -> dict[str, Callable[[], Sample]]:
        """The measurements by name, in their order."""
        return {
            "bypass": self.bypass,
            "memif": self.memif,
            "normal": self.normal,
            "vhostuser": self.vhostuser,
        }

    def versions(self) -> dict[str, str]:
        """Return the versions of Open vSwitch and DPDK, as the switch tells them."""
        get = self.sandbox.vsctl("get", "Open_vSwitch", ".", "ovs_version", "dpdk_version")
        ovs, dpdk = (line.strip('"') for line in get.split("\n")[:2])
        return {"open_vswitch": ovs, "dpdk": dpdk.removeprefix("DPDK ").strip()}

    # The alternatives ------------------------------------------------------------------------

    def bypass(self) -> Sample:
        """Measure one core to one core over the bypass."""
        with (
            self._ports("tx", "rx", ring_size=ONE_WAY_RING),
            self._one_way("net_highway0,port={end}") as (sender, receiver),
        ):
            self._start_one_way(sender, receiver)
            _await(
                lambda: receiver.xstats().get("rx_bypass_packets", 0) > 0,
                f"no packet takes the bypass: {self._links()}",
            )
            before = receiver.xstats()["rx_bypass_packets"]
            sample = self._sample(receiver, [0], [sender, receiver])
            taken = receiver.xstats()["rx_bypass_packets"] - before
            if taken < _GAIN * sample.packets:
                raise SandboxError(
                    f"only {taken} of {sample.packets} packets took the bypass: {self._links()}"
                )
            return sample

    def memif(self) -> Sample:
        """Measure the same two programs over net_memif; the switch runs, without ports."""
        socket = self.sandbox.rundir / "memif.sock"
        socket.unlink(missing_ok=True)
        exponent = ONE_WAY_RING.bit_length() - 1
        vdev = f"net_memif0,role={{role}},socket={socket},socket-abstract=no,rsize={exponent}"
        with self._one_way(vdev) as (sender, receiver):
            self._start_one_way(sender, receiver)
            return self._sample(receiver, [0], [sender, receiver])

    def normal(self) -> Sample:
        """Measure the way through the switch and back, over the normal channel."""
        highway(self.sandbox, "off", "--all")
        try:
            with self._ports("a", "b", ring_size=CIRCLE_RING), self._polling_switch():
                sample, vnf_xstats = self._circle([f"net_highway{n},port={p}" for n, p in _AB])
                if any(xstats.get("rx_bypass_packets", 0) for xstats in vnf_xstats):
                    raise SandboxError("packets took the bypass though it is off; see the log")
                return sample
        finally:
            highway(self.sandbox, "on", "--all")

    def vhostuser(self) -> Sample:
        """Measure the way through the switch and back, over vhost-user and virtio-user."""
        with self._vhost_ports("a", "b"), self._polling_switch():
            base = "net_virtio_user{n},path={path},server=1,queues=1,queue_size={ring}"
            vdevs = [base.format(n=n, path=self._vhost(p), ring=CIRCLE_RING) for n, p in _AB]
            sample, _ = self._circle(vdevs)
            return sample

    # What they are made of -------------------------------------------------------------------

    @contextlib.contextmanager
    def _ports(self, *names: str, ring_size: int) -> Iterator[None]:
        try:
            for number, name in enumerate(names, 1):
                self.sandbox.add_port(BRIDGE, name, number, ring_size=ring_size)
            self._connect()
            yield
        finally:
            self._clear(names)

    @contextlib.contextmanager
    def _vhost_ports(self, *names: str) -> Iterator[None]:
        try:
            for number, name in enumerate(names, 1):
                option = f'options:vhost-server-path="{self._vhost(name)}"'
                self.sandbox.add_dpdk_port(BRIDGE, name, "dpdkvhostuserclient", number, option)
            self._connect()
            yield
        finally:
            self._clear(names)

    def _vhost(self, name: str) -> str:
        return f"{self.sandbox.rundir}/vhost-{name}.sock"

    def _connect(self) -> None:
        self.sandbox.ofctl("del-flows", BRIDGE)
        self.sandbox.ofctl("add-flow", BRIDGE, "in_port=1,actions=output:2")
        self.sandbox.ofctl("add-flow", BRIDGE, "in_port=2,actions=output:1")

    def _clear(self, names: Sequence[str]) -> None:
        self.sandbox.ofctl("del-flows", BRIDGE)
        for name in names:
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

    def _vnf(self, name: str, core: int, forward: str, *vdevs: str, eal: Sequence[str]) -> TestPmd:
        return TestPmd(
            name,
            vdevs=vdevs,
            cores=[core],
            main_core=self._cores.first,
            forward=forward,
            eal_args=eal,
            app_args=[f"--burst={BURST}", f"--txpkts={PACKET}"],
            env=self.sandbox.env,
        )

    @contextlib.contextmanager
    def _one_way(self, vdev: str) -> Iterator[tuple[TestPmd, TestPmd]]:
        """A sender and a receiver; `{end}` and `{role}` in `vdev` are replaced."""
        with (
            self._vnf(
                "rx", self._cores.first, "rxonly", vdev.format(end="rx", role="server"), eal=[]
            ) as receiver,
            self._vnf(
                "tx", self._cores.second, "txonly", vdev.format(end="tx", role="client"), eal=[]
            ) as sender,
        ):
            for vnf in (receiver, sender):
                vnf.wait_link_up()
            yield sender, receiver
            # Before its peer closes: memif's receive function may crash when that happens.
            sender.stop()
            receiver.stop()

    def _start_one_way(self, sender: TestPmd, receiver: TestPmd) -> None:
        receiver.start()
        sender.start()
        _await(lambda: receiver.stats().rx_packets > 0, f"nothing reaches {receiver.log}")

    def _circle(self, vdevs: Sequence[str]) -> tuple[Sample, list[dict[str, int]]]:
        """Have packets go round between a VNF with two ports and the switch."""
        eal = ["--single-file-segments"]
        with self._vnf("vnf", self._cores.first, "io", *vdevs, eal=eal) as vnf:
            for port in (0, 1):
                vnf.wait_link_up(port)
            vnf.start(tx_first=CIRCLE_BURSTS)
            for port in (0, 1):
                _await(
                    lambda port=port: vnf.stats(port).rx_packets > 0,  # type: ignore[misc]
                    f"nothing comes back from the switch; see {vnf.log}",
                )
            sample = self._sample(vnf, [0, 1], [vnf], switch=True)
            return sample, [vnf.xstats(port) for port in (0, 1)]

    def _sample(
        self, vnf: TestPmd, ports: Sequence[int], vnfs: Sequence[TestPmd], *, switch: bool = False
    ) -> Sample:
        """Count what a VNF receives on some ports for the time of one measurement."""
        pids = [each.pid for each in vnfs]
        daemon = self.sandbox.daemon("ovs-vswitchd").pid
        threads.prioritize([*pids, daemon], NICENESS)
        if switch:
            pids.append(daemon)
        cores = (self._cores.first, self._cores.switch if switch else self._cores.second)
        time.sleep(WARM_UP)
        trips = [self._await_near(*cores)]
        waited_before = threads.waited(pids)
        before = [_timed(vnf, port) for port in ports]
        time.sleep(self._seconds)
        after = [_timed(vnf, port) for port in ports]
        waited_after = threads.waited(pids)
        trips.append(probe.round_trip(*cores))
        packets = sum(
            new.rx_packets - old.rx_packets
            for (_, old), (_, new) in zip(before, after, strict=True)
        )
        seconds = after[0][0] - before[0][0]
        return Sample(
            packets=packets,
            seconds=seconds,
            round_trip_ns=max((trip for trip in trips if trip is not None), default=None),
            disturbance=threads.disturbance(waited_before, waited_after, seconds),
            switch_drops=drops(self.sandbox.ofctl("dump-ports", BRIDGE)),
            command_lines=tuple(" ".join(each.command_line) for each in vnfs),
        )

    def _await_near(self, first: int, second: int) -> float | None:
        """Wait for a while until two cores are near each other; return their round trip in ns."""
        for left in reversed(range(_PROBES)):
            trip = probe.round_trip(first, second)
            if trip is None:
                return None
            self._near = min(trip, self._near)
            if trip <= FAR * self._near or not left:
                break
            time.sleep(_PROBE_PAUSE)
        return trip

    def _links(self) -> str:
        lines = highway(self.sandbox, "links", "--interval", "0").splitlines()
        return " | ".join(" ".join(line.split()) for line in lines)


_AB: Final = ((0, "a"), (1, "b"))


def _timed(vnf: TestPmd, port: int) -> tuple[float, PortStats]:
    """Read a port's statistics, and when that was: in the middle of the reading."""
    began = time.monotonic()
    read = vnf.stats(port)
    return (began + time.monotonic()) / 2, read


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    if not wait_until(condition, PATIENCE, interval=0.05):
        raise SandboxError(otherwise)


def drops(dump_ports: str) -> int:
    """Return how many packets the ports of a bridge have dropped, as `dump-ports` prints it."""
    return sum(int(number) for number in re.findall(r"drop=(\d+)", dump_ports))


def flaw(sample: Sample, others: Iterable[Sample]) -> str:
    """Return why a sample tells nothing of what it measured, whatever its rate; '' if it does.

    The cores are near each other when a cache line goes between them nearly as fast as in the
    fastest of `others`.
    """
    if sample.disturbance > DISTURBED:
        return f"a polling thread was kept waiting for {sample.disturbance:.0%} of the time"
    near = min((other.round_trip_ns for other in others if other.round_trip_ns), default=None)
    if near and sample.round_trip_ns and sample.round_trip_ns > FAR * near:
        return f"the cores were far apart: {sample.round_trip_ns:.0f} ns instead of {near:.0f}"
    return ""


def report(
    results: Results[Sample],
    *,
    facts: Machine,
    placement: Placement,
    versions: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Return the results as the JSON file has them; rates are in million packets per second."""
    samples = results.kept
    rates = {name: [sample.mpps for sample in taken] for name, taken in samples.items()}
    middle = {name: stats.summarize(values) for name, values in rates.items()}
    result: dict[str, Any] = {f"{name}_mpps": middle[name].median for name in middle}
    result["ratio_bypass_memif"] = _ratio(middle, "bypass", "memif")
    result["ratio_normal_vhostuser"] = _ratio(middle, "normal", "vhostuser")
    result |= {
        "benchmark": "quick",
        "rounds": min(len(values) for values in rates.values()),
        "seconds": seconds,
        "packet_bytes": PACKET,
        "burst": BURST,
    }
    result["alternatives"] = {
        name: {
            "what": WHAT[name],
            "mpps": {**asdict(middle[name]), "spread": middle[name].spread},
            "packets": [sample.packets for sample in taken],
            "seconds": [sample.seconds for sample in taken],
            "disturbance": [sample.disturbance for sample in taken],
            "round_trip_ns": [sample.round_trip_ns for sample in taken],
            "flawed": [flaw for flaw in results.flaws[name]],
            "switch_drops": [sample.switch_drops for sample in taken],
            "command_lines": list(taken[-1].command_lines),
        }
        for name, taken in samples.items()
    }
    result["set_aside"] = [
        {
            "round": aside.turn.round,
            "alternative": aside.turn.name,
            "mpps": aside.result.mpps,
            "reason": aside.reason,
        }
        for aside in results.set_aside
    ]
    result["notes"] = notes(results, placement)
    result["cores"] = asdict(placement)
    result["versions"] = dict(versions)
    result["machine"] = facts.json()
    return result


def _ratio(middle: Mapping[str, stats.Summary], first: str, second: str) -> float | None:
    return stats.ratio(middle[first].median, middle[second].median)


def notes(results: Results[Sample], placement: Placement) -> list[str]:
    """Return what a reader of the figures has to know."""
    shared = " on the sender's core" if placement.switch == placement.second else ""
    found = [
        f"bypass, memif: the switch runs beside, its polling thread sleeping up to {SLEEP_US} us"
        f"{shared} (pmd-maxsleep); rings of {ONE_WAY_RING} descriptors",
        f"normal, vhostuser: {2 * CIRCLE_BURSTS * BURST} packets go round through rings of"
        f" {CIRCLE_RING} descriptors; the switch polls all the time; bypass off with"
        " 'highway off --all'",
        f"all polling threads run at niceness {NICENESS}",
    ]
    if results.set_aside:
        found.append(
            f"{len(results.set_aside)} measurements were set aside and repeated: other programs"
            f" held up a polling thread for more than {DISTURBED:.0%} of the time, or the host had"
            " moved the cores apart"
        )
    flawed = sum(reason != "" for reasons in results.flaws.values() for reason in reasons)
    if flawed:
        found.append(
            f"{flawed} measurements count though they were disturbed so: there were no better ones"
        )
    return found


def run(*, rounds: int, seconds: float, tell: Callable[[Turn, Sample], None]) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts = machine.gather()
    placement = machine.place(facts.cores)
    if placement is None:
        raise SetupError("this benchmark needs two cores; run it where there are that many")
    with Quick(placement, seconds=seconds) as quick:
        versions = quick.versions()
        results = measure(
            quick.alternatives,
            rounds,
            flaw=flaw,
            most=rounds * TRIES,
            tell=tell,
        )
    return report(
        results,
        facts=facts,
        placement=placement,
        versions=versions,
        seconds=seconds,
    )
