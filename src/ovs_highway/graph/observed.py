# SPDX-License-Identifier: Apache-2.0
"""Flows that a switch has, as those of graphs, to compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ovs_highway.graph.flows import IN_PORT, Action, Flow, Output
from ovs_highway.openflow import fields, model
from ovs_highway.openflow.text import format_actions, format_match

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FULL_VID: Final = 0x1FFF


def observed(flow: model.Flow, names: Mapping[int, str]) -> Flow:
    """Return what a flow would be in a graph; of the graph, it is equal to what compiled to it.

    Args:
        names: of the bridge's ports, by number. A port that is gone stays a number, so that the
            flow equals none of a graph and a plan removes it.
    """

    def named(port: int) -> str:
        return names.get(port, str(port))

    whole = fields.IN_PORT.ones
    bits = (flow.mask & ~whole, flow.value & ~whole)
    matched = flow.mask & whole == whole
    return Flow(
        cookie=flow.cookie,
        table=flow.table,
        priority=flow.priority,
        in_port=named(fields.IN_PORT.take(flow.value)) if matched else "",
        match=format_match(*bits),
        actions=tuple(_action(action, named) for action in flow.actions),
        bits=bits,
        origin=(),
    )


def _action(action: model.Action, named: Callable[[int], str]) -> Action:
    match action:
        case model.Output(model.IN_PORT):
            return IN_PORT
        case model.Output(port) if port < model.MAX_PORT:
            return Output(named(port))
        case model.Load(target, value, mask) if target.name == "vlan_vid" and mask == _FULL_VID:
            return f"set_field:{value}->vlan_vid"
        case model.Other("push_vlan"):
            return "push_vlan:0x8100"  # the decoder leaves out the ethertype
    return format_actions((action,))
