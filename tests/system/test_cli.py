# SPDX-License-Identifier: Apache-2.0
"""The `highway` command on a live switch, with highwayd and without it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.system.scene import BRIDGE, BURST, becomes, eventually, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene, Vnf


@pytest.fixture(autouse=True)
def _all_on_again(scene: Scene) -> Iterator[None]:
    """Have highwayd run, and nothing switched off, after each test."""
    yield
    scene.sandbox.start_highwayd()
    scene.highway("on", "--all")


def bypass(scene: Scene) -> tuple[Vnf, Vnf]:
    """Return receiver and sender of a bypass p1 → p2."""
    scene.ports(3)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    return receiver, sender


def port(scene: Scene, name: str) -> dict[str, Any]:
    """Return what `highway show` says of one port."""
    (found,) = [one for one in scene.highway_json("show")["ports"] if one["name"] == name]
    return dict(found)


def test_show_tells_ports_vnfs_and_links(scene: Scene) -> None:
    """Who is where, as OVS and the VNFs know it.

    Steps: a bypass p1 → p2, and a port p3 without a VNF; run `highway show`, both formats.
    Verify: pids, OpenFlow numbers, states and counters are those of the real things.
    """
    receiver, sender = bypass(scene)
    sender.send(10)
    becomes(receiver.received, sender.sent(), "the receiver")
    count, bypassed = sender.sent(), sender.bypassed()
    becomes(lambda: port(scene, "p1")["switch"]["bypass_rx_packets"], bypassed, "bypassed")
    one, two, three = (port(scene, name) for name in ("p1", "p2", "p3"))
    assert [one["bridge"], one["ofport"], three["ofport"]] == [BRIDGE, 1, 3]
    assert one["switch"]["pid"] == scene.sandbox.daemon("ovs-vswitchd").pid
    assert (one["vnf"]["pid"], two["vnf"]["pid"]) == (sender.pid, receiver.pid)
    assert one["vnf"]["started"]
    assert not three["vnf"]["attached"]
    assert one["switch"]["rx_packets"] + bypassed == count.packets
    assert two["switch"]["tx_packets"] + two["switch"]["bypass_tx_packets"] == count.packets
    link = {"to": "p2", "state": "bypass", "checked": False, "counted": False, "reason": ""}
    assert one["links"] == [link]
    text = scene.highway("show")
    assert f"Bridge {BRIDGE}" in text
    for piece in ("Port p1 (ofport 1)", f"VNF: pid {sender.pid}", "link to p2: bypass"):
        assert piece in text


def test_links_tells_counts_and_rates(scene: Scene) -> None:
    """What goes over each direction of a link.

    Steps: flood over the bypass, run `highway links`, both formats; stop.
    Verify: a rate while it floods; packets and bytes equal what the receiver got; the other
    direction is idle.
    """
    receiver, sender = bypass(scene)
    sender.flood()
    rows = {(row["from"], row["to"]): row for row in scene.highway_json("links")["links"]}
    assert rows["p1", "p2"]["state"] == "bypass"
    assert rows["p1", "p2"]["pps"] > 0
    assert rows["p1", "p2"]["bps"] > 0
    assert rows["p2", "p1"]["state"] == "idle"
    becomes(receiver.received, sender.quiet(), "the receiver")
    stats = receiver.xstats()
    becomes(
        lambda: (scene.link(1, 2)["packets"], scene.link(1, 2)["bytes"]),
        (stats["rx_bypass_packets"], stats["rx_bypass_bytes"]),
        "packets and bytes of the link",
    )
    assert "bypass" in scene.highway("links", "--interval", "0.1")


def test_rules_tells_what_is_matched_and_where_it_goes(scene: Scene) -> None:
    """The bypass rules of a port, with their counters and states.

    Steps: a flow for UDP port 80 to p3, where no VNF is, and the rest to p2; run `highway rules`.
    Verify: a live rule to p2 with the packets that were bypassed, a waiting one to p3 with its
    reason; nothing once the flows are gone.
    """
    _, sender = bypass(scene)
    scene.add_flow("priority=40000,in_port=1,udp,tp_dst=9,actions=3")
    scene.revalidate()

    def peers() -> list[str]:
        sender.send()
        return [rule["peer"] for rule in scene.highway_json("rules", "p1")["rules"]]

    becomes(peers, ["p3"], "the rules' peers")
    (waiting,) = scene.highway_json("rules", "p1")["rules"]
    assert (waiting["state"], waiting["reason"]) == ("waiting", "no VNF attached at p3")
    assert "9" in waiting["match"]
    scene.ofctl("mod-flows", "actions=2")
    scene.bypass_on(sender)
    live = [rule for rule in scene.highway_json("rules", "p1")["rules"] if rule["peer"] == "p2"]
    assert [rule["state"] for rule in live] == ["live"] * len(live)
    assert sum(rule["packets"] for rule in live) >= BURST
    assert "1 rules in force" in scene.highway("rules", "p1")
    scene.ofctl("del-flows")
    becomes(lambda: scene.highway_json("rules", "p1")["rules"], [], "no rules")


@pytest.mark.parametrize("highwayd", ["alive", "killed"])
def test_off_and_on_take_effect_at_once(scene: Scene, highwayd: str) -> None:
    """The kill switch works on the regions, so it needs no highwayd.

    Steps: flood over the bypass, with highwayd alive or killed; `highway off p1`, later `on`.
    Verify: once the command has returned the sender takes the normal channel within a burst or
    two; traffic arrives all the time, nothing is lost but what the switch drops and counts; after
    `on` the bypass is used again.
    """
    receiver, sender = bypass(scene)
    if highwayd == "killed":
        scene.sandbox.kill_highwayd()
    assert "off" in scene.highway("off", "p1")
    start = sender.bypassed()
    sender.send(10)
    assert sender.bypassed() == start
    assert port(scene, "p1")["mode"] == "off"
    assert "operator" in scene.link(1, 2)["reason"]
    becomes(receiver.received, sender.sent(), "the receiver")

    scene.highway("on", "p1")
    scene.bypass_on(sender)
    sender.flood()
    scene.highway("off", "p1")
    start = sender.bypassed()
    eventually(lambda: sender.normal() > 50 * BURST, "the normal channel is used")
    assert sender.bypassed() == start
    scene.highway("on", "p1")
    eventually(lambda: sender.bypassed() > start, "the bypass is used again")
    count = sender.quiet()
    arrived, dropped = settled(receiver.received), scene.port(2).tx_dropped
    assert arrived.packets + dropped == count.packets
    scene.flow_becomes(1, count)


@pytest.mark.parametrize("highwayd", ["alive", "killed"])
def test_off_all_holds_for_ports_to_come(scene: Scene, highwayd: str) -> None:
    """`off --all` until `on --all`.

    Steps: `highway off --all`, with highwayd alive or killed; add two ports with VNFs and a flow
    and, if it was killed, start highwayd; `highway on --all`.
    Verify: neither old nor new ports bypass before `on --all`; both do after it.
    """
    _, sender = bypass(scene)
    if highwayd == "killed":
        scene.sandbox.kill_highwayd()
    scene.highway("off", "--all")
    before = sender.bypassed()
    scene.ports(2, first=4)
    scene.sandbox.start_highwayd()
    scene.vnf(5)
    late = scene.vnf(4)
    scene.add_flow("in_port=4,actions=5")
    for _ in range(5):
        sender.send()
        late.send()
        scene.revalidate()
    assert (sender.bypassed(), late.bypassed()) == (before, 0)
    assert "--all" in port(scene, "p4")["reasons"][0]
    assert "still holds" in scene.highway("on", "p4")
    late.send()
    assert late.bypassed() == 0
    scene.highway("on", "--all")
    scene.bypass_on(sender, late)


def test_doctor_finds_a_sandbox_well(scene: Scene) -> None:
    """The checks of `highway doctor` against a switch that works.

    Steps: run it, as text and JSON.
    Verify: it checks huge pages, the driver, OVS's options and highwayd, and none of these fails.
    """
    scene.ports(1)
    report = json.loads(scene.highway("doctor", "--format", "json"))
    checks = report["checks"] if isinstance(report, dict) else report
    assert {"huge pages", "permissions"} <= {check["name"] for check in checks}
    assert [check for check in checks if check["level"] == "fail"] == []
    assert "hw-offload" in scene.highway("doctor")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("off", "p9"), 1, ("no port p9", "p1")),
        (("rules", "p9"), 1, ("no port p9",)),
        (("off",), 1, ("PORT", "--all")),
        (("on", "p1", "--all"), 1, ("PORT", "--all")),
        (("show", "--format", "xml"), 2, ("xml",)),
        (("no-such-command",), 2, ("no-such-command",)),
    ],
)
def test_mistakes_are_told_in_a_line_with_a_status(
    scene: Scene, arguments: tuple[str, ...], status: int, words: tuple[str, ...]
) -> None:
    """Clear errors: what is wrong, what to do, exit status not 0, no traceback."""
    scene.ports(1)
    told = scene.highway(*arguments, status=status)
    assert "Traceback" not in told
    for word in words:
        assert word in told
