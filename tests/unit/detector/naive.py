# SPDX-License-Identifier: Apache-2.0
"""A naive evaluator: walks one concrete packet through the tables, as the detector never does.

Written from ovs-actions(7) and the OpenFlow specification, not from the detector: a packet is a
dictionary of whole fields, every flow of a table is looked at, and the highest priority wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovs_highway.openflow import model
from ovs_highway.openflow.fields import FIELDS, IN_PORT, NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ovs_highway.detector.switch import Bridge
    from ovs_highway.openflow.model import Action, Actions, Flow

META = ("in_port", "metadata", "reg0", "reg1")


class UnknownError(Exception):
    """The packet meets something whose outcome the tables do not tell."""


@dataclass
class Packet:
    """One packet, at one moment."""

    bits: int
    sent: list[tuple[str, int]] = field(default_factory=list)
    pending: list[Action] = field(default_factory=list)
    exited: bool = False
    looks: int = 0

    def get(self, name: str) -> int:
        return FIELDS[name].take(self.bits)


def packet(port: int, **fields: int) -> int:
    bits = IN_PORT.place(port)
    for name, value in fields.items():
        bits |= FIELDS[name].place(value)
    return bits


def outcome(
    bridges: Mapping[str, Bridge], bridge: str, bits: int
) -> set[tuple[tuple[str, int], ...]]:
    """Return all lists of ports to which a packet may be sent (ties of priority are open)."""
    port = IN_PORT.take(bits)
    original = bits
    found = set()
    for choice in range(2):
        one = Packet(bits)
        _enter(bridges, bridges[bridge], one, port, choice, 0)
        changed = (one.bits ^ original) >> FIELDS["eth_src"].offset
        if changed:
            raise UnknownError("changed")
        found.add(tuple(one.sent))
    return found


def _enter(
    bridges: Mapping[str, Bridge], bridge: Bridge, one: Packet, port: int, choice: int, depth: int
) -> None:
    if depth > 20:
        raise UnknownError("depth")
    desc = bridge.ports[port]
    if desc.config & (model.PORT_DOWN | model.NO_RECV):
        return
    _look_up(bridges, bridge, one, 0, port, choice, depth, miss=True)
    pending, one.pending, one.exited = one.pending, [], False
    groups = [action for action in pending if isinstance(action, model.Group)]
    outputs = [action for action in pending if isinstance(action, model.Output)]
    for action in (groups or outputs)[-1:]:
        _act(bridges, bridge, one, None, action, choice, depth)
    one.pending = []


def _look_up(
    bridges: Mapping[str, Bridge],
    bridge: Bridge,
    one: Packet,
    number: int,
    port: int,
    choice: int,
    depth: int,
    *,
    miss: bool,
) -> None:
    one.looks += 1
    if depth > 20 or one.looks > 2000:
        raise UnknownError("depth")
    bits = one.bits & ~IN_PORT.ones | IN_PORT.place(port)
    flows = [flow for flow in bridge.flows() if flow.table == number]
    fitting = [flow for flow in flows if bits & flow.mask == flow.value]
    if not fitting:
        if miss:
            one.exited = True
            raise UnknownError("miss")
        return
    best = max(flow.priority for flow in fitting)
    first = [flow for flow in fitting if flow.priority == best]
    flow = first[0] if choice == 0 else first[-1]
    if flow.timeouts:
        raise UnknownError("timeout")
    _do(bridges, bridge, one, flow, flow.actions, choice, depth)


def _do(
    bridges: Mapping[str, Bridge],
    bridge: Bridge,
    one: Packet,
    flow: Flow | None,
    actions: Actions,
    choice: int,
    depth: int,
) -> None:
    for action in actions:
        if one.exited:
            return
        _act(bridges, bridge, one, flow, action, choice, depth)


def _act(
    bridges: Mapping[str, Bridge],
    bridge: Bridge,
    one: Packet,
    flow: Flow | None,
    action: Action,
    choice: int,
    depth: int,
) -> None:
    match action:
        case model.Output(port=port):
            _output(bridges, bridge, one, port, choice, depth)
        case model.OutputReg(source=source):
            _output(bridges, bridge, one, source.take(one.bits), choice, depth)
        case model.Goto(table=table):
            _look_up(bridges, bridge, one, table, one.get("in_port"), choice, depth, miss=True)
        case model.Resubmit(port=port, table=table):
            assert flow is not None
            number = flow.table if table is None else table
            as_if = one.get("in_port") if port is None else port
            _look_up(
                bridges,
                bridge,
                one,
                number,
                as_if,
                choice,
                depth + (number <= flow.table),
                miss=False,
            )
        case model.Group(group=number):
            group = bridge.groups.get(number)
            if group is None or group.kind == "ff" or len(group.buckets) != 1:
                raise UnknownError("group")
            saved, pending = one.bits, one.pending
            one.pending = []
            _do(bridges, bridge, one, flow, group.buckets[0].actions, choice, depth)
            one.bits, one.pending, one.exited = saved, pending, False
        case model.Load(target=target, value=value, mask=mask):
            one.bits = one.bits & ~target.place(mask) | target.place(value & mask)
        case model.Move(source=source, target=target):
            one.bits = one.bits & ~target.ones | target.place(source.take(one.bits))
        case model.Clone(actions=actions):
            saved, pending = one.bits, list(one.pending)
            _do(bridges, bridge, one, flow, actions, choice, depth)
            if one.exited:
                raise UnknownError("exit in clone")
            one.bits, one.pending = saved, pending
        case model.WriteActions(actions=actions):
            for inner in actions:
                one.pending = [a for a in one.pending if type(a) is not type(inner)]
                one.pending.append(inner)
        case model.ClearActions():
            one.pending = []
        case model.Exit():
            one.exited = True
        case model.Nothing() | model.CtClear():
            pass
        case model.Other(name=name):
            raise UnknownError(name)


def _output(
    bridges: Mapping[str, Bridge], bridge: Bridge, one: Packet, port: int, choice: int, depth: int
) -> None:
    if port in model.PORT_NAMES:
        if port != model.NONE:
            raise UnknownError(model.PORT_NAMES[port])
        return
    settings = bridge.settings.ports.get(port)
    if port == one.get("in_port") or settings is None:
        return
    if bridge.ports[port].config & model.NO_FWD:
        return
    if bridge.ports[port].config & model.PORT_DOWN:
        raise UnknownError("down")
    if settings.peer is None:
        one.sent.append((bridge.name, port))
        return
    name, number = settings.peer
    saved, pending, exited = one.bits, one.pending, one.exited
    one.pending = []
    packet_bits = one.bits >> FIELDS["eth_src"].offset << FIELDS["eth_src"].offset
    one.bits = packet_bits | IN_PORT.place(number)
    _enter(bridges, bridges[name], one, number, choice, depth + 1)
    if one.bits >> FIELDS["eth_src"].offset != packet_bits >> FIELDS["eth_src"].offset:
        raise UnknownError("changed")
    one.bits, one.pending, one.exited = saved, pending, exited


assert set(META) <= set(NAMES)
