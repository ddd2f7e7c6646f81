# SPDX-License-Identifier: Apache-2.0
"""Changes of channel while the switch and the VNFs are changed themselves, or stop working.

Where Open vSwitch drops packets, what is lost has to be what it counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.crossing import CLASSES, Crossing
from tests.system.scene import BRIDGE, becomes, eventually

from ovs_highway.bench.switchover import await_switch, settled
from ovs_highway.lab import Traffic, judge
from ovs_highway.lab.churn import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene

TIMES: Final = 30
RATE: Final = 100_000
RING: Final = 2048


@contextlib.contextmanager
def configured(scene: Scene, **settings: str) -> Iterator[None]:
    """Set keys of the switch's other_config, with `_` for `-`, for a while."""
    keys = {key.replace("_", "-"): value for key, value in settings.items()}
    set_ = [f"other_config:{key}={value}" for key, value in keys.items()]
    before = {
        key: scene.sandbox.vsctl("--if-exists", "get", "Open_vSwitch", ".", f"other_config:{key}")
        for key in keys
    }
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", *set_)
    try:
        yield
    finally:
        for key, value in before.items():
            if value.strip():
                scene.sandbox.vsctl(
                    "set", "Open_vSwitch", ".", f"other_config:{key}={value.strip()}"
                )
            else:
                scene.sandbox.vsctl("remove", "Open_vSwitch", ".", "other_config", key)


def freeze(pid: int) -> None:
    """Stop a process, and return once all its threads stand still."""

    def still() -> bool:
        tasks = Path(f"/proc/{pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    os.kill(pid, signal.SIGSTOP)
    eventually(still, "the process stands still")


# the switch's settings -------------------------------------------------------------------------


def test_output_that_the_switch_gathers_is_waited_for(scene: Scene) -> None:
    """With tx-flush-interval packets stay in the switch behind the next poll.

    Steps: set it to 300 us; send little enough for batches to stay open; change channels.
    Verify: nothing is overtaken.
    """
    with configured(scene, tx_flush_interval="300"):
        scene.ports(2, queues=2)
        region = scene.region(1)
        becomes(lambda: region.gate().tx_flush_us, 300, "the interval that the driver knows")
        with Crossing(scene, queues=[(2, 2)], rate=20_000) as crossing:
            crossing.start()
            crossing.change(TIMES)
            crossing.check()
        with Crossing(scene, queues=[(2, 2)]) as crossing:
            crossing.start()
            crossing.change(TIMES)
            crossing.check()


@pytest.mark.parametrize(
    ("times", "turns"),
    [(15, 4), pytest.param(200, 40, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
@pytest.mark.parametrize("how", ["affinity", "port"])
def test_receive_queues_that_move_between_two_threads(
    scene: Scene, how: str, times: int, turns: int
) -> None:
    """Two PMD threads; the ports' queues are assigned anew under load.

    Steps: change channels; between them give p1 and p2 to the other thread by pmd-rxq-affinity, or
    have all queues assigned anew by adding and deleting a port.
    Verify: what is lost the switch has dropped and counted; nothing is overtaken.
    """
    with configured(scene, pmd_cpu_mask="0x3"):
        scene.ports(2, queues=2)
        with Crossing(scene, queues=[(2, 2)], window=256) as crossing:
            crossing.start()
            for turn in range(turns):
                if how == "affinity":
                    for port, core in (("p1", turn % 2), ("p2", (turn // 2) % 2)):
                        affinity = f"other_config:pmd-rxq-affinity=0:{core}"
                        scene.sandbox.vsctl("set", "Interface", port, affinity)
                elif turn % 2 == 0:
                    scene.ports(1, first=3)
                else:
                    scene.sandbox.del_port(BRIDGE, "p3")
                crossing.change(max(1, times // turns))
            crossing.check_but_for_drops()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_receive_queues_that_the_switch_balances_itself(scene: Scene) -> None:
    """pmd-auto-lb moves receive queues when it thinks that a thread has too much to do.

    Steps: two PMD threads; p1 → p2 and p3 → p4; change channels until the switch has balanced.
    Verify: as above.
    """
    settings = {
        "pmd_cpu_mask": "0x3",
        "pmd_auto_lb": "true",
        "pmd_auto_lb_rebal_interval": "1",
        "pmd_auto_lb_load_threshold": "1",
        "pmd_auto_lb_improvement_threshold": "0",
    }
    balanced = "PMD auto load balance dry run. Requesting datapath reconfigure."
    with configured(scene, **settings):
        scene.ports(4, queues=2)
        routes = [Route(source=1, target=2), Route(source=3, target=4)]
        with Crossing(scene, routes=routes, n_ports=4, queues=[(2, 2)], window=256) as crossing:
            crossing.start()
            deadline = time.monotonic() + 240
            while balanced not in scene.log():
                assert time.monotonic() < deadline, "the switch does not balance"
                crossing.change(20)
            crossing.change(50)
            crossing.check_but_for_drops()


# MTU and ports ---------------------------------------------------------------------------------


def test_frames_beyond_a_new_mtu_are_dropped_by_the_switch(scene: Scene) -> None:
    """The receiver's port gets another MTU under load.

    Steps: send frames of 64 to 1,900 bytes; set the MTU at p2 to 1,500 and 2,000 by turns, and that
    of the VNF, and change channels.
    Verify: what is lost the switch has dropped and counted, some of it; the rest is in order.
    """
    scene.ports(2)
    app_args = ("--mtu=2000",)
    with Crossing(scene, window=0, rate=RATE, sizes="64,1000-1900", app_args=app_args) as crossing:
        crossing.start()
        for mtu in (1500, 2000, 1500, 2000):
            scene.sandbox.vsctl("set", "Interface", "p2", f"mtu_request={mtu}")
            crossing.traffic.command(f"mtu 1 {mtu}")
            crossing.change(5)
        assert crossing.check_but_for_drops() > 0


def test_a_sender_that_stops_and_starts_its_port(scene: Scene) -> None:
    """rte_eth_dev_stop() and rte_eth_dev_start() at the sender, on either channel.

    Steps: change channels; stop the sender's port at any moment and start it again.
    Verify: what it had sent arrives, and in front of what it sends afterwards.
    """
    scene.ports(2, queues=2)
    with Crossing(scene, queues=[(2, 2)]) as crossing:
        crossing.start()
        for _ in range(8):
            crossing.change(2)
            crossing.traffic.command("port-stop 0")
            time.sleep(crossing.churn.random.choice((0, 0.02, 0.3)))
            crossing.traffic.command("port-start 0")
            crossing.traffic.wait_link_up()
        crossing.check_but_for_drops()


def test_a_receiver_that_stops_and_starts_its_port(scene: Scene) -> None:
    """rte_eth_dev_stop() and rte_eth_dev_start() at the receiver.

    Steps: change channels; stop the receiver's port at any moment and start it again.
    Verify: what arrives is in order; what is lost, the switch has dropped or the driver has
    abandoned, and counted.
    """
    scene.ports(2, queues=2)
    with Crossing(scene, queues=[(2, 2)]) as crossing:
        crossing.start()
        for _ in range(4):
            crossing.change(2)
            crossing.traffic.command("port-stop 1")
            time.sleep(crossing.churn.random.choice((0, 0.02, 0.3)))
            crossing.traffic.command("port-start 1")
            crossing.traffic.wait_link_up()
        found, dropped = crossing.verdict()
        rest = {name: count for name, count in found.faults.items() if name != "lost"}
        assert rest == {}, str(crossing)
        abandoned = crossing.counts()["bypass_abandoned_packets"]
        assert found.lost == dropped + abandoned, f"{found}, {dropped} dropped; {crossing}"


# a receiver that is dead ---------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("gone", ["port", pytest.param("flow", marks=pytest.mark.long)])
def test_what_a_dead_receiver_leaves_is_told_and_its_sender_goes_on(
    scene: Scene, gone: str
) -> None:
    """The receiver's program stands still (SIGSTOP) while the link is taken down.

    Steps: send over the bypass; stop the receiver's process; send until the ring is full; have the
    link taken down, by deleting the receiver's port (at once), or the flow (after 30 s, and the 5 s
    that a drain may take); add port or flow again; let the receiver go on.
    Verify: the sender reports exactly what it has sent in vain as abandoned; it goes on through the
    switch, and what it sends arrives, in order; what was reported as abandoned never does.
    """
    scene.ports(2)
    env = scene.sandbox.env
    with (
        Traffic("receiver", ["p2"], env=env) as receiver,
        Traffic("sender", ["p1"], env=env) as sender,
    ):
        for program in (sender, receiver):
            program.define(*CLASSES)
            program.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2")
        scene.add_flow("in_port=1,actions=2")
        sender.send(0, classes=range(len(CLASSES)), rate=RATE, drop=True)
        eventually(lambda: sender.xstats()["tx_bypass_packets"] > RING, "the bypass is used")
        before = judge(settled(sender, receiver))
        assert before.faults == {}, before
        normal = sender.xstats()["tx_normal_packets"]

        try:
            freeze(receiver.pid)
            sender.resume()
            eventually(lambda: sender.stats().ports[0].refused > 0, "the ring is full")
            sender.stop()
            in_vain = judge([sender.stats()]).packets - before.packets
            assert sender.xstats()["tx_normal_packets"] == normal
            if gone == "port":
                scene.sandbox.del_port(BRIDGE, "p2")
            else:
                scene.ofctl("del-flows")
            eventually(
                lambda: sender.xstats()["bypass_abandoned_packets"] > 0,
                "abandoned frames",
                patience=90,
            )
            assert sender.xstats()["bypass_abandoned_packets"] == in_vain
            if gone == "port":
                scene.ports(1, first=2)
            else:
                scene.add_flow("in_port=1,actions=2")
            sender.resume()
            eventually(
                lambda: sender.xstats()["tx_normal_packets"] > normal + RATE // 10,
                "the sender goes on",
            )
        finally:
            os.kill(receiver.pid, signal.SIGCONT)
        eventually(
            lambda: judge([receiver.stats()]).received > before.received + RATE // 10,
            "packets arrive again",
        )
        found = judge(settled(sender, receiver))
        assert found.faults.keys() <= {"lost"}, found
        assert found.lost >= in_vain, found  # and what OVS dropped while nobody received
