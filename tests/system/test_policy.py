# SPDX-License-Identifier: Apache-2.0
"""What turns a bypass off, on a real OVS and under traffic: that it does, why, and at no loss.

What OVS then does with the packets is its own; here it is asked for nothing that drops them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.system.crossing import traffic, uses
from tests.system.scene import BRIDGE, Count, becomes, eventually, settled

from ovs_highway.lab.traffic import match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene

CLASSES: Final = ("udp=1000", "udp=1001", "tcp=80")
REWRITE: Final = "mod_dl_dst:02:00:00:00:00:77"
PLENTY: Final = 10_000_000
LEASE: Final = 10.0

# What to do, what to undo, and the reason. No rate is ever reached.
POLICIES: Final = {
    "policing": (
        f"set Interface p1 ingress_policing_rate={PLENTY} ingress_policing_burst={PLENTY}",
        "set Interface p1 ingress_policing_rate=0",
        f"ingress policing, ingress_policing_rate={PLENTY} on interface p1",
    ),
    "qos": (
        "set Port p2 qos=@q -- --id=@q create QoS type=egress-policer"
        f" other_config:cir={PLENTY}000 other_config:cbs={PLENTY}",
        "clear Port p2 qos",
        "QoS on port p2",
    ),
    "netflow": (
        f'set Bridge {BRIDGE} netflow=@n -- --id=@n create NetFlow targets="127.0.0.1:9"',
        f"clear Bridge {BRIDGE} netflow",
        f"NetFlow on bridge {BRIDGE}",
    ),
    "port-off": (
        "set Interface p2 external_ids:highway=off",
        "remove Interface p2 external_ids highway",
        "external_ids:highway=off on interface p2",
    ),
    "bridge-off": (
        f"set Bridge {BRIDGE} external_ids:highway=off",
        f"remove Bridge {BRIDGE} external_ids highway",
        f"external_ids:highway=off on bridge {BRIDGE}",
    ),
    "mode-off": (
        "set Interface p1 external_ids:highway-mode=off",
        "remove Interface p1 external_ids highway-mode",
        "external_ids:highway-mode=off on interface p1",
    ),
    "unknown-mode": (
        "set Open_vSwitch . external_ids:highway-mode=best",
        "remove Open_vSwitch . external_ids highway-mode",
        "external_ids:highway-mode=best on Open_vSwitch is not auto, checked, p2p or off",
    ),
}


@pytest.fixture(autouse=True)
def _as_before(scene: Scene) -> Iterator[None]:
    """Leave highwayd running and no settings of ours, whatever the test did."""
    yield
    keys = ("highway-mode", "highway-fail-mode")
    scene.sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", *keys)
    scene.sandbox.start_highwayd()


def set_ids(scene: Scene, number: int, **ids: str) -> None:
    """Set `external_ids:highway-<key>` of a port's interface; an empty value removes it."""
    for key, value in ids.items():
        name = f"highway-{key}"
        if value:
            scene.sandbox.vsctl("set", "Interface", f"p{number}", f"external_ids:{name}={value}")
        else:
            scene.sandbox.vsctl("remove", "Interface", f"p{number}", "external_ids", name)


def reasons(scene: Scene) -> tuple[Any, Any]:
    """Return why each direction between p1 and p2 is off."""
    rows = scene.highway_json("links", "--interval", "0")["links"]
    found = {row["from"]: row["reason"] for row in rows if {row["from"], row["to"]} == {"p1", "p2"}}
    return found.get("p1"), found.get("p2")


def become(scene: Scene, start: str) -> None:
    """Wait until the reason of each direction begins so; `{}` is the sender's number."""

    def right() -> bool:
        return all(
            (reason or "").startswith(start.format(number))
            for number, reason in enumerate(reasons(scene), 1)
        )

    eventually(right, f"{start} is the reason, not {reasons(scene)}")


def test_what_ovs_does_outside_the_flow_and_what_people_say_turns_both_directions_off(
    scene: Scene,
) -> None:
    """Each policy of the database under traffic in both directions, one after the other.

    Steps: traffic over the bypass; for each policy: set it, take it back.
    Verify: while it is set all traffic in both directions takes the normal channel, and `highway
    links` and `highway show` have the reason; then it takes the bypass again. Nothing is lost,
    doubled or reordered, and OpenFlow has counted all.
    """
    with traffic(scene, "udp=1000") as program:
        uses(program, "bypass")
        for do, undo, reason in POLICIES.values():
            scene.sandbox.vsctl(*do.split())
            becomes(lambda: reasons(scene), (f"policy: {reason}",) * 2, "the reasons")
            uses(program, "normal")
            assert f"mode: off (policy: {reason})" in scene.highway("show")
            scene.sandbox.vsctl(*undo.split())
            uses(program, "bypass")
            becomes(lambda: reasons(scene), ("", ""), "the reasons")


def link_state(scene: Scene, port: str) -> str:
    """Return what OVS knows of a port's link; it looks every 5 s."""
    return scene.sandbox.vsctl("get", "Interface", port, "link_state").strip()


def test_a_mirror_gets_flows_that_were_bypassed_before_it_came(scene: Scene) -> None:
    """OVS 3.1 does not look at existing flows again when a mirror is added.

    Steps: traffic over the bypass; add a mirror to p3; change it to what p1 gets; remove it.
    Verify: with the mirror all takes the normal channel, and p3 is sent each packet from then
    on; without it the bypass is used again. Nothing is lost on the way to p2.
    """
    scene.ports(1, first=3)
    probe = scene.vnf(3)

    def mirrored() -> Count:
        """What p3 got, and what OVS had no room for in its ring."""
        return Count(packets=probe.received().packets + scene.port(3).tx_dropped)

    with traffic(scene, "udp=1000", both_ways=False) as program:
        uses(program, "bypass", 1)
        for port in ("p1", "p2", "p3"):  # a link that OVS sees come up makes it revalidate
            becomes(lambda port=port: link_state(scene, port), "up", port)  # type: ignore[misc]
        uses(program, "bypass", 1)
        scene.sandbox.vsctl(
            *("--id=@out", "get", "Port", "p3", "--", "--id=@in", "get", "Port", "p1"),
            *("--", "--id=@m", "create", "Mirror", "name=m", "select_src_port=@in"),
            *("output_port=@out", "--", "set", "Bridge", BRIDGE, "mirrors=@m"),
        )
        uses(program, "normal", 1)
        program.stop(0)
        seen, sent = settled(mirrored), sum(program.stats().ports[0].sent.values())
        assert seen.packets > 0
        program.resume(0)
        uses(program, "normal", 1)
        program.stop(0)
        more = sum(program.stats().ports[0].sent.values()) - sent
        becomes(mirrored, seen + Count(packets=more), "the mirror's port")
        assert scene.link(1, 2)["rules"] == 0
        program.resume(0)
        scene.sandbox.vsctl(
            *("--id=@in", "get", "Port", "p1", "--", "clear", "Mirror", "m", "select_src_port"),
            *("--", "set", "Mirror", "m", "select_dst_port=@in"),
        )
        uses(program, "bypass", 1)
        scene.sandbox.vsctl("set", "Mirror", "m", "select_all=true")
        uses(program, "normal", 1)
        scene.sandbox.vsctl("clear", "Bridge", BRIDGE, "mirrors")
        uses(program, "bypass", 1)


def test_labels_and_modes_make_and_end_links_under_traffic(scene: Scene) -> None:
    """Who may have a link with whom, and of which kind, changes while traffic goes on.

    Steps: traffic both ways between ports with a common label; change labels and modes.
    Verify: after each change the traffic takes the channel that it should, and `highway links` and
    `highway show` say what the link is, or why there is none; nothing is lost or reordered.
    """
    no_label = (
        "p1 and p2 have no highway-trust label in common; set external_ids:highway-trust, or"
        " highway-mode=checked on "
    )
    with traffic(scene, "udp=1000") as program:
        uses(program, "bypass")
        assert not scene.link(1, 2)["checked"]

        set_ids(scene, 2, trust="other")
        uses(program, "normal")
        become(scene, f"{no_label}both; what p{{}} sends is not point-to-point: ")
        assert scene.region_files("link-") == []
        set_ids(scene, 1, mode="checked")
        become(scene, f"{no_label}p2; what p{{}} sends is not point-to-point: ")

        set_ids(scene, 2, mode="checked")
        uses(program, "bypass")
        assert scene.link(1, 2)["checked"]
        assert scene.link(2, 1)["checked"]
        assert "bypass, checked" in scene.highway("links", "--interval", "0")
        assert "mode: checked, trust label other" in scene.highway("show")

        set_ids(scene, 1, trust="other")
        becomes(lambda: scene.link(1, 2)["checked"], False, "a label in common")
        uses(program, "bypass")
        set_ids(scene, 1, mode="p2p")
        uses(program, "normal")
        words = "highway-mode=p2p at p1, and what p{} sends is not proven to be point-to-point: "
        become(scene, words)
        set_ids(scene, 1, mode="")
        uses(program, "bypass")


def test_a_checked_link_follows_rules_that_come_and_go(scene: Scene) -> None:
    """The receiver's copy of the rules is right at each moment.

    Steps: ports without labels in mode checked; traffic of three classes both ways; modify, delete
    and add their flows again, many times; take highwayd away and bring it back.
    Verify: the receiver refuses nothing, nothing is lost, doubled or reordered, and the new
    highwayd has the same link, still checked.
    """
    with traffic(scene, *CLASSES) as program:
        for number in (1, 2):
            set_ids(scene, number, trust="", mode="checked")
        becomes(lambda: scene.link(1, 2)["checked"], True, "the link")
        uses(program, "bypass")
        for number in range(24):
            source, spec = 1 + number % 2, CLASSES[number % 3]
            flow = f"in_port={source},{match(spec)}"
            change = f"cookie={10 * source + number % 3},{flow},actions="
            scene.add_flow(f"{change}{REWRITE},{3 - source}")
            if number % 4 == 3:
                uses(program, "bypass", 3 - source)
            scene.add_flow(f"{change}{3 - source}")
            if number % 4 == 1:
                uses(program, "bypass", source)
        link = scene.link(1, 2)["link_id"]
        scene.sandbox.kill_highwayd()
        scene.sandbox.start_highwayd()
        becomes(lambda: scene.highway_json("show")["highwayd"]["ovsdb"], True, "the database")
        becomes(lambda: scene.link(1, 2)["state"], "bypass", "the link")
        uses(program, "bypass")
        assert scene.link(1, 2)["link_id"] == link
        assert scene.link(1, 2)["checked"]
        for port in (0, 1):
            assert program.xstats(port)["rx_bypass_refused_errors"] == 0


def test_fin_timeout_turns_the_bypass_off_while_a_rule_has_it(scene: Scene) -> None:
    """OVS has to see TCP's flags for it, and an offload reports none.

    Steps: TCP over the bypass; give its flow a fin_timeout; take it back.
    Verify: with it all of the bridge takes the normal channel, and it is said why; without it the
    bypass is used again.
    """
    reason = f"policy: an OpenFlow rule of bridge {BRIDGE} has fin_timeout"
    with traffic(scene, "udp=1000", "tcp=80") as program:
        uses(program, "bypass")
        change = f"cookie=11,in_port=1,{match('tcp=80')},actions="
        scene.add_flow(f"{change}fin_timeout(idle_timeout=60),output:2")
        becomes(lambda: reasons(scene), (reason, reason), "the reasons")
        uses(program, "normal")
        before = [program.xstats(port)["tx_bypass_packets"] for port in (0, 1)]
        time.sleep(2)
        after = [program.xstats(port)["tx_bypass_packets"] for port in (0, 1)]
        assert before == after, "it comes and goes"
        scene.add_flow(f"{change}output:2")
        uses(program, "bypass")
        becomes(lambda: reasons(scene), ("", ""), "the reasons")


def test_in_fail_mode_standalone_the_bypass_outlives_the_lease(scene: Scene) -> None:
    """Whoever prefers the bypass to a living policy says so.

    Steps: highway-fail-mode=standalone; traffic; kill highwayd and wait for longer than its lease.
    Verify: the bypass is used all the time, and nothing says otherwise; nothing is lost. (Without
    the setting: test_highwayd.py.)
    """
    vsctl = scene.sandbox.vsctl
    with traffic(scene, "udp=1000") as program:
        uses(program, "bypass")
        vsctl("set", "Open_vSwitch", ".", "external_ids:highway-fail-mode=standalone")
        regions = [scene.region(number) for number in (1, 2)]
        eventually(
            lambda: all(region.gate().standalone for region in regions),
            "highwayd has written it for both ports",
        )
        scene.sandbox.kill_highwayd()
        normal = program.xstats(0)["tx_normal_packets"]
        time.sleep(LEASE + 2)
        uses(program, "bypass")
        assert program.xstats(0)["tx_normal_packets"] == normal
        assert reasons(scene) == ("", "")
        assert "lease" not in scene.highway("show")
