# SPDX-License-Identifier: Apache-2.0
"""A graph's flows: their text, and what they do to frames with and without tags."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.graph.check import check
from ovs_highway.graph.flows import (
    COOKIE_PREFIX,
    COOKIE_PREFIX_MASK,
    LAST_TABLE,
    TABLES,
    Flow,
    Output,
    compile_flows,
    cookie,
    tables,
)
from ovs_highway.graph.match import parse_match
from ovs_highway.graph.model import EndPoint, Graph, Link, Port, Rule, Vnf
from ovs_highway.openflow.fields import FIELDS

if TYPE_CHECKING:
    from pathlib import Path


def vnf(name: str, *ports: str) -> Vnf:
    return Vnf(name=name, template="forward", ports=tuple(Port(name=port) for port in ports))


VNFS = (vnf("fw", "in", "out"), vnf("web", "in", "out"))
LAN = EndPoint(name="lan", nic="0000:01:00.0")
RED = EndPoint(name="red", nic="0000:01:00.0", vlan=25)
BLUE = EndPoint(name="blue", nic="0000:01:00.0", vlan=26)


def graph(*parts: Link | Rule, points: tuple[EndPoint, ...] = ()) -> Graph:
    return Graph(
        name="g",
        bridge="br0",
        table=10,
        vnfs=VNFS,
        endpoints=points,
        links=tuple(part for part in parts if isinstance(part, Link)),
        rules=tuple(part for part in parts if isinstance(part, Rule)),
    )


def texts(shown: Graph) -> list[str]:
    """Return the flows of a graph that makes sense, without the cookie."""
    assert check(shown) == []
    return [flow.text().partition(",")[2] for flow in compile_flows(shown)]


def test_a_plain_link_is_one_flow_of_table_0_each_way() -> None:
    assert texts(graph(Link(ends=("fw.out", "web.in")))) == [
        "table=0,priority=1,in_port=fw-out,actions=output:web-in",
        "table=0,priority=1,in_port=web-in,actions=output:fw-out",
    ]


def test_several_rules_from_one_port() -> None:
    rules = (
        Rule(source="fw.out", match="tcp,tp_dst=80", to=("web.in",), priority=200),
        Rule(source="fw.out", to=("lan", "web.out")),
    )
    assert texts(graph(*rules, points=(LAN,))) == [
        "table=0,priority=200,in_port=fw-out,tcp,tp_dst=80,actions=output:web-in",
        "table=0,priority=100,in_port=fw-out,actions=output:lan,output:web-out",
    ]


def test_tags_are_taken_off_and_put_on() -> None:
    link = Link(ends=("red", "fw.in"))
    assert texts(graph(link, points=(RED,))) == [
        "table=0,priority=1,in_port=red,dl_vlan=25,actions=pop_vlan,output:fw-in",
        "table=0,priority=1,in_port=fw-in,actions=push_vlan:0x8100,set_field:4121->vlan_vid,"
        "output:red",
    ]


def test_beside_a_tag_of_its_device_an_end_point_has_the_frames_without() -> None:
    found = texts(
        graph(Link(ends=("lan", "fw.in")), Link(ends=("red", "web.in")), points=(LAN, RED))
    )
    assert "table=0,priority=1,in_port=lan,vlan_tci=0x0000/0x1fff,actions=output:fw-in" in found
    assert "table=0,priority=1,in_port=lan,dl_vlan=25,actions=pop_vlan,output:web-in" in found


def test_back_to_the_port_that_it_came_from_needs_another_word() -> None:
    assert texts(graph(Rule(source="red", to=("blue",)), points=(RED, BLUE))) == [
        "table=0,priority=100,in_port=red,dl_vlan=25,actions=pop_vlan,push_vlan:0x8100,"
        "set_field:4122->vlan_vid,in_port"
    ]


def test_a_rule_that_looks_below_a_tag_has_a_table_of_its_own() -> None:
    rules = (Rule(source="red", match="dl_vlan=7", to=("fw.in",), pop_vlan=True),)
    assert texts(graph(Link(ends=("red", "web.in")), *rules, points=(RED,))) == [
        "table=10,priority=1,in_port=red,actions=output:web-in",
        "table=0,priority=1,in_port=web-in,actions=push_vlan:0x8100,set_field:4121->vlan_vid,"
        "output:red",
        "table=10,priority=100,in_port=red,dl_vlan=7,actions=pop_vlan,output:fw-in",
        "table=0,priority=1,in_port=red,dl_vlan=25,actions=pop_vlan,goto_table:10",
    ]


def test_ports_by_number() -> None:
    flow = compile_flows(graph(Link(ends=("fw.out", "web.in"))))[0]
    text = flow.text({"fw-out": 3, "web-in": 4})
    assert text == f"cookie={cookie('g'):#x},table=0,priority=1,in_port=3,actions=output:4"
    assert flow.ports == {"fw-out", "web-in"}
    with pytest.raises(KeyError):
        flow.text({"fw-out": 3})


@given(st.text(min_size=1))
def test_cookie_and_tables_follow_from_the_name(name: str) -> None:
    assert cookie(name) & COOKIE_PREFIX_MASK == COOKIE_PREFIX
    assert cookie(name) >> 64 == 0
    own = tables(Graph(name=name, bridge="b"))
    assert len(own) == TABLES
    assert 0 < own[0] <= own[-1] <= LAST_TABLE
    assert cookie(name + "x") != cookie(name)


# What flows do, against what the graph says ------------------------------------------------------

Tags = tuple[int, ...]
TCI = FIELDS["vlan_tci"]
TCP = parse_match("tcp")


def switched(flows: tuple[Flow, ...], port: str, tags: Tags, *, tcp: bool) -> set[tuple[str, Tags]]:
    """Return where a frame goes, with which tags, as a switch has it."""
    table, found = 0, set[tuple[str, Tags]]()
    while True:
        packet = TCI.place(0x1000 | tags[0] if tags else 0) | (TCP[1] if tcp else 0)
        hits = [
            flow
            for flow in flows
            if (flow.table, flow.in_port) == (table, port) and packet & flow.bits[0] == flow.bits[1]
        ]
        if not hits:
            return found
        flow = max(hits, key=lambda hit: hit.priority)
        table = 0
        for action in flow.actions:
            match action:
                case Output(out):
                    assert out != port, "OVS drops that"
                    found.add((out, tags))
                case "in_port":
                    found.add((port, tags))
                case "pop_vlan":
                    tags = tags[1:]
                case "push_vlan:0x8100":
                    tags = (0, *tags)
                case _ if action.startswith("set_field:"):
                    tags = (int(action[10:].partition("-")[0]) & 0xFFF, *tags[1:])
                case _:
                    table = int(action.removeprefix("goto_table:"))
        if not table:
            return found


def intended(of: Graph, name: str, tags: Tags, *, tcp: bool) -> set[tuple[str, Tags]]:
    """Return the ends at which a frame from an end is to come out, with its tags there."""
    packet = TCI.place(0x1000 | tags[0] if tags else 0) | (TCP[1] if tcp else 0)
    hits = [
        rule
        for rule in of.rules
        if rule.source == name and packet & parse_match(rule.match)[0] == parse_match(rule.match)[1]
    ]
    if hits:
        rule = max(hits, key=lambda hit: hit.priority)
        tags = tags[1:] if rule.pop_vlan else tags
        tags = tags if rule.push_vlan is None else (rule.push_vlan, *tags)
        return {(target, tags) for target in rule.to}
    links = [link for link in of.links if name in link.ends]
    return {(end, tags) for link in links for end in link.ends if end != name}


ENDS = ("lan", "red", "blue", "fw.in", "web.in")
ALL_MATCHES = ("", "tcp", "dl_vlan=7", "tcp,dl_vlan=8", "dl_vlan=0xffff")
MATCHES = st.sampled_from(ALL_MATCHES)


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    priorities = draw(st.lists(st.integers(2, 99), unique=True, max_size=6))
    found = []
    for priority in priorities:
        match = draw(MATCHES)
        found.append(
            Rule(
                source=draw(st.sampled_from(ENDS)),
                to=tuple(draw(st.sets(st.sampled_from(ENDS), min_size=1, max_size=3))),
                priority=priority,
                match=match,
                push_vlan=draw(st.none() | st.just(9)),
                pop_vlan="dl_vlan=7" in match and draw(st.booleans()),
            )
        )
    return tuple(found)


@given(
    rules(),
    st.sampled_from([(), ("lan", "fw.in"), ("red", "fw.in"), ("red", "blue")]),
    st.sampled_from(ENDS),
    st.sampled_from([(), (7,), (8,), (7, 8)]),
    st.booleans(),
)
def test_frames_go_where_the_graph_says(
    some: tuple[Rule, ...], ends: tuple[str, ...], name: str, tags: Tags, tcp: bool
) -> None:
    links = (Link(ends=(ends[0], ends[1])),) if ends else ()
    of = graph(*links, *some, points=(LAN, RED, BLUE))
    if check(of):
        return
    source = of.ends[name]
    if source.vlan == 0 and tags:
        return
    outer = (source.vlan, *tags) if source.vlan else tags
    found = switched(compile_flows(of), source.ovs_port, outer, tcp=tcp)
    wanted = {
        (of.ends[end].ovs_port, (vlan, *kept) if (vlan := of.ends[end].vlan) else kept)
        for end, kept in intended(of, name, tags, tcp=tcp)
    }
    assert found == wanted


@pytest.mark.skipif(shutil.which("ovs-ofctl") is None, reason="ovs-ofctl is not installed")
def test_ovs_takes_all_flows_of_graphs_that_make_sense(tmp_path: Path) -> None:
    numbers = {"lan": 1, "fw-in": 2, "web-in": 3}
    lines, refused = list[str](), 0
    for source, match, push, pop, to in itertools.product(
        ENDS, ALL_MATCHES, (None, 9), (False, True), (("fw.in",), ("lan", "red", "blue"))
    ):
        rule = Rule(source=source, match=match, push_vlan=push, pop_vlan=pop, to=to)
        of = graph(rule, points=(LAN, RED, BLUE))
        refused += bool(check(of))
        lines += [] if check(of) else [flow.text(numbers) for flow in compile_flows(of)]
    path = tmp_path / "flows"
    path.write_text("\n".join(lines))
    command = ["ovs-ofctl", "-O", "OpenFlow14", "parse-flows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("OFPT_FLOW_MOD") == len(lines)
    assert 0 < refused < len(lines)
