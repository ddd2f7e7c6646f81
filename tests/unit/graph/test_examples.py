# SPDX-License-Identifier: Apache-2.0
"""All examples: they load, make sense, fit a machine, and packets go their ways."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from ovs_highway.errors import GraphError
from ovs_highway.graph.check import check
from ovs_highway.graph.files import load
from ovs_highway.graph.flows import Flow, Output, compile_flows
from ovs_highway.graph.load import parse
from ovs_highway.graph.match import parse_match
from ovs_highway.graph.place import Core, Machine, place
from ovs_highway.graph.plan import plan
from ovs_highway.graph.state import State, desired
from ovs_highway.graph.templates import TEMPLATES

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
FILES: Final = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".yaml", ".json"))
LARGE: Final = Machine(
    cores=tuple(Core(number=number) for number in range(8)),
    switch=frozenset({1}),
    huge_free=4 << 30,
    memory_free=4 << 30,
    nics={"0000:01:00.0": 0, "0000:01:00.1": 0},
)
SWITCH: Final = State(others=frozenset({"br0", "br-office", "eth-lan", "eth-wan"}))


@pytest.mark.parametrize("name", FILES)
def test_an_example_can_be_deployed(name: str) -> None:
    graph = load(EXAMPLES / name, bridge="br0").graph
    placement = place(graph, LARGE)
    assert placement.problems == placement.warnings == ()
    assert plan(desired(graph, placement.cores), SWITCH)


def test_the_example_and_the_templates_of_the_manual() -> None:
    text = (EXAMPLES.parent / "docs/service-graphs.md").read_text()
    graph = parse(text.split("```yaml\n")[1].split("```")[0], "manual").graph
    assert check(graph) == []
    assert {name for name in TEMPLATES if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("length", range(2, 9))
def test_a_chain_is_plain_links_and_fits_two_cores(length: int) -> None:
    graph = load(EXAMPLES / f"chain-{length}.yaml").graph
    small = Machine(
        cores=(Core(number=0), Core(number=1)),
        switch=frozenset({1}),
        huge_free=2 << 30,
        memory_free=0,
    )
    assert place(graph, small).problems == ()
    assert len(graph.vnfs) == length
    flows = compile_flows(graph)
    assert len(flows) == 2 * (length - 1)
    assert all((flow.table, flow.match, len(flow.actions)) == (0, "", 1) for flow in flows)


def way(flows: tuple[Flow, ...], start: str, match: str) -> list[str]:
    """Return the ports that a packet passes, through VNFs that forward between their two."""
    packet, port, passed = parse_match(match), start, [start]
    while True:
        hits = [
            flow
            for flow in flows
            if flow.in_port == port and packet[1] & flow.bits[0] == flow.bits[1]
        ]
        (action,) = max(hits, key=lambda flow: flow.priority).actions
        assert isinstance(action, Output)
        passed.append(action.port)
        vnf, _, side = action.port.partition("-")
        if not side:
            return passed
        port = f"{vnf}-{'out' if side == 'in' else 'in'}"


@pytest.mark.parametrize(
    ("match", "back", "by"),
    [
        ("tcp,tp_dst=80", "tcp,tp_src=80", "cache"),
        ("tcp,tp_dst=443", "tcp,tp_src=443", "monitor"),
        ("udp,tp_dst=80", "udp,tp_src=80", "monitor"),
        ("arp", "arp", "monitor"),
    ],
)
def test_in_the_paper_s_graph_web_traffic_takes_another_way(match: str, back: str, by: str) -> None:
    flows = compile_flows(load(EXAMPLES / "paper.yaml").graph)
    assert way(flows, "lan0", match) == ["lan0", "firewall-in", f"{by}-in", "wan0"]
    assert way(flows, "wan0", back) == ["wan0", f"{by}-out", "firewall-out", "lan0"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory; name a graph file"),
        (b"\xff", "is not UTF-8; name a graph file"),
        (b'{"forwarding-graph": {}}', "is an NF-FG, which names no bridge; give one"),
        (b"name: a\nbridge: b\n", "g.yaml:1: has neither links nor rules; add what is to go where"),
    ],
)
def test_what_is_no_graph(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "g.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GraphError, match=expected):
        load(path)
