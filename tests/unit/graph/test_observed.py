# SPDX-License-Identifier: Apache-2.0
"""Flows of a switch are recognised as those of the graph that they come from."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ovs_highway.detector.switch import BridgeSettings, PortSettings
from ovs_highway.detector.verdicts import Detector
from ovs_highway.graph.flows import Flow, Output, compile_flows
from ovs_highway.graph.load import parse
from ovs_highway.graph.observed import observed
from ovs_highway.openflow import fields, model
from ovs_highway.openflow.actions import decode_actions

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
GRAPH: Final = """\
name: g
bridge: br0
vnfs:
  fw: {template: forward, ports: [in, out]}
end-points:
  red: {nic: 0000:01:00.0, vlan: 25}
  blue: {nic: 0000:01:00.0, vlan: 26}
links:
  - [red, fw.in]
rules:
  - {from: fw.out, match: "tcp,tp_dst=80", to: [blue, red]}
  - {from: blue, to: red}
  - {from: blue, match: dl_vlan=7, to: red, priority: 200}
"""
NUMBERS: Final = {"fw-in": 1, "fw-out": 2, "red": 3}


def action_bytes(action: str | Output, numbers: Mapping[str, int]) -> bytes:
    """Return an action as OpenFlow 1.3 has it on the wire (7.2.5)."""
    if isinstance(action, Output):
        return struct.pack("!HHIH6x", 0, 16, numbers[action.port], 0)
    word, _, value = action.partition(":")
    match word:
        case "in_port":
            return struct.pack("!HHIH6x", 0, 16, model.IN_PORT, 0)
        case "push_vlan":
            return struct.pack("!HHH2x", 17, 8, int(value, 0))
        case "pop_vlan":
            return struct.pack("!HH4x", 18, 8)
    number = int(value.partition("->")[0])
    return struct.pack("!HHHBBH2x4x", 25, 16, 0x8000, 6 << 1, 2, number)


def on_the_switch(flow: Flow, numbers: Mapping[str, int] = NUMBERS) -> model.Flow:
    words = [action for action in flow.actions if not str(action).startswith("goto_table")]
    actions = decode_actions(4, b"".join(action_bytes(word, numbers) for word in words))
    if len(words) < len(flow.actions):
        actions += (model.Goto(int(str(flow.actions[-1]).partition(":")[2])),)
    port = fields.IN_PORT
    return model.Flow(
        table=flow.table,
        priority=flow.priority,
        mask=flow.bits[0] | port.ones,
        value=flow.bits[1] | port.place(numbers[flow.in_port]),
        actions=actions,
        cookie=flow.cookie,
    )


def test_every_flow_of_a_graph_is_recognised() -> None:
    flows = compile_flows(parse(GRAPH, "g").graph)
    names = {number: name for name, number in NUMBERS.items()}
    assert len(flows) == 6
    assert {flow.table for flow in flows} > {0}
    assert [observed(on_the_switch(flow), names) for flow in flows] == list(flows)


def test_a_port_that_is_gone_stays_a_number() -> None:
    flow = compile_flows(parse(GRAPH, "g").graph)[0]
    found = observed(on_the_switch(flow), {3: "red"})
    assert found.actions == ("pop_vlan", Output("1"))
    assert observed(on_the_switch(flow), {1: "fw-in"}).in_port == "3"


def test_a_flow_of_somebody_else() -> None:
    flow = model.Flow(table=0, priority=0, mask=0, value=0, actions=(model.Output(model.NORMAL),))
    found = observed(flow, {})
    assert (found.in_port, found.match, found.actions) == ("", "", ("NORMAL",))


def verdicts(file: str) -> dict[str, str | None]:
    """Return what the p-2-p link detector makes of an example: the peer of each port of a VNF."""
    graph = parse((EXAMPLES / file).read_text(), file).graph
    numbers = {end.ovs_port: number for number, end in enumerate(graph.ends.values(), 1)}
    ours = {end.ovs_port for end in graph.ends.values() if end.vnf}
    detector = Detector()
    ports = {
        number: PortSettings(highway=name if name in ours else None)
        for name, number in numbers.items()
    }
    detector.configure({"br0": BridgeSettings(ports=ports)})
    events: list[model.Event] = [
        model.PortSet(model.PortDesc(number, name, 0, 0)) for name, number in numbers.items()
    ]
    events += [model.FlowSet(on_the_switch(flow, numbers)) for flow in compile_flows(graph)]
    detector.take("br0", [*events, model.Synced(groups=True, frags=0, version=5)])
    detector.decide()
    return {port: verdict.peer for port, verdict in detector.verdicts.items()}


def test_plain_links_are_proven_point_to_point() -> None:
    assert verdicts("chain-3.yaml") == {
        "vnf1-out": "vnf2-in",
        "vnf2-in": "vnf1-out",
        "vnf2-out": "vnf3-in",
        "vnf3-in": "vnf2-out",
    }


def test_a_port_with_two_ways_is_not() -> None:
    found = verdicts("paper.yaml")
    assert found["firewall-out"] is None
    assert found["cache-in"] == found["monitor-in"] == "firewall-out"
