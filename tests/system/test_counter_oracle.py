# SPDX-License-Identifier: Apache-2.0
"""Whatever is changed under traffic, each hit is counted once.

Random sequences of flowmods, group mods, port and policy changes, while all ports send frames of
three classes. A class keeps to the rules of its port whatever these do, so it is known what their
counters have to say together. `HIGHWAY_ORACLE_SEEDS=7:9` runs these seeds instead of the usual.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tests.system.differential.plan import QUEUES
from tests.system.differential.runs import SENTINEL_LEN, Runner
from tests.system.differential.tables import SENTINEL, SENTINEL_TYPE
from tests.system.differential.world import PORTS
from tests.system.frame_pipe import FramePipe, Pause, Send
from tests.system.receivers import receivers_count
from tests.system.scene import Count, Scene

from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.differential.runs import Counters

SHORT: Final = range(2, 3)
LONG: Final = range(100, 120)
CHANGES: Final = 12
GROUP: Final = "group_id=1,type=indirect"
SPARE: Final = 5
TEMPORARY: Final = 20
CLASSES: Final = ("web", "udp", "tcp")


def seeds(default: range) -> range:
    """Return the seeds to run."""
    first, _, end = os.environ.get("HIGHWAY_ORACLE_SEEDS", "").partition(":")
    return range(int(first), int(end or int(first) + 1)) if first else default


def frame(port: int, kind: str, length: int) -> bytes:
    """Return a frame of one class; only rules for UDP look at which UDP it is."""
    layer4 = TCP(dport=80) if kind == "tcp" else UDP(dport=80 if kind == "web" else 90)
    head = Ether(src=f"02:00:00:00:00:0{port}", dst="02:00:00:00:00:ff") / IP(src="10.0.0.1")
    return bytes(head / layer4 / Raw(bytes(length)))


def cookie(port: int, rule: str) -> int:
    """Return the cookie of one of a port's rules."""
    return port * 16 + ("tcp", "udp", "web").index(rule)


class Oracle:
    """What was sent, what arrived, and what OpenFlow may say of it."""

    def __init__(self, runner: Runner, pipe: FramePipe, scene: Scene, seed: int) -> None:
        self.rng = random.Random(seed)
        self.runner, self.pipe, self.scene = runner, pipe, scene
        self.sent: Counter[tuple[int, str]] = Counter()
        self.sent_bytes: Counter[int] = Counter()
        self.received: Counter[int] = Counter()
        self.gone: Counter[int] = Counter()  # hits of temporary rules that were deleted, by port
        self.temporary: set[int] = set()
        self.spare = False
        self.drains = 0
        self.done: list[str] = []
        self.install()
        self.first = self.last = runner.counters()
        self.unclaimed = self.unclaimed_by_port()

    def install(self) -> None:
        """Start with plain rules, all of them to the next port."""
        self.runner.close_gates(closed=False)
        self.runner.purge()
        self.runner.await_offloads()
        self.scene.ofctl("del-flows")
        self.scene.ofctl("del-groups")
        self.scene.ofctl("add-group", f"{GROUP},bucket=output:2")
        self.scene.add_flow(
            f"cookie={SENTINEL:#x},priority=65535,dl_type={SENTINEL_TYPE:#x},actions=in_port"
        )
        for port in PORTS:
            then = port % len(PORTS) + 1
            for rule, priority, match in (("tcp", 5, ""), ("udp", 10, ",udp")):
                self.scene.add_flow(
                    f"cookie={cookie(port, rule)},priority={priority},in_port={port}{match},"
                    f"actions=output:{then}"
                )
        self.runner.drain()

    def unclaimed_by_port(self) -> dict[int, int]:
        """Return the hits that no flow could be given."""
        return {port: self.runner.unclaimed(port) for port in PORTS}

    # traffic -----------------------------------------------------------------------------------

    def send(self, *, without: int | None = None) -> None:
        """Have the ports send for about a quarter of a second, all but one if so told."""
        rng, steps = self.rng, list[Send | Pause]()
        for _ in range(40):
            port = rng.choice([port for port in PORTS if port != without])
            kind, queue = rng.choice(CLASSES), rng.randrange(QUEUES)
            for _ in range(rng.choice((1, 8, 40))):
                data = frame(port, kind, rng.choice((8, 100, 1000)))
                steps.append(Send(port=port - 1, queue=queue, frame=data))
                self.sent[port, kind] += 1
                self.sent_bytes[port] += len(data)
            steps.append(Pause(seconds=rng.choice((0.001, 0.005, 0.01))))
        self.pipe.do(steps)

    def drain(self) -> None:
        """Take all that arrives."""
        self.received.update(one.port + 1 for one in self.runner.drain())
        self.drains += 1

    def sample(self) -> Counters:
        """Look at all counters: they grow, by no more than was sent."""
        now = self.runner.counters()
        for key, count in now.flows.items():
            before = self.last.flows.get(key, Count())
            assert count.packets >= before.packets, self.tell(f"flow {key:#x} went back")
            assert count.bytes >= before.bytes, self.tell(f"flow {key:#x} went back")
        for port, number in now.ports.items():
            if port in self.last.ports:
                before_rx, before_tx = self.last.ports[port].rx, self.last.ports[port].tx
                assert number.rx.packets >= before_rx.packets, self.tell(f"port {port} rx")
                assert number.tx.packets >= before_tx.packets, self.tell(f"port {port} tx")
        self.last = now
        for port in PORTS:
            for name, counted, sent in self.sums(now, port):
                assert counted <= sent, self.tell(f"port {port}, {name}: {counted} of {sent}")
        return now

    def sums(self, now: Counters, port: int) -> Iterator[tuple[str, int, int]]:
        """Return, for rules that share a port's classes, what they counted and what was sent."""
        flows = now.flows
        yield "tcp", flows[cookie(port, "tcp")].packets, self.sent[port, "tcp"]
        udp = flows[cookie(port, "udp")].packets + self.gone[port]
        udp += flows.get(cookie(port, "web"), Count()).packets
        yield "udp", udp, self.sent[port, "udp"] + self.sent[port, "web"]

    def settle(self) -> None:
        """At the end everything is accounted for, but for what no flow could be given."""
        self.drain()
        self.scene.revalidate()
        deadline = time.monotonic() + 13
        while self.missing() and time.monotonic() < deadline:
            time.sleep(0.3)
            self.scene.revalidate()
        assert not self.missing(), self.tell("; ".join(self.missing()))
        now = self.sample()
        sentinels = self.drains * QUEUES
        for port in PORTS:
            grown = now.ports[port].rx.packets - self.first.ports[port].rx.packets
            sent = sum(self.sent[port, kind] for kind in CLASSES) + sentinels
            assert grown == sent, self.tell(f"port {port} rx: {grown}, sent {sent}")
            size = now.ports[port].rx.bytes - self.first.ports[port].rx.bytes
            sent = self.sent_bytes[port] + sentinels * SENTINEL_LEN
            assert size == sent, self.tell(f"port {port} rx bytes: {size}, sent {sent}")
            grown = now.ports[port].tx.packets - self.first.ports[port].tx.packets
            got = self.received[port] + sentinels
            assert grown == got, self.tell(f"port {port} tx: {grown}, received {got}")

    def missing(self) -> list[str]:
        """Return what does not add up yet."""
        now, unclaimed = self.runner.counters(), self.unclaimed_by_port()
        found = []
        for port in PORTS:
            sums = list(self.sums(now, port))
            lacking = sum(sent - counted for _, counted, sent in sums)
            given_up = unclaimed[port] - self.unclaimed[port]
            if lacking != given_up:
                found.append(f"port {port}: {sums}, unclaimed {given_up}")
        return found

    def tell(self, what: str) -> str:
        """Return what is wrong, and what was done before."""
        return f"{what}; after {self.done}"

    # changes -----------------------------------------------------------------------------------

    def change(self) -> None:
        """Do one thing while frames are sent, and look at the counters all the time."""
        name = self.rng.choice(list(CHANGES_BY_NAME))
        self.done.append(name)
        CHANGES_BY_NAME[name](self)
        self.sample()
        self.drain()
        self.sample()

    def actions(self) -> str:
        """Draw actions that OVS can translate for drivers, or that keep a flow in software."""
        one, two = self.rng.sample(PORTS, 2)
        choices = [f"output:{one}"] * 3
        choices += [f"output:{one},output:{two}", "drop", "group:1"]
        choices += [f"set_field:02:00:00:00:00:77->eth_dst,output:{one}"]
        return self.rng.choice(choices)

    def strict(self, command: str, flow: str) -> None:
        """Change exactly one flow."""
        self.scene.sandbox.ofctl("-O", "OpenFlow13", "--strict", command, "br0", flow)

    def modify(self) -> None:
        """Give rules other actions."""
        self.send()
        for _ in range(self.rng.choice((1, 4))):
            port = self.rng.choice(PORTS)
            match = self.rng.choice(("priority=5,", "priority=10,udp,"))
            flow = f"{match}in_port={port},actions={self.actions()}"
            self.strict("mod-flows", flow)
            self.sample()

    def modify_group(self) -> None:
        """Give the group another bucket."""
        self.send()
        for _ in range(3):
            bucket = f"bucket=output:{self.rng.choice(PORTS)}"
            self.scene.ofctl("mod-group", f"{GROUP},{bucket}")
            self.sample()

    def shadow(self) -> None:
        """Add a rule for a part of UDP, or delete it when nothing is sent."""
        port = self.rng.choice(PORTS)
        match = f"in_port={port},udp,tp_dst=80"
        if port in self.temporary:
            self.scene.revalidate()
            self.gone[port] += self.sample().flows[cookie(port, "web")].packets
            self.strict("del-flows", f"priority={TEMPORARY},{match}")
            self.temporary.remove(port)
            self.send()
        else:
            self.send()
            rule = f"cookie={cookie(port, 'web')},priority={TEMPORARY},{match}"
            self.scene.add_flow(f"{rule},actions={self.actions()}")
            self.temporary.add(port)

    def gates(self) -> None:
        """Switch the bypass off and on."""
        self.send()
        for closed in (True, False):
            self.runner.close_gates(closed=closed)
            time.sleep(0.05)
            self.sample()

    def policy(self) -> None:
        """Forbid a port its bypasses, and allow them again."""
        name = f"p{self.rng.choice(PORTS)}"
        self.send()
        self.scene.sandbox.vsctl("set", "Interface", name, "external_ids:highway=off")
        self.sample()
        self.scene.sandbox.vsctl("remove", "Interface", name, "external_ids", "highway")

    def down(self) -> None:
        """Take a port down that others send to, and up again."""
        port = self.rng.choice(PORTS)
        self.send(without=port)
        self.scene.ofctl("mod-port", f"p{port}", "down")
        self.sample()
        self.scene.ofctl("mod-port", f"p{port}", "up")

    def other_port(self) -> None:
        """Add a port, or delete it: OVS may give receive queues to other threads."""
        self.send()
        if self.spare:
            self.scene.sandbox.del_port("br0", f"p{SPARE}")
        else:
            self.scene.ports(1, first=SPARE)
        self.spare = not self.spare

    def purge(self) -> None:
        """Have OVS forget all its datapath flows."""
        self.send()
        time.sleep(0.1)
        self.runner.purge()

    def nothing(self) -> None:
        """Just send."""
        self.send()


CHANGES_BY_NAME: Final[dict[str, Callable[[Oracle], None]]] = {
    "modify": Oracle.modify,
    "modify group": Oracle.modify_group,
    "shadow": Oracle.shadow,
    "gates": Oracle.gates,
    "policy": Oracle.policy,
    "down": Oracle.down,
    "other port": Oracle.other_port,
    "purge": Oracle.purge,
    "nothing": Oracle.nothing,
}


@pytest.fixture(
    scope="module",
    params=[("2", "sender"), ("3", "sender"), ("2", "receiver")],
    ids=["one PMD thread", "two PMD threads", "receivers count"],
)
def setting(request: pytest.FixtureRequest) -> Iterator[tuple[Runner, FramePipe, Scene]]:
    """Four ports with two queues each in one process, at an OVS with one or two PMD threads."""
    mask, stats = request.param
    with Sandbox(pmd_cpu_mask=mask) as sandbox, Scene(sandbox) as scene:
        scene.ports(len(PORTS), queues=QUEUES)
        if stats == "receiver":
            receivers_count(scene, len(PORTS))
        with FramePipe(sandbox, [f"p{port}" for port in PORTS], queues=QUEUES) as pipe:
            yield Runner(scene, pipe), pipe, scene


def run(setting: tuple[Runner, FramePipe, Scene], seed: int) -> None:
    """Make the changes of a seed."""
    runner, pipe, scene = setting
    print(f"seed {seed}")
    before = runner.bypassed()
    oracle = Oracle(runner, pipe, scene, seed)
    try:
        oracle.send()
        oracle.drain()
        for _ in range(CHANGES):
            oracle.change()
        oracle.settle()
    finally:
        scene.sandbox.vsctl("--if-exists", "del-port", f"p{SPARE}")
    bypassed = runner.bypassed() - before
    print(f"  {bypassed} of {oracle.sent.total()} bypassed; {oracle.done}")
    assert bypassed > 0, oracle.tell("no bypass was used")


@pytest.mark.parametrize("seed", seeds(SHORT))
def test_each_hit_is_counted_once(setting: tuple[Runner, FramePipe, Scene], seed: int) -> None:
    """Flows, ports and frames agree, whatever is changed meanwhile.

    Steps: all ports send; at the same time rules, groups, ports, gates and policy are changed.
    Verify: no counter ever goes back or is ahead of the senders; at the end the rules of a port
    have counted what it sent, but for what is unclaimed, and ports what was sent and arrived.
    """
    run(setting, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", seeds(LONG))
def test_more_sequences(setting: tuple[Runner, FramePipe, Scene], seed: int) -> None:
    """The same, for long."""
    run(setting, seed)
