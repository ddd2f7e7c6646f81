# SPDX-License-Identifier: Apache-2.0
"""The status commands, with and without a living highwayd."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.cli import status
from ovs_highway.cli.match import format_match
from ovs_highway.errors import CommandError, HighwayError
from ovs_highway.shm import CData, Off, Phase, ffi
from ovs_highway.view import SUPPRESSED

from .conftest import put_rule, wait_for

if TYPE_CHECKING:
    from typing import TypeAlias

    from ovs_highway.lab.stand_in import FakeSwitch, FakeVnf

    from .conftest import Lab

    Linked: TypeAlias = tuple[FakeSwitch, FakeSwitch, FakeVnf, FakeVnf]


def run(lab: Lab, *arguments: str) -> str:
    group = click.Group()
    status.register(group)
    command = [*arguments, "--rundir", str(lab.rundir)]
    result = CliRunner().invoke(group, command, catch_exceptions=True)
    if isinstance(result.exception, HighwayError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def links(lab: Lab) -> dict[tuple[str, str], dict[str, Any]]:
    answer = json.loads(run(lab, "links", "--format", "json", "--interval", "0"))
    return {(link["from"], link["to"]): link for link in answer["links"]}


@pytest.fixture
def linked(lab: Lab) -> tuple[FakeSwitch, FakeSwitch, FakeVnf, FakeVnf]:
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    a, b = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    put_rule(one, 3, two)
    one.want(two)
    a.accept_link()
    b.accept_link()
    a.await_update()
    b.await_update()
    return one, two, a, b


def test_links_has_a_row_for_each_direction(lab: Lab, linked: Linked) -> None:
    _, _, a, _ = linked
    (link,) = a.links.values()
    received = link.raw.received[1][0]
    received.packets, received.bytes = 1000, 64000
    found = links(lab)
    assert found["vnf1", "vnf2"]["state"] == "bypass"
    assert found["vnf1", "vnf2"]["packets"] == 1000
    assert found["vnf1", "vnf2"]["bytes"] == 64000
    assert found["vnf2", "vnf1"]["state"] == "idle"
    assert found["vnf2", "vnf1"]["packets"] == 0
    text = run(lab, "links", "--interval", "0.01")
    assert text.splitlines()[0].split()[:5] == ["from", "to", "state", "rules", "packets"]
    assert text.splitlines()[1].split()[:5] == ["vnf1", "vnf2", "bypass", "1", "1000"]


def test_everything_can_be_seen_while_highwayd_is_dead(lab: Lab, linked: Linked) -> None:
    assert "highwayd: running" in run(lab, "show")
    lab.end(signal.SIGKILL)
    text = run(lab, "show")
    assert text.startswith("highwayd: not running\n")
    assert "link to vnf2: bypass" in text
    assert links(lab)["vnf1", "vnf2"]["state"] == "bypass"
    assert "highwayd: not running" in run(lab, "links")
    assert "live" in run(lab, "rules", "vnf1")
    before = time.time() - 60
    os.utime(lab.rundir / "highwayd.pid", (before, before))
    assert "(lease); start highwayd" in links(lab)["vnf1", "vnf2"]["reason"]
    linked[0].region.set_policy(None, standalone=True)
    assert links(lab)["vnf1", "vnf2"]["state"] == "bypass"


def test_show_is_a_tree(lab: Lab, linked: Linked) -> None:
    lines = run(lab, "show").splitlines()
    assert lines[1] == "Bridge br0"
    assert lines[2] == "    Port vnf1"
    assert lines[3].startswith("        switch: pid ")
    assert "started, 1 rxq, 1 txq" in lines[4]
    assert lines[5] == "        mode: auto, trust label lab"
    assert lines[6] == "        link to vnf2: bypass"
    answer = json.loads(run(lab, "show", "--format", "json"))
    assert answer["highwayd"]["running"]
    assert [port["name"] for port in answer["ports"]] == ["vnf1", "vnf2"]
    assert answer["ports"][0]["links"] == [
        {"to": "vnf2", "state": "bypass", "checked": False, "counted": False, "reason": ""}
    ]


def test_rules_are_shown_in_the_words_of_ovs(lab: Lab, linked: Linked) -> None:
    one, two, _, _ = linked
    (rule,) = json.loads(run(lab, "rules", "vnf1", "--format", "json"))["rules"]
    assert rule["slot"] == 3
    assert rule["match"] == "eth_type=0x0800,vlan=none,nw_frag=no,nw_proto=17,tp_dst=80"
    assert (rule["peer"], rule["packets"], rule["bytes"]) == ("vnf2", 5, 320)
    assert rule["state"] == "live"
    assert "0 rules in force" in run(lab, "rules", "vnf2")
    run(lab, "off", "vnf1")
    (rule,) = json.loads(run(lab, "rules", "vnf1", "--format", "json"))["rules"]
    assert rule["state"] == "waiting"
    assert "operator" in rule["reason"]
    assert one.name != two.name


def test_a_direction_is_off_when_all_its_rules_are_suppressed(lab: Lab, linked: Linked) -> None:
    one, two, _, _ = linked
    put_rule(one, 4, two, protocol=6)
    assert one.region.suppress(3, 4)
    way = links(lab)["vnf1", "vnf2"]
    assert (way["state"], way["rules"], way["reason"]) == ("bypass", 1, "")
    rules = json.loads(run(lab, "rules", "vnf1", "--format", "json"))["rules"]
    assert [(rule["state"], rule["reason"]) for rule in rules] == [
        ("waiting", SUPPRESSED),
        ("live", ""),
    ]
    assert "1 rules in force" in run(lab, "rules", "vnf1")
    assert one.region.suppress(4, 5)
    way = links(lab)["vnf1", "vnf2"]
    assert (way["state"], way["rules"], way["reason"]) == ("off", 0, SUPPRESSED)
    words = f"path vnf1 to vnf2: normal channel: {SUPPRESSED}"
    wait_for(lambda: words in lab.log(), "highwayd has seen it")
    run(lab, "off", "vnf1")
    assert "operator" in links(lab)["vnf1", "vnf2"]["reason"]
    run(lab, "on", "vnf1")
    one.region.lift(3, 4)
    assert links(lab)["vnf1", "vnf2"]["state"] == "bypass"


def test_the_kill_switch_works_with_and_without_highwayd(lab: Lab, linked: Linked) -> None:
    one, two, _, _ = linked
    for alive in (True, False):
        if not alive:
            lab.end(signal.SIGKILL)
        change = one.region.gate().change
        run(lab, "off", "vnf1")
        assert one.region.gate().off_operator == Off.OPERATOR
        assert one.region.gate().change == change + 1
        assert two.region.gate().off_operator == 0
        assert "highway on vnf1" in links(lab)["vnf1", "vnf2"]["reason"]
        run(lab, "on", "vnf1")
        assert one.region.gate().off_operator == 0
        run(lab, "off", "--all")
        assert (lab.rundir / "off-all").exists()
        assert one.region.gate().off_operator == two.region.gate().off_operator == Off.ALL
        assert "still holds" in run(lab, "on", "vnf1")
        run(lab, "on", "--all")
        assert not (lab.rundir / "off-all").exists()
        assert one.region.gate().off_operator == two.region.gate().off_operator == 0


def test_why_a_link_is_off_is_told_in_plain_words(lab: Lab, linked: Linked) -> None:
    one, two, a, b = linked
    gate = one.region.raw.gate
    for bit, words in (
        (Off.LEASE, "highwayd has been away"),
        (Off.HOLD, "another thread polls"),
        (Off.DOWN, "port vnf1 is down"),
        (Off.SWITCH, "no ovs-vswitchd"),
    ):
        gate.off_switch = int(bit)
        assert words in links(lab)["vnf1", "vnf2"]["reason"]
    gate.off_switch = 0
    one.region.set_policy("external_ids:highway=off on interface vnf1")
    assert links(lab)["vnf1", "vnf2"]["reason"].startswith("policy: external_ids:highway=off")
    one.region.set_policy(None)
    two.region.raw.gate.off_switch = int(Off.DOWN)
    assert links(lab)["vnf1", "vnf2"]["reason"] == "port vnf2 is down"
    two.region.raw.gate.off_switch = 0
    (link,) = a.links.values()
    link.raw.end[1].closed = 2
    assert links(lab)["vnf1", "vnf2"]["reason"] == "the link was closed: a bad descriptor at vnf2"
    link.raw.end[1].closed = 0
    two.region.raw.vnf_state.started = 0
    a.give_up_link()
    b.give_up_link()
    wait_for(lambda: not lab.link_files(), "the link is gone")
    assert links(lab)["vnf1", "vnf2"]["reason"] == "the VNF at vnf2 has not started"
    two.close()
    b.close()
    wait_for(
        lambda: links(lab)["vnf1", "vnf2"]["reason"] == "no VNF attached at vnf2",
        "the VNF's end is noticed",
    )
    lab.end(signal.SIGKILL)
    assert links(lab)["vnf1", "vnf2"]["reason"] == "no VNF attached at vnf2"


def test_a_refusal_reaches_the_operator(lab: Lab) -> None:
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    a, b = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    put_rule(one, 0, two)
    assert links(lab)["vnf1", "vnf2"]["reason"] == "the link is being set up"
    one.want(two)
    a.accept_link()
    b.accept_link()
    (link,) = a.links.values()
    assert link.phase in (Phase.NEW, Phase.ACTIVE)
    lab.end(signal.SIGKILL)
    for path in lab.link_files():
        path.unlink()
    assert "highwayd is not running" in links(lab)["vnf1", "vnf2"]["reason"]


def test_an_unknown_port_is_an_error_that_names_the_known_ones(lab: Lab) -> None:
    with pytest.raises(CommandError, match="the ports there: none at all"):
        run(lab, "rules", "vnf9")
    lab.switch("vnf1")
    for command in ("rules", "off", "on"):
        with pytest.raises(CommandError, match=r"no port vnf9 in .*: vnf1") as caught:
            run(lab, command, "vnf9")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["off"], ["on"], ["off", "vnf1", "--all"]])
def test_the_kill_switch_wants_one_port_or_all(lab: Lab, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="name one PORT, or say --all"):
        run(lab, *arguments)


def test_an_empty_run_directory_is_no_error(idle_lab: Lab) -> None:
    assert run(idle_lab, "show") == "highwayd: not running\n"
    assert "there are no links" in run(idle_lab, "links")


def key(**fields: object) -> CData:
    made: CData = ffi.new("struct highway_key *")
    for name, value in fields.items():
        if isinstance(value, bytes):
            ffi.buffer(getattr(made, name))[0 : len(value)] = value
        else:
            setattr(made, name, value)
    return made


V6 = bytes.fromhex("20010db8000000000000000000000001")


@pytest.mark.parametrize(
    ("fields", "mask", "text"),
    [
        ({}, {}, "any"),
        (
            {"eth_dst": b"\x02\0\0\0\0\1"},
            {"eth_dst": b"\xff" * 6},
            "eth_dst=02:00:00:00:00:01",
        ),
        (
            {"eth_src": b"\1\0\0\0\0\0"},
            {"eth_src": b"\1\0\0\0\0\0"},
            "eth_src=01:00:00:00:00:00/01:00:00:00:00:00",
        ),
        ({"vlan_tci": 0x0A10}, {"vlan_tci": 0xFF1F}, "vlan=10"),
        ({"vlan_tci": 0x0A70}, {"vlan_tci": 0xFFFF}, "vlan=10,vlan_pcp=3"),
        ({"vlan_tci": 0x0010}, {"vlan_tci": 0x0010}, "vlan=any"),
        ({"ip_frag": 1}, {"ip_frag": 3}, "nw_frag=first"),
        ({"ip_frag": 3}, {"ip_frag": 3}, "nw_frag=later"),
        ({"ip_frag": 1}, {"ip_frag": 1}, "nw_frag=yes"),
        ({}, {"ip_frag": 2}, "nw_frag=not_later"),
        (
            {"eth_type": 0x0008, "ip_src": b"\n\0\0\1"},
            {"eth_type": 0xFFFF, "ip_src": b"\xff" * 4},
            "eth_type=0x0800,nw_src=10.0.0.1",
        ),
        (
            {"eth_type": 0x0008, "ip_dst": b"\n\1\0\0"},
            {"eth_type": 0xFFFF, "ip_dst": b"\xff\xff"},
            "eth_type=0x0800,nw_dst=10.1.0.0/16",
        ),
        (
            {"eth_type": 0xDD86, "ip_src": V6},
            {"eth_type": 0xFFFF, "ip_src": b"\xff" * 16},
            "eth_type=0x86dd,ipv6_src=2001:db8::1",
        ),
        (
            {"ip_proto": 1, "l4_src": 0x0800},
            {"ip_proto": 0xFF, "l4_src": 0xFFFF, "l4_dst": 0xFFFF},
            "nw_proto=1,icmp_type=8,icmp_code=0",
        ),
        ({"l4_src": 0x0010}, {"l4_src": 0x00F0}, "tp_src=0x1000/0xf000"),
        ({"tcp_flags": 0x0200}, {"tcp_flags": 0xFF0F}, "tcp_flags=0x2/0xfff"),
        ({"ip_tos": 4, "ip_ttl": 64}, {"ip_tos": 255, "ip_ttl": 255}, "nw_tos=4,nw_ttl=64"),
    ],
)
def test_matches_in_the_words_of_ovs(
    fields: dict[str, object], mask: dict[str, object], text: str
) -> None:
    assert format_match(key(**fields), key(**mask)) == text


@given(st.binary(min_size=64, max_size=64), st.binary(min_size=64, max_size=64))
def test_any_bytes_have_some_words(raw_key: bytes, raw_mask: bytes) -> None:
    kind = "struct highway_key *"
    text = format_match(ffi.from_buffer(kind, raw_key), ffi.from_buffer(kind, raw_mask))
    assert text
    assert "\n" not in text
