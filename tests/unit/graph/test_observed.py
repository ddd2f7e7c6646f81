# SPDX-License-Identifier: Apache-2.0
"""Flows of a switch are recognised as those of the graph that they come from."""

from __future__ import annotations

import struct

from ovs_highway.graph.flows import Flow, Output, compile_flows
from ovs_highway.graph.load import parse
from ovs_highway.graph.observed import observed
from ovs_highway.openflow import fields, model
from ovs_highway.openflow.actions import decode_actions

GRAPH = """\
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
NUMBERS = {"fw-in": 1, "fw-out": 2, "red": 3}


def action_bytes(action: str | Output) -> bytes:
    """Return an action as OpenFlow 1.3 has it on the wire (7.2.5)."""
    if isinstance(action, Output):
        return struct.pack("!HHIH6x", 0, 16, NUMBERS[action.port], 0)
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


def on_the_switch(flow: Flow) -> model.Flow:
    words = [action for action in flow.actions if not str(action).startswith("goto_table")]
    actions = decode_actions(4, b"".join(map(action_bytes, words)))
    if len(words) < len(flow.actions):
        actions += (model.Goto(int(str(flow.actions[-1]).partition(":")[2])),)
    port = fields.IN_PORT
    return model.Flow(
        table=flow.table,
        priority=flow.priority,
        mask=flow.bits[0] | port.ones,
        value=flow.bits[1] | port.place(NUMBERS[flow.in_port]),
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
