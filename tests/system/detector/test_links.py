# SPDX-License-Identifier: Apache-2.0
"""What the detector drives, on a real OVS: links made early, links by proof, rules left at once."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.system.crossing import FEW, uses
from tests.system.scene import BRIDGE, Count, becomes, eventually

from ovs_highway import paths, unixctl
from ovs_highway.bench.switchover import await_switch, settled
from ovs_highway.cli.monitor_cmd import Steps
from ovs_highway.events import read
from ovs_highway.lab import Traffic, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene

TWICE = "output:2,output:3"
"""Not p-2-p, but asks OVS to match nothing more: so it modifies its datapath flow. If it deleted it
packets would overtake others, with and without us."""


@pytest.fixture(autouse=True)
def _as_before(scene: Scene) -> Iterator[None]:
    yield
    scene.sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", "highway-mode")
    for key in ("highway-detector", "highway-fail-mode"):
        scene.sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", key)
    scene.sandbox.start_highwayd()


def without_labels(scene: Scene, count: int) -> None:
    """Add the ports `p1` and so on, which trust nobody."""
    scene.ports(count)
    for number in range(1, count + 1):
        scene.sandbox.vsctl("remove", "Interface", f"p{number}", "external_ids", "highway-trust")


def detector(scene: Scene) -> dict[str, Any]:
    """Return what the detector says of bridges and ports."""
    socket = paths.control_socket(scene.sandbox.rundir)
    found: dict[str, Any] = json.loads(unixctl.call(socket, "highway/detector"))
    return found


def peer(scene: Scene, number: int) -> str | None:
    """Return the port to which all of a port's traffic is proven to go."""
    found: str | None = detector(scene)["ports"][f"p{number}"]["peer"]
    return found


def kind(scene: Scene, number: int) -> str:
    """Return the short name of the reason why a port is not p-2-p."""
    return str(detector(scene)["ports"][f"p{number}"]["kind"])


def steps(scene: Scene) -> list[tuple[str, tuple[str, ...]]]:
    """Return the stages that `highway monitor` has told so far, with their ports."""
    found = Steps()
    told = map(found.step, read(paths.events_file(scene.sandbox.rundir)))
    return [(step.stage, step.ports) for step in told if step is not None]


@contextlib.contextmanager
def sending(scene: Scene, *classes: str, both_ways: bool = False) -> Iterator[Traffic]:
    """p1 sends classes, with p2 also sending; nothing of it is lost, doubled or reordered."""
    with Traffic("traffic", ["p1", "p2"], env=scene.sandbox.env) as program:
        program.define(*classes)
        program.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2")
        senders = (0, 1) if both_ways else (0,)
        for port in senders:
            program.send(port, classes=range(len(classes)), sizes=[64], window=FEW)
        yield program
        assert judge(settled(program)).faults == {}


@contextlib.contextmanager
def revalidators_paused(scene: Scene) -> Iterator[None]:
    """Have OVS's revalidators stand still; a resume without a pause would block OVS for ever."""
    scene.sandbox.appctl("revalidator/pause")
    try:
        yield
    finally:
        scene.sandbox.appctl("revalidator/resume")


def on_both(program: Traffic) -> bool:
    """Tell whether what p1 sends takes both channels just now."""
    before = program.xstats(0)
    time.sleep(0.05)
    after = program.xstats(0)
    return all(after[key] > before[key] for key in ("tx_bypass_packets", "tx_normal_packets"))


def test_a_link_is_there_before_the_first_packet(scene: Scene) -> None:
    """p-2-p requested: the channel is plugged, so that the first rule goes live at once.

    Steps: two VNFs without a label; a flow p1 → p2; nothing is sent; then p1 sends.
    Verify: the link is up without any rule; traffic takes it; the monitor tells each stage.
    """
    without_labels(scene, 2)
    with Traffic("traffic", ["p1", "p2"], env=scene.sandbox.env) as program:
        program.define("udp=1000")
        program.wait_link_up()
        before = len(steps(scene))
        scene.add_flow("cookie=1,in_port=1,actions=2")
        becomes(lambda: scene.link(1, 2).get("state"), "idle", "the link is ready")
        assert scene.link(1, 2)["rules"] == 0
        assert scene.link(2, 1)["state"] == "off"
        program.send(0, classes=[0], sizes=[64], window=FEW)
        uses(program, "bypass", 1)
        program.stop(0)
        assert judge([program.stats()]).faults == {}
        sent = sum(program.stats().ports[0].sent.values())
        scene.flows_claim((1,), Count(packets=sent), port=1)
        stages = [stage for stage, ports in steps(scene)[before:] if "p1" in ports]
        assert stages[:4] == ["proven", "requested", "plugged", "active"]
        scene.ofctl("del-flows")
        becomes(lambda: scene.link(1, 2), {}, "the link is gone")
        stages = [stage for stage, ports in steps(scene)[before:] if "p1" in ports]
        assert {"disproved", "withdrawn"} <= set(stages)
        assert stages[-1] == "unplugged"


@pytest.mark.parametrize("mode", ["", "p2p"])
def test_without_a_label_traffic_is_bypassed_while_it_is_proven(scene: Scene, mode: str) -> None:
    """`auto` without labels and `p2p` have links by proof only.

    Steps: flows p1 ↔ p2 under traffic of two classes; one class is sent to a third port, too; and
    no longer.
    Verify: bypass, then all of p1's on the normal channel with the flow named, then bypass; p2's
    stays where it is; nothing is lost or reordered.
    """
    without_labels(scene, 3)
    if mode:
        scene.sandbox.vsctl("set", "Open_vSwitch", ".", f"external_ids:highway-mode={mode}")
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.add_flow("cookie=3,priority=40000,in_port=1,udp,actions=2")
    scene.add_flow("cookie=2,in_port=2,actions=1")
    with sending(scene, "udp=1000", "tcp=80", both_ways=True) as program:
        uses(program, "bypass", 1, 2)
        scene.ofctl("mod-flows", f"in_port=1,udp,actions={TWICE}")
        uses(program, "normal", 1)
        assert "more than one port" in scene.link(1, 2)["reason"]
        assert "priority=40000" in scene.link(1, 2)["reason"]
        uses(program, "bypass", 2)
        scene.ofctl("mod-flows", "in_port=1,udp,actions=2")
        uses(program, "bypass", 1, 2)
        assert judge(settled(program)).faults == {}
        for port, cookies in ((0, (1, 3)), (1, (2,))):
            sent = sum(program.stats().ports[port].sent.values())
            scene.flows_claim(cookies, Count(packets=sent), port=port + 1)


CHANGES = {
    "the first table": "in_port=1,udp,tp_dst=1000",
    "a later table": "table=1,udp,tp_dst=1000",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_class_is_withdrawn_before_ovs_gets_to_it(scene: Scene, name: str) -> None:
    """A flowmod that changes a bypassed class; OVS's revalidators stand still.

    Steps: p1 → p2 over two tables with labels, two classes under traffic; pause the revalidators;
    change what happens to one class; let them go on; undo.
    Verify: that class leaves the bypass while OVS knows nothing of it, the other stays; OVS then
    destroys that rule; in the end both are bypassed; nothing is lost or reordered.
    """
    flow = CHANGES[name]
    scene.ports(3)
    scene.add_flow("priority=1,in_port=1,actions=resubmit(,1)")
    scene.add_flow("table=1,priority=1,actions=output:2")
    scene.add_flow(f"priority=50,{flow},actions=output:2")
    with sending(scene, "udp=1000", "udp=1001") as program:
        uses(program, "bypass", 1)
        eventually(lambda: scene.link(1, 2).get("rules", 0) >= 2, "both classes have a rule")
        with revalidators_paused(scene):
            scene.ofctl("mod-flows", f"{flow},actions={TWICE}")
            eventually(lambda: scene.region(1).suppressed() != {}, "a rule is suppressed")
            assert len(scene.region(1).suppressed()) == 1
            eventually(lambda: on_both(program), "one class is on the bypass and one is not")
            assert scene.link(1, 2)["state"] == "bypass"
        becomes(lambda: scene.region(1).suppressed(), {}, "what is suppressed")
        scene.ofctl("mod-flows", f"{flow},actions=output:2")
        uses(program, "bypass", 1)


def test_a_rule_that_ovs_keeps_is_used_again(scene: Scene) -> None:
    """What the detector cannot tell, OVS decides: here what multipath does.

    Steps: p1 → p2 by a flow that is not followed, under traffic; change it into another such one;
    wait.
    Verify: it is suppressed and lifted again, without loss or reordering.
    """
    scene.ports(2)
    odd = "multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),output:2"
    scene.add_flow(f"cookie=1,in_port=1,actions={odd}")
    with sending(scene, "udp=1000") as program:
        uses(program, "bypass", 1)
        log = "OVS keeps a rule: it is used again"
        before = scene.log("highwayd").count(log)
        scene.ofctl("mod-flows", f"in_port=1,actions=note:01,{odd}")
        eventually(lambda: scene.log("highwayd").count(log) > before, "a suppression is lifted")
        uses(program, "bypass", 1)


def test_groups_and_port_settings_count(scene: Scene) -> None:
    """Group mods and port mods raise no flow event.

    Steps: p1 to a group with one bucket; another bucket; one again; p2 down and up; the group gone.
    Verify: the verdict follows each of them.
    """
    without_labels(scene, 3)
    scene.ofctl("add-group", "group_id=1,type=indirect,bucket=output:2")
    scene.add_flow("in_port=1,actions=group:1")
    becomes(lambda: peer(scene, 1), "p2", "p1's peer")
    scene.ofctl("mod-group", "group_id=1,type=all,bucket=output:2,bucket=output:3")
    becomes(lambda: (peer(scene, 1), kind(scene, 1)), (None, "group"), "p1's peer")
    scene.ofctl("mod-group", "group_id=1,type=all,bucket=output:3")
    becomes(lambda: peer(scene, 1), "p3", "p1's peer")
    scene.ofctl("mod-port", "3", "down")
    becomes(lambda: (peer(scene, 1), kind(scene, 1)), (None, "port"), "p1's peer")
    scene.ofctl("mod-port", "3", "up")
    becomes(lambda: peer(scene, 1), "p3", "p1's peer")
    scene.ofctl("mod-port", "1", "no-receive")
    becomes(lambda: peer(scene, 1), None, "p1's peer")
    scene.ofctl("mod-port", "1", "receive")
    becomes(lambda: peer(scene, 1), "p3", "p1's peer")
    scene.ofctl("del-groups")
    becomes(lambda: peer(scene, 1), None, "p1's peer")


def test_a_patch_port_leads_on(scene: Scene) -> None:
    """Steps: p1 on br0, p4 on br1, a patch between them. Verify: proven, and bypassed."""
    sandbox = scene.sandbox
    without_labels(scene, 1)
    sandbox.add_bridge("br1")
    try:
        sandbox.add_port("br1", "p2", 2)
        sandbox.vsctl("remove", "Interface", "p2", "external_ids", "highway-trust")
        for bridge, other in ((BRIDGE, "br1"), ("br1", BRIDGE)):
            sandbox.vsctl(
                *("add-port", bridge, f"to-{other}", "--", "set", "Interface", f"to-{other}"),
                *("type=patch", f"options:peer=to-{bridge}", "ofport_request=9"),
            )
        scene.add_flow("in_port=1,actions=9")
        sandbox.ofctl("add-flow", "br1", "in_port=9,actions=2")
        becomes(lambda: peer(scene, 1), "p2", "p1's peer")
        with sending(scene, "udp=1000") as program:
            uses(program, "bypass", 1)
            sandbox.ofctl("mod-flows", "br1", "in_port=9,actions=2,LOCAL")
            uses(program, "normal", 1)
            sandbox.ofctl("mod-flows", "br1", "in_port=9,actions=2")
            uses(program, "bypass", 1)
    finally:
        sandbox.vsctl("del-br", "br1")


def test_what_no_flow_shows_is_a_reason(scene: Scene) -> None:
    """Steps: settings of bridge and controllers come and go. Verify: each is the reason."""
    without_labels(scene, 2)
    scene.add_flow("in_port=1,actions=2")
    becomes(lambda: peer(scene, 1), "p2", "p1's peer")
    vsctl = scene.sandbox.vsctl
    for do, undo, word in (
        (
            ("set-controller", BRIDGE, "tcp:127.0.0.1:9"),
            ("del-controller", BRIDGE),
            "in-band control of tcp:127.0.0.1:9",
        ),
        (
            (
                *("--", "--id=@p", "get", "Port", "p2", "--", "--id=@m", "create", "Mirror"),
                *("name=m", "select_all=true", "output_port=@p"),
                *("--", "set", "Bridge", BRIDGE, "mirrors=@m"),
            ),
            ("clear", "Bridge", BRIDGE, "mirrors"),
            "it has mirrors",
        ),
        (
            ("set", "Interface", "p1", "bfd:enable=true"),
            ("set", "Interface", "p1", "bfd:enable=false"),
            "port p1 runs bfd",
        ),
    ):
        vsctl(*do)
        eventually(
            lambda word=word: word in detector(scene)["ports"]["p1"]["reason"],  # type: ignore[misc]
            f"the reason has {word}",
        )
        vsctl(*undo)
        scene.add_flow("in_port=1,actions=2")  # OVS has a clean start with other controllers
        becomes(lambda: peer(scene, 1), "p2", "p1's peer")
    scene.ofctl("set-frags", "drop")
    becomes(lambda: peer(scene, 1), None, "p1's peer")
    scene.ofctl("set-frags", "normal")
    becomes(lambda: peer(scene, 1), "p2", "p1's peer")


@pytest.mark.parametrize("versions", ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"])
def test_each_version_of_openflow_will_do(scene: Scene, versions: str) -> None:
    """Steps: a bridge that speaks one version. Verify: proven; with a group only from 1.4 on."""
    without_labels(scene, 2)
    scene.ofctl("add-group", "group_id=1,type=indirect,bucket=output:1")
    scene.add_flow("in_port=2,actions=group:1")
    scene.add_flow("in_port=1,actions=2")
    scene.sandbox.vsctl("set", "Bridge", BRIDGE, f"protocols={versions}")
    number = {"OpenFlow10": 1, "OpenFlow13": 4, "OpenFlow14": 5, "OpenFlow15": 6}[versions]
    becomes(
        lambda: (detector(scene)["bridges"][BRIDGE]["openflow"], peer(scene, 1)),
        (number, "p2"),
        "the version, and p1's peer",
    )
    assert peer(scene, 2) == ("p1" if number >= 5 else None)


def test_flows_that_openflow_1_0_leaves_out_are_noticed(scene: Scene) -> None:
    """Steps: a flow with a meter; then the bridge speaks 1.0 only. Verify: not p-2-p."""
    without_labels(scene, 2)
    scene.ofctl("add-meter", "meter=1,kbps,band=type=drop,rate=1000000")
    scene.add_flow("in_port=1,actions=meter:1,output:2")
    scene.add_flow("in_port=2,actions=output:1")
    scene.sandbox.vsctl("set", "Bridge", BRIDGE, "protocols=OpenFlow10")
    eventually(
        lambda: "meter" in str(detector(scene)["bridges"][BRIDGE]["blocked"]), "it is noticed"
    )
    assert (peer(scene, 1), peer(scene, 2)) == (None, None)


def test_proofs_come_back_with_highwayd_and_with_ovs(scene: Scene) -> None:
    """Steps: a proven link under traffic; kill and start highwayd; then ovs-vswitchd.

    Verify: the link stays over highwayd's death; p-2-p is known again after each.
    """
    without_labels(scene, 2)
    scene.add_flow("in_port=1,actions=2")
    with sending(scene, "udp=1000") as program:
        uses(program, "bypass", 1)
        link = scene.link(1, 2)["link_id"]
        scene.sandbox.kill_highwayd()
        scene.sandbox.start_highwayd()
        becomes(lambda: detector(scene)["ports"].get("p1", {}).get("peer"), "p2", "p1's peer")
        time.sleep(4)  # longer than drivers have to report a link
        assert scene.link(1, 2)["link_id"] == link
        uses(program, "bypass", 1)
    scene.sandbox.restart_vswitchd()
    scene.add_flow("in_port=1,actions=2")
    becomes(lambda: detector(scene)["ports"].get("p1", {}).get("peer"), "p2", "p1's peer")


def test_standalone_outlives_an_orderly_end_of_ovs(scene: Scene) -> None:
    """An ovs-vswitchd that ends deletes its flows first, which are what the link is proven by.

    Steps: fail-mode standalone, a proven link without labels under traffic; end ovs-vswitchd; start
    it, with the same flows.
    Verify: the bypass goes on over the same link; the new switch's flows prove it again.
    """
    without_labels(scene, 2)
    vsctl = scene.sandbox.vsctl
    vsctl("set", "Open_vSwitch", ".", "external_ids:highway-fail-mode=standalone")
    scene.add_flow("in_port=1,actions=2")
    # Not `sending`: what a new switch gets before it has its flows is dropped, with and without us.
    with Traffic("traffic", ["p1", "p2"], env=scene.sandbox.env) as program:
        program.define("udp=1000")
        program.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2")
        program.send(0, classes=[0], sizes=[64], window=FEW)
        uses(program, "bypass", 1)
        eventually(
            lambda: all(scene.region(number).gate().standalone for number in (1, 2)),
            "highwayd has written it for both ports",
        )
        link = scene.link(1, 2)["link_id"]
        scene.sandbox.stop_vswitchd()
        time.sleep(1)
        uses(program, "bypass", 1)
        assert scene.link(1, 2)["link_id"] == link
        assert judge([program.stats()]).reordered == 0
        scene.sandbox.start_vswitchd()
        scene.add_flow("in_port=1,actions=2")
        becomes(lambda: detector(scene)["ports"].get("p1", {}).get("peer"), "p2", "p1's peer")


def test_explain_says_what_decides_and_what_would_change_it(scene: Scene) -> None:
    """Steps: one class is dropped; ask for all, for that class, for another one, and wrongly."""
    without_labels(scene, 2)
    scene.add_flow("in_port=1,actions=2")
    scene.add_flow("priority=40000,in_port=1,udp,tp_dst=53,actions=drop")
    becomes(lambda: kind(scene, 1), "drop", "why p1 is not p-2-p")
    text = scene.highway("explain", "p1")
    assert "priority=40000" in text
    assert "not p-2-p: drops it" in text
    assert "to change that:" in text
    assert "not p-2-p" in scene.highway("explain", "p1", "--packet", "udp,tp_dst=53")
    told = scene.highway_json("explain", "p1", "--packet", "tcp,tp_dst=80")
    assert (told["peer"], told["reason"]) == ("p2", "")
    assert told["flows"] == [f"{BRIDGE}: table=0, priority=32768,in_port=1 actions=output:2"]
    assert "there is no port p9" in scene.highway("explain", "p9", status=1)
    assert "cannot be read" in scene.highway("explain", "p1", "--packet", "tp_dst=x", status=1)
    assert "needs tcp" in scene.highway("explain", "p1", "--packet", "tp_dst=5", status=1)


def test_the_detector_can_be_turned_off(scene: Scene) -> None:
    """Steps: highway-detector=off, and back. Verify: no proofs without it."""
    without_labels(scene, 2)
    scene.add_flow("in_port=1,actions=2")
    becomes(lambda: peer(scene, 1), "p2", "p1's peer")
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-detector=off")
    becomes(lambda: detector(scene), {"bridges": {}, "ports": {}}, "what is followed")
    scene.sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", "highway-detector")
    becomes(lambda: detector(scene)["ports"].get("p1", {}).get("peer"), "p2", "p1's peer")
