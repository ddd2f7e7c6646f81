# SPDX-License-Identifier: Apache-2.0
"""Small switches and what happens to them: two bridges, four tables, few fields, few values."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from tests.unit.detector import naive

from ovs_highway.detector.switch import BridgeSettings, PortSettings
from ovs_highway.openflow import model
from ovs_highway.openflow.fields import FIELDS, IN_PORT, Slice

if TYPE_CHECKING:
    from ovs_highway.openflow.model import Action, Actions, Event, Flow

PORTS = (1, 2, 3)
PATCH = 9
BRIDGES = ("br0", "br1")
HIGHWAY = {"br0": {1: "a", 2: "b", 3: "c"}, "br1": {1: "d", 2: "e", 3: "f"}}
SETTINGS = {
    name: BridgeSettings(
        ports={
            **{port: PortSettings(highway=HIGHWAY[name][port]) for port in PORTS},
            PATCH: PortSettings(peer=(BRIDGES[1 - BRIDGES.index(name)], PATCH)),
        }
    )
    for name in BRIDGES
}
PACKET_FIELDS = {"eth_type": (0x800, 0x806), "ip_proto": (6, 17), "udp_dst": (0, 1, 2, 3)}
REGISTERS = ("reg0", "reg1", "metadata")


def packets(port: int) -> list[int]:
    """Return every packet that the fields above can tell apart."""
    names = list(PACKET_FIELDS)
    return [
        naive.packet(port, **dict(zip(names, values, strict=True)))
        for values in itertools.product(*PACKET_FIELDS.values())
    ]


def start_events() -> list[Event]:
    """Return what a connection tells of an empty bridge."""
    return [
        *(model.PortSet(model.PortDesc(port, f"p{port}", 0, 0)) for port in (*PORTS, PATCH)),
        model.Synced(groups=True, frags=0, version=5),
    ]


@st.composite
def matches(draw: st.DrawFn) -> tuple[int, int]:
    """Draw a match: mask and value."""
    mask = value = 0
    if draw(st.booleans()):
        mask, value = IN_PORT.ones, IN_PORT.place(draw(st.sampled_from((*PORTS, PATCH))))
    for name in draw(st.lists(st.sampled_from(REGISTERS), max_size=1)):
        mask |= FIELDS[name].ones
        value |= FIELDS[name].place(draw(st.integers(0, 1)))
    for name in draw(st.lists(st.sampled_from(list(PACKET_FIELDS)), max_size=2)):
        some = FIELDS[name].ones
        if name == "udp_dst" and draw(st.booleans()):
            some = FIELDS[name].place(draw(st.sampled_from((1, 2))))
        mask |= some
        value |= FIELDS[name].place(draw(st.sampled_from(PACKET_FIELDS[name]))) & some
    return mask, value


def _load(target: Slice, value: int) -> Action:
    return model.Load(target, value, (1 << target.width) - 1)


_REG0_LOW = FIELDS["reg0"].part(0, 16)
_OUTPUT = st.builds(model.Output, st.sampled_from((*PORTS, PORTS[1], PORTS[1], PATCH, 77)))
_SIMPLE: st.SearchStrategy[Action] = st.one_of(
    _OUTPUT,
    _OUTPUT,
    st.builds(_load, st.sampled_from([FIELDS[name] for name in REGISTERS]), st.integers(0, 1)),
    st.builds(_load, st.just(_REG0_LOW), st.sampled_from(PORTS)),
    st.just(model.Move(FIELDS["reg0"], FIELDS["reg1"])),
    st.just(model.Move(FIELDS["udp_dst"], FIELDS["reg1"].part(0, 16))),
    st.just(model.OutputReg(_REG0_LOW)),
    st.builds(model.Group, st.integers(1, 2)),
    st.sampled_from(
        [
            model.Exit(),
            model.Nothing("note"),
            model.Other("dec_ttl"),
            model.Output(model.NORMAL),
            _load(FIELDS["ip_ttl"], 3),
        ]
    ),
)
_TABLES = st.sampled_from((0, 1, 2, 3, None))
_RESUBMIT = st.builds(model.Resubmit, st.sampled_from((None, None, *PORTS)), _TABLES)


@st.composite
def actions(draw: st.DrawFn, table: int) -> Actions:
    """Draw an action list; most lead to port 2, so that proofs are common."""
    if draw(st.integers(0, 9)) < 6:
        good = [(model.Output(2),), (_load(FIELDS["reg0"], 2), model.OutputReg(_REG0_LOW))]
        good.append((_load(FIELDS["reg1"], draw(st.integers(0, 1))), model.Resubmit(None, 3)))
        if table < 3:
            good += [(model.Goto(table + 1),), (model.Resubmit(None, table + 1),)] * 2
        return draw(st.sampled_from(good))
    found: list[Action] = []
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.integers(0, 9))
        if kind < 7:
            found.append(draw(_SIMPLE))
        elif kind < 8:
            found.append(draw(_RESUBMIT))
        elif kind < 9:
            found.append(model.Clone((draw(_SIMPLE),)))
        else:
            found.append(model.WriteActions((draw(_OUTPUT),)))
    if table < 3 and draw(st.booleans()):
        found.append(model.Goto(draw(st.integers(table + 1, 3))))
    return tuple(found)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """Draw a flow."""
    table = draw(st.sampled_from((0, 0, 0, 1, 2, 3)))
    mask, value = draw(matches())
    does = draw(actions(table))
    timeouts = draw(st.integers(0, 19)) == 0
    return model.Flow(table, draw(st.integers(0, 3)), mask, value, does, 0, timeouts)


_BUCKETS = st.builds(
    lambda does: model.Bucket(does),
    st.sampled_from(
        [
            (model.Output(2),),
            (model.Output(1),),
            (_load(FIELDS["reg0"], 1), model.Resubmit(None, 2)),
        ]
    ),
)
groups = st.builds(
    model.GroupDesc,
    st.integers(1, 2),
    st.sampled_from(("indirect", "all", "select", "ff")),
    st.lists(_BUCKETS, min_size=0, max_size=2).map(tuple),
)


@st.composite
def defaults(draw: st.DrawFn) -> list[Event]:
    """Draw flows that match everything in their tables, of the lowest priority."""
    return [
        model.FlowSet(model.Flow(table, 0, 0, 0, draw(actions(table))))
        for table in range(4)
        if draw(st.integers(0, 4))
    ]


@st.composite
def events(draw: st.DrawFn, known: list[Flow]) -> Event:
    """Draw something that happens; `known` are the flows of before, and grows."""
    kind = draw(st.integers(0, 19))
    if kind < 12 or not known:
        flow = draw(flows())
        known.append(flow)
        return model.FlowSet(flow)
    if kind < 15:
        return model.FlowGone(draw(st.sampled_from(known)).key)
    if kind < 16:
        old = draw(st.sampled_from(known))
        does = draw(actions(old.table))
        flow = model.Flow(old.table, old.priority, old.mask, old.value, does, 1)
        known.append(flow)
        return model.FlowSet(flow)
    if kind < 18:
        return model.GroupSet(draw(groups))
    if kind < 19:
        return model.GroupGone(draw(st.sampled_from((1, 2, None))))
    config = draw(st.sampled_from((0, model.PORT_DOWN, model.NO_RECV, model.NO_FWD)))
    port = draw(st.sampled_from((*PORTS, PATCH)))
    return model.PortSet(model.PortDesc(port, f"p{port}", config, 0))
