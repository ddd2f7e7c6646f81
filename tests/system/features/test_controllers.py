# SPDX-License-Identifier: Apache-2.0
"""Controllers written for os-ken, which knows nothing of us, on a real bridge."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest
from tests.system.features.collector import loopback_up
from tests.system.scene import BRIDGE, Count, becomes, eventually

from ovs_highway.lab import Process

if TYPE_CHECKING:
    from types import TracebackType

    from tests.system.scene import Scene, Vnf

OS_KEN: Final = Path(sys.prefix) / "controllers"
HERE: Final = Path(__file__).with_name("controllers")
PACKET_OUT: Final = 100  # bytes
_ports: Final = itertools.count(16653)


class Controller:
    """An application of the folder `controllers`, as the controller of the scene's bridge."""

    def __init__(self, scene: Scene, application: str) -> None:
        self._scene = scene
        self._port = next(_ports)
        sandbox = scene.sandbox
        self._process = Process(
            application,
            sandbox.in_namespace(
                *(sys.executable, str(HERE / "run.py"), str(self._port)),
                str(HERE / f"{application}.py"),
            ),
            log=sandbox.rundir / f"{application}.log",
            env=sandbox.env | {"PYTHONPATH": str(OS_KEN)},
        )

    def __enter__(self) -> Self:
        loopback_up(self._scene.sandbox)
        self._process.start()
        self._scene.sandbox.vsctl(
            *("--id=@c", "create", "Controller", f'target="tcp:127.0.0.1:{self._port}"'),
            *("max_backoff=1000", "connection_mode=out-of-band"),
            *("--", "set", "Bridge", BRIDGE, "controller=@c"),
        )
        eventually(self.connected, "the controller is connected")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scene.sandbox.vsctl("del-controller", BRIDGE)
        self._process.stop()

    def connected(self) -> bool:
        """Tell whether OVS is connected with it."""
        text = self._scene.sandbox.vsctl("--columns=is_connected", "list", "Controller")
        return "true" in text

    def told(self, key: str) -> list[Any]:
        """Return all that it has printed under a key so far."""
        text = self._process.log.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        objects = [json.loads(line) for line in lines if line.startswith("{")]
        return [one[key] for one in objects if key in one]

    def step(self, number: int) -> None:
        """Have it carry out its next step, and see that it was this one."""
        self._process.signal(signal.SIGUSR1)
        becomes(lambda: self.told("step")[-1:], [number], "the step of the application")

    def removed(self, port: int) -> int:
        """Return the packets of all flows from a port that have gone."""
        text = self._process.log.read_text()
        lines = [json.loads(one) for one in text.splitlines() if one.startswith('{"removed')]
        return sum(one["packets"] for one in lines if one["removed"] == port)


@pytest.mark.parametrize(
    "allowed", [True, pytest.param(False, marks=pytest.mark.long)], ids=["bypass", "normal"]
)
def test_an_os_ken_learning_switch_works(scene: Scene, *, allowed: bool) -> None:
    """A reactive controller: packet-ins, flows that idle out, flow-removed messages.

    Steps: start it; p1 and p2 send to each other until both are bypassed (or, for comparison,
    with all bypasses off); go on for three times the flows' idle timeout; stop until the flows
    have gone; once more.
    Verify: meanwhile no flow goes and there is no packet-in; each packet of p1 and p2 is received,
    and was a packet-in or is counted by a flow-removed message; p3 has only what was flooded.
    With and without the bypass OVS may credit packet-ins also to the flow that they bring about.
    """
    scene.ports(3)
    one, two, three = (scene.vnf(number) for number in (1, 2, 3))
    one.send_to(two.port_info().mac)
    two.send_to(one.port_info().mac)
    if not allowed:
        scene.highway("off", "--all")
    use = scene.bypass_on if allowed else scene.bypass_off
    with Controller(scene, "learning") as controller:
        eventually(lambda: "CONTROLLER" in scene.ofctl("dump-flows"), "it has pushed its flow")
        flood = two.send()
        becomes(three.received, flood, "the flood at p3")
        for number in (1, 2):
            eventually(lambda: switched(scene, one, two), "both flows are there")
            use(one, two)
            packet_ins, gone = len(controller.told("packet_in")), len(controller.told("removed"))
            ends = time.monotonic() + 3
            while time.monotonic() < ends:
                use(one, two)
            assert len(controller.told("packet_in")) == packet_ins
            assert len(controller.told("removed")) == gone == 2 * (number - 1)
            becomes(lambda: len(controller.told("removed")), 2 * number, "flows that have gone")
        becomes(two.received, one.sent(), "received by p2")
        becomes(one.received, two.sent(), "received by p1")
        assert three.received() == flood
        for port, vnf in ((1, one), (2, two)):
            asked, sent = controller.told("packet_in").count(port), vnf.sent().packets
            assert sent - asked <= controller.removed(port) <= sent
    scene.highway("on", "--all")


def switched(scene: Scene, *vnfs: Vnf) -> bool:
    """Have each send; tell whether there is a flow for each."""
    for vnf in vnfs:
        vnf.send()
    return scene.ofctl("dump-flows").count("idle_timeout") == len(vnfs)


def test_an_os_ken_application_connects_two_ports_over_the_bypass(scene: Scene) -> None:
    """A proactive controller that reads statistics, sends packet-outs and modifies its flow.

    Steps: start it; three times: have it rewrite p1's packets, and cease to, and have the
    operator switch the bypass off and on; p1 sends all the while, and it sends packet-outs to p2.
    Verify: the bypass goes and comes each time; p2 has what p1 sent, and every packet-out; what
    the controller is told of flows and ports never goes back, and is right to the byte in the end.
    """
    scene.ports(2)
    two, one = scene.vnf(2), scene.vnf(1)
    with Controller(scene, "point_to_point") as controller:
        eventually(lambda: "cookie=0x2," in scene.ofctl("dump-flows"), "it has pushed its flows")
        for number in range(3):
            scene.bypass_on(one)
            controller.step(2 * number + 1)
            scene.revalidate()
            scene.bypass_off(one)
            controller.step(2 * number + 2)
            scene.bypass_on(one)
            scene.highway("off", "p1")
            scene.bypass_off(one)
            scene.highway("on", "p1")
        scene.bypass_on(one)
        controller.step(7)
        extra = controller.told("packet_outs")[-1]
        sent = one.sent()
        received = sent + Count(packets=extra, bytes=extra * PACKET_OUT)
        becomes(two.received, received, "received by p2")
        expected = [sent.packets, sent.bytes]
        becomes(lambda: controller.told("flows")[-1]["1"], expected, "what it is told of its flow")
        becomes(
            lambda: controller.told("ports")[-1]["2"][2:],
            [received.packets, received.bytes],
            "what it is told of p2",
        )
        assert controller.told("ports")[-1]["1"][:2] == expected
        flows = [one["1"][0] for one in controller.told("flows")]
        ports = [one["1"][0] for one in controller.told("ports")]
        assert flows == sorted(flows)
        assert ports == sorted(ports)
        assert len(set(flows)) > 6
