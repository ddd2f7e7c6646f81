# SPDX-License-Identifier: Apache-2.0
"""Changes of channel under full load: nothing is lost, doubled, overtaken or altered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.system.crossing import BOTH_WAYS, Crossing
from tests.system.scene import eventually

from ovs_highway.bench import switchover
from ovs_highway.lab.churn import Route

if TYPE_CHECKING:
    from tests.system.scene import Scene

TIMES: Final = 40
LONG_TIMES: Final = 1000
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "one-queue": {},
    "3-queues-to-2": {"queues": [(1, 3), (2, 1)]},
    "1-queue-to-4": {"queues": [(1, 1), (4, 1)]},
    "segments": {"segments": 8, "sizes": "60-1514"},
    "jumbo": {"segments": 6, "sizes": "60,9000-9230", "window": 32, "app_args": ("--mtu=9216",)},
    "two-directions": {"routes": BOTH_WAYS, "queues": [(2, 2)], "sizes": "64,64-600"},
}
MANY: Final = (
    *("udp=1000", "udp=1001", "udp=1002+tos=16", "tcp=80", "udp6=53", "tcp6=80"),
    *("proto=89", "ether=0x88b5", "vlan=5+udp=1000", "vlan=6+udp=1000", "vlan=6+ether=0x88b6"),
    "udp=1000+address=9",
)


def change_all_the_time(scene: Scene, shape: str, times: int, seed: int) -> None:
    """Change channels under full load, in one of the shapes."""
    mtu = 9216 if shape == "jumbo" else 1500
    scene.ports(2, queues=4)
    for port in ("p1", "p2"):
        scene.sandbox.vsctl("set", "Interface", port, f"mtu_request={mtu}")
    with Crossing(scene, seed=seed, **SHAPES[shape]) as crossing:
        crossing.start()
        crossing.change(times)
        crossing.check()
        found = crossing.traffic.stats().ports[1]
        fields = [{**s, "queue": 0, "packets": 0} for s in found.shapes]
        assert all(each == fields[0] for each in fields), "mbufs of both channels are alike"
        assert (found.multi_segment > 0) == (shape == "jumbo")


@pytest.mark.parametrize("shape", SHAPES)
def test_changes_of_channel_are_not_seen_by_the_traffic(scene: Scene, shape: str) -> None:
    """Gates and flows change under full load.

    Steps: send in three classes from all queues; move them to and fro all the time.
    Verify: every packet arrives, once, unaltered, in order, in the receive queue of its sender
    queue, and in an mbuf that does not tell the channel.
    """
    change_all_the_time(scene, shape, TIMES, seed=1)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_changes_of_channel_over_and_over(scene: Scene, shape: str, seed: int) -> None:
    """The same, many times, with other seeds."""
    change_all_the_time(scene, shape, LONG_TIMES, seed=seed)


@pytest.mark.parametrize(
    "times", [15, pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_classes_change_at_different_times(scene: Scene, times: int) -> None:
    """Twelve classes of all kinds, of which a flow each is changed at a time; gates stay open.

    Steps: send all classes at once; modify, delete and add their flows.
    Verify: as above, while other classes are on the other channel.
    """
    scene.ports(3, queues=2)
    routes = [Route(source=1, target=2, detour=3)]
    with Crossing(scene, routes=routes, n_ports=3, classes=MANY, queues=[(2, 2)]) as crossing:
        crossing.start()
        crossing.change(times, flows=1, pause=0.05)
        crossing.check()


@pytest.mark.parametrize(
    "times", [40, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_chain_keeps_the_order_from_end_to_end(scene: Scene, times: int) -> None:
    """Three VNFs in a row; each hop changes channel on its own.

    Steps: p1 → p2, forwarded to p3 → p4, forwarded to p5 → p6; change channels on all hops.
    Verify: what p1 has sent on two queues arrives at p6 as if there had been one way only.
    """
    scene.ports(6, queues=2)
    hops = [Route(source=1, target=2), Route(source=3, target=4), Route(source=5, target=6)]
    with Crossing(scene, routes=hops, n_ports=6, queues=[(2, 2)]) as crossing:
        crossing.traffic.forward(1, 2)
        crossing.traffic.forward(3, 4)
        crossing.traffic.send(0, **crossing.plan)
        for port in (0, 2, 4):
            eventually(
                lambda port=port: crossing.traffic.xstats(port)["tx_bypass_packets"] > 0,  # type: ignore[misc]
                f"p{port + 1} uses the bypass",
            )
        crossing.change(times)
        crossing.check()


def test_rules_that_flap_faster_than_a_change_ends(scene: Scene) -> None:
    """Gates open and close without a pause.

    Steps: under full load, change the gates as fast as can be.
    Verify: there are changes enough, and nothing of them is seen by the traffic.
    """
    scene.ports(2, queues=2)
    with Crossing(scene, routes=BOTH_WAYS, queues=[(2, 2)]) as crossing:
        crossing.start()
        for _ in range(3):
            for _ in range(500):
                crossing.churn.flip_gate()
            crossing.change(20, flows=0.05, pause=0.003)
        crossing.check()


def test_a_sender_that_goes_silent_in_the_middle(scene: Scene) -> None:
    """A change that the sender has begun waits for its next packet, however long.

    Steps: again and again, stop sending at any moment; change gates and flows meanwhile; go on.
    Verify: what was under way arrives though nothing more is sent, and what follows is in order.
    """
    scene.ports(2, queues=2)
    with Crossing(scene, queues=[(2, 2)]) as crossing:
        crossing.start()
        traffic, churn = crossing.traffic, crossing.churn
        for _ in range(25):
            crossing.change(1, pause=0.004)
            (found,) = switchover.settled(traffic)
            (sent,) = {sum(found.ports[0].sent.values())}
            arrived = sum(stream.received for stream in found.ports[1].streams.values())
            assert arrived == sent, f"{sent - arrived} are stuck; {crossing}"
            for _ in range(churn.random.randrange(4)):
                churn.flip_gate()
            traffic.resume(0)
        crossing.check()


@pytest.mark.timeout(300)
def test_the_benchmark_sees_what_marks_are_for() -> None:
    """A tenth of `highway bench switchover`, in order and without marks.

    Verify: no fault in order, enough changes of both kinds; without marks packets are overtaken.
    """
    result = switchover.run(packets=10_000_000, switchovers=100, seed=1, tell=print)
    assert switchover.faults(result) == []
    assert min(result["to_bypass"], result["to_normal"]) >= 100
    assert result["packets"] >= 10_000_000
    assert result["naive"]["reordered"] > 0
