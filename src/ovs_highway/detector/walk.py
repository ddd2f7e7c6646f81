# SPDX-License-Identifier: Apache-2.0
"""Follows what may happen to a set of packets through the flow tables.

The packets are those of which some bits are known: all that arrive at a port, or those of them that
a bypass rule matches. Wherever a flow may or may not match, both are followed, so what is found
is at least what can happen: a walk that ends with one answer has proven it for every packet. The
semantics are those of `ofproto/ofproto-dpif-xlate.c`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ovs_highway.detector.tables import Table
from ovs_highway.openflow import model
from ovs_highway.openflow.fields import FIELDS, IN_PORT, META_ONES, METADATA, OPAQUE, Slice
from ovs_highway.openflow.model import (
    Action,
    Actions,
    ClearActions,
    Clone,
    CtClear,
    Exit,
    Flow,
    Goto,
    Group,
    Load,
    Move,
    Nothing,
    Other,
    Output,
    OutputReg,
    Resubmit,
    WriteActions,
)
from ovs_highway.openflow.text import format_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ovs_highway.detector.switch import Bridge

Place: TypeAlias = tuple[str, int]
"""A port: bridge and OpenFlow port number."""

_MAX_DEPTH: Final = 64  # MAX_DEPTH, of resubmits backward and patch ports
_MAX_RESUBMITS: Final = 4096  # MAX_RESUBMITS
_MAX_OFP_PORT: Final = 0xFFFF
_RESERVED_OFP_PORTS: Final = 0xFFF7

_WRITABLE: Final = METADATA.ones | sum(FIELDS[f"reg{n}"].ones for n in range(16)) | IN_PORT.ones
_KEPT_BY_PATCH: Final = ~META_ONES
_EMPTY: Final = Table()

# A table's actions nest a few Python frames each; 254 tables in a row are legal.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why packets do not all leave through one port, unchanged.

    Attributes:
        kind: a short name for counting, such as `drop` or `normal`.
        text: in plain words, without the flow.
        flow: the flow that decides it.
    """

    kind: str
    text: str
    bridge: str = ""
    flow: Flow | None = None

    def describe(self) -> str:
        """Return the reason with its flow, on one line."""
        if self.flow is None:
            return self.text
        return f"{self.text} ({self.bridge}: {format_flow(self.flow)})"


class State(NamedTuple):
    """Some packets on their way.

    Attributes:
        known, value: what is known of them, see `openflow.fields`.
        out: where they have left, None if nowhere yet.
        pending: the action set: what it will output to.
        exited: an `exit` was met.
    """

    known: int
    value: int
    out: Place | None = None
    pending: tuple[Action, ...] = ()
    exited: bool = False


class Visit(NamedTuple):
    """A look into a table: only flows of at least priority `least` matter."""

    bridge: str
    table: int
    known: int
    value: int
    least: int


_Look: TypeAlias = tuple[str, int, State, int]
"""A look into a table: bridge, table, packets, and as if from which port (-1: their own)."""


class _Stop(Exception):
    """The answer is known."""


class Walk:
    """One walk; `start` is to be called once.

    Args:
        bridges: by name.
        refine: follow what each flow's match tells of the packets. Without it a walk is cheaper
            and may say no where the answer is yes.
        survey: go on after the answer is no, to see all that can matter.
        lasting: flows that have a time-out are no answer.
        budget: looks into tables and flows, then the answer is no.
        trace: is told of each flow that is met, with its depth and bridge.

    Attributes:
        reason: why the answer is no, None if all leave through `target`.
        visits, groups, ports: what was looked at; the answer holds until one of them changes.
        bounded: the budget was used up.
    """

    def __init__(
        self,
        bridges: Mapping[str, Bridge],
        *,
        refine: bool,
        survey: bool = False,
        lasting: bool = True,
        budget: int = 20_000,
        trace: Callable[[int, str, Flow], None] | None = None,
    ) -> None:
        self._bridges = bridges
        self.refine = refine
        self._survey = survey
        self._lasting = lasting
        self._left = budget
        self._trace = trace
        self._done: dict[_Look, tuple[tuple[State, ...], int] | None] = {}
        self._resubmits = 0
        self.target: Place | None = None
        self.reason: Reason | None = None
        self.visits: list[Visit] = []
        self.groups: set[Place] = set()
        self.ports: set[Place] = set()
        self.passed: set[str] = set()
        self.bounded = False

    def start(self, place: Place, known: int = 0, value: int = 0) -> None:
        """Follow what arrives at a port, and of which packet bits `known` have this `value`."""
        bridge, port = place
        packets = known & ~META_ONES
        state = State(META_ONES | packets, IN_PORT.place(port) | (value & packets))
        try:
            for end in self._enter(bridge, port, state, None, 0, last=True):
                if end.out is None:
                    self._no(Reason("drop", "drops it", bridge))
        except _Stop:
            pass
        if self.target is None and self.reason is None:
            self.reason = Reason("drop", "drops it", bridge)

    @property
    def definite(self) -> bool:
        """The answer is yes, or stands in the first flow met, whose match tells nothing more."""
        return self.reason is None or len(self.visits) <= 1

    def _no(self, reason: Reason) -> None:
        if self.reason is None:
            self.reason = reason
        if not self._survey:
            raise _Stop

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.bounded = True
            self._survey = False
            self._no(Reason("bounded", "there is too much to follow"))

    # Bridges and tables ------------------------------------------------------------------------

    def _enter(
        self, name: str, port: int, state: State, flow: Flow | None, depth: int, *, last: bool
    ) -> list[State]:
        """Packets arrive at a port of a bridge; `last`: nothing is done with them afterwards."""
        bridge = self._bridges.get(name)
        self.ports.add((name, port))
        self.passed.add(name)
        if bridge is None:
            self._no(Reason("unknown", f"bridge {name} is not known", name, flow))
            return [state]
        if bridge.blocked is not None:
            kind = "bridge" if bridge.unsynced is None else "unsynced"
            self._no(Reason(kind, bridge.blocked, name))
            return [state]
        desc, settings = bridge.ports.get(port), bridge.settings.ports.get(port)
        if desc is None or settings is None:
            self._no(Reason("port", f"port {port} of bridge {name} is not known", name))
            return [state]
        if desc.config & (model.PORT_DOWN | model.NO_RECV | model.NO_RECV_STP):
            what = "down" if desc.config & model.PORT_DOWN else "set to receive nothing"
            self._no(Reason("port", f"port {desc.name} is {what}", name))
        if settings.blocked is not None:
            self._no(Reason("port", settings.blocked, name))
        ends = []
        for end in self._table(bridge, 0, state, flow, depth, missing=True, last=last):
            ends += self._finish(bridge, end, depth)
        return ends

    def _table(
        self,
        bridge: Bridge,
        number: int,
        state: State,
        flow: Flow | None,
        depth: int,
        *,
        missing: bool,
        last: bool,
        port: int | None = None,
    ) -> tuple[State, ...]:
        """Look into a table, as if from `port`.

        Args:
            missing: no flow found is an answer.
            last: nothing follows this look, so that no output until then is an answer, too.
        """
        key = (bridge.name, number, state, -1 if port is None else port)
        if key in self._done:
            before = self._done[key]
            if before is None:
                self._no(Reason("loop", "comes back to itself", bridge.name, flow))
                return (state,)
            self._count(bridge, flow, before[1])
            return before[0]
        if depth > _MAX_DEPTH:
            self._no(Reason("loop", "resubmits too deeply", bridge.name, flow))
            return (state,)
        self._spend()
        self._done[key] = None
        begun = self._resubmits
        self._count(bridge, flow, 1)
        known, value = state.known, state.value
        if port is not None:
            known, value = known | IN_PORT.ones, value & ~IN_PORT.ones | IN_PORT.place(port)
        table = bridge.tables.get(number) or _EMPTY
        least, flows = table.lookup(known, value, each=self.refine)
        place = len(self.visits)
        self.visits.append(Visit(bridge.name, number, known, value, least))
        found: dict[State, None] = {}
        most = so_far = self._resubmits
        for other in flows:
            self._spend()
            self._resubmits = so_far
            try:
                ends = self._flow(bridge, other, state, depth, last=last)
                if last and any(end.out is None and not end.pending for end in ends):
                    self._no(Reason("drop", "drops it", bridge.name, other))
                found |= dict.fromkeys(ends)
            except _Stop:
                # As long as this flow is met, the answer stays.
                least = max(least, other.priority)
                self.visits[place] = Visit(bridge.name, number, known, value, least)
                raise
            most = max(most, self._resubmits)
        self._resubmits = most
        if least < 0:
            if missing:
                text = f"table {number} has no flow for all of it"
                self._no(Reason("miss", text, bridge.name, flow))
            found[state] = None
        self._done[key] = tuple(found), most - begun
        return tuple(found)

    def _count(self, bridge: Bridge, flow: Flow | None, resubmits: int) -> None:
        """OVS drops packets that are looked up too often; branches count as if all were taken."""
        self._resubmits += resubmits
        if self._resubmits > _MAX_RESUBMITS:
            self._no(Reason("loop", "resubmits too often", bridge.name, flow))

    def _flow(
        self, bridge: Bridge, flow: Flow, state: State, depth: int, *, last: bool
    ) -> list[State]:
        """Packets have met a flow."""
        if self._trace is not None:
            self._trace(depth, bridge.name, flow)
        if flow.timeouts and self._lasting:
            self._no(Reason("timeout", "the flow has a time-out", bridge.name, flow))
        if self.refine:
            # in_port may be another one for this look only, see resubmit.
            bits = flow.mask & ~IN_PORT.ones & ~state.known & ~OPAQUE.ones
            state = state._replace(known=state.known | bits, value=state.value | flow.value & bits)
        return self._actions(bridge, flow, flow.actions, state, depth, last=last)

    # Actions -----------------------------------------------------------------------------------

    def _actions(
        self,
        bridge: Bridge,
        flow: Flow,
        actions: Actions,
        state: State,
        depth: int,
        *,
        last: bool = False,
    ) -> list[State]:
        states = [state]
        for action in actions:
            at_end = last and action is actions[-1]
            following: dict[State, None] = {}
            for one in states:
                if one.exited:
                    following[one] = None
                else:
                    ends = self._act(bridge, flow, action, one, depth, last=at_end)
                    following |= dict.fromkeys(ends)
            states = list(following)
        return states

    def _act(
        self,
        bridge: Bridge,
        flow: Flow,
        action: Action,
        state: State,
        depth: int,
        *,
        last: bool = False,
    ) -> tuple[State, ...] | list[State]:
        match action:
            case Output(port):
                return self._output(bridge, flow, port, state, depth)
            case OutputReg(source):
                if source.ones & ~state.known:
                    return self._unknown(bridge, flow, f"outputs to what {source.name} has", state)
                return self._output(bridge, flow, _port_of(source.take(state.value)), state, depth)
            case Goto(table):
                return self._table(bridge, table, state, flow, depth, missing=True, last=last)
            case Resubmit(port, table):
                number = flow.table if table is None else table
                deeper = depth + (number <= flow.table)
                return self._table(
                    bridge, number, state, flow, deeper, missing=False, last=last, port=port
                )
            case Group(number):
                return self._group(bridge, flow, number, state, depth)
            case Load() | Move():
                return self._write(bridge, flow, action, state)
            case Clone(actions):
                inner = self._actions(bridge, flow, actions, state, depth)
                if any(end.exited for end in inner):
                    return self._unknown(bridge, flow, "ends within clone", state)
                return [state._replace(out=end.out) for end in inner]
            case WriteActions(actions):
                return [state._replace(pending=_pending(state.pending, actions))]
            case ClearActions():
                return [state._replace(pending=())]
            case Exit():
                return [state._replace(exited=True)]
            case Nothing() | CtClear():
                return [state]
            case Other(name):
                return self._unknown(bridge, flow, f"does {name}", state, kind=_kind(name))

    def _unknown(
        self, bridge: Bridge, flow: Flow, text: str, state: State, *, kind: str = "action"
    ) -> list[State]:
        """Something that cannot be followed: from here on nothing is known, but the port."""
        self._no(Reason(kind, text, bridge.name, flow))
        known = state.known & IN_PORT.ones
        return [State(known, state.value & known, state.out)]

    def _output(
        self, bridge: Bridge, flow: Flow, port: int, state: State, depth: int
    ) -> list[State]:
        if port == model.NONE:
            return [state]
        if port in model.PORT_NAMES:
            name = model.PORT_NAMES[port]
            text = {
                model.NORMAL: "does NORMAL: learns addresses, and floods",
                model.IN_PORT: "sends it back to where it came from",
                model.CONTROLLER: "sends it to the controller",
                model.LOCAL: "sends it to the bridge's local port",
            }.get(port, f"outputs to {name}")
            self._no(Reason(name.lower(), text, bridge.name, flow))
            return [state]
        if IN_PORT.ones & ~state.known:
            return self._unknown(bridge, flow, "may output to the input port", state)
        if port == IN_PORT.take(state.value):
            return [state]  # OVS does not send back to the input port
        self.ports.add((bridge.name, port))
        desc, settings = bridge.ports.get(port), bridge.settings.ports.get(port)
        if desc is None or settings is None:
            if (desc is None) is not (settings is None):
                self._no(Reason("port", f"port {port} is not known yet", bridge.name, flow))
            return [state]
        if desc.config & model.NO_FWD:
            return [state]
        if desc.config & model.PORT_DOWN:
            self._no(Reason("port", f"port {desc.name} is down", bridge.name, flow))
        if settings.held is not None:
            self._no(Reason("port", settings.held, bridge.name, flow))
        if settings.peer is not None:
            return self._patch(settings.peer, flow, state, depth)
        if state.out is not None:
            self._no(
                Reason("several", "sends each packet to more than one port", bridge.name, flow)
            )
            return [state]
        place = bridge.name, port
        if self.target is None:
            self.target = place
        elif self.target != place:
            self._no(Reason("several", "not all packets go to the same port", bridge.name, flow))
        return [state._replace(out=place)]

    def _patch(self, peer: Place, flow: Flow, state: State, depth: int) -> list[State]:
        """Into another bridge, which knows the packet but not its metadata; and back."""
        known = state.known & _KEPT_BY_PATCH | META_ONES
        value = state.value & _KEPT_BY_PATCH | IN_PORT.place(peer[1])
        if depth >= _MAX_DEPTH:
            self._no(Reason("loop", "passes too many patch ports", peer[0], flow))
            return [state]
        ends = self._enter(*peer, State(known, value, state.out), flow, depth + 1, last=False)
        return [state._replace(out=end.out) for end in ends]

    def _finish(self, bridge: Bridge, state: State, depth: int) -> list[State]:
        """Carry the action set out; a group goes before an output."""
        if not state.pending:
            return [state]
        flow = Flow(0, 0, 0, 0, ())
        done = state._replace(pending=(), exited=False)
        groups = [action for action in state.pending if isinstance(action, Group)]
        outputs = [a for a in state.pending if isinstance(a, Output | OutputReg)]
        odd = [a for a in state.pending if not isinstance(a, Group | Output | OutputReg)]
        if odd:
            name = odd[0].name if isinstance(odd[0], Other) else type(odd[0]).__name__.lower()
            return self._unknown(bridge, flow, f"has {name} in the action set", done)
        return list(self._act(bridge, flow, [*outputs, *groups][-1], done, depth))

    def _group(
        self, bridge: Bridge, flow: Flow, number: int, state: State, depth: int
    ) -> list[State]:
        self.groups.add((bridge.name, number))
        group = bridge.groups.get(number)
        why = None
        if not bridge.groups_told:
            why = "changes of groups are not told before OpenFlow 1.4"
        elif group is None:
            why = "there is no such group"
        elif group.kind not in ("indirect", "all", "select"):
            why = f"it is of type {group.kind}"
        elif len(group.buckets) != 1:
            why = f"it has {len(group.buckets)} buckets"
        elif group.buckets[0].watches:
            why = "its bucket depends on whether something else is up"
        elif group.kind == "select" and group.buckets[0].weight == 0:
            why = "its bucket has no weight"
        elif (order := _bucket_order(group.buckets[0].actions)) is None:
            why = "its bucket does more than output"
        else:
            inner = self._actions(bridge, flow, order, state._replace(pending=()), depth)
            return [state._replace(out=end.out) for end in inner]
        self._no(Reason("group", f"uses group {number}: {why}", bridge.name, flow))
        for bucket in group.buckets if group is not None else ():
            self._actions(bridge, flow, bucket.actions, state._replace(pending=()), depth)
        return [state]

    def _write(self, bridge: Bridge, flow: Flow, action: Load | Move, state: State) -> list[State]:
        target = action.target
        if target.ones & ~_WRITABLE:
            self._no(Reason("set-field", f"changes {target.name}", bridge.name, flow))
        if isinstance(action, Load):
            mask = target.place(action.mask)
            known = state.known | mask
            value = state.value & ~mask | target.place(action.value & action.mask)
        else:
            known, value = _move(action.source, target, state)
        return [state._replace(known=known, value=value)]


def _port_of(value: int) -> int:
    """Return the port that a register's value means: OVS's own numbers have 16 bits."""
    if value > _MAX_OFP_PORT:
        return model.NONE
    return value if value < _RESERVED_OFP_PORTS else value | 0xFFFF0000


def _move(source: Slice, target: Slice, state: State) -> tuple[int, int]:
    bits = target.place(source.take(state.known))
    known = state.known & ~target.ones | bits
    value = state.value & ~target.ones | target.place(source.take(state.value)) & bits
    return known, value


def _pending(before: tuple[Action, ...], actions: Actions) -> tuple[Action, ...]:
    """Return the action set with more actions: one of each kind, the last one holds."""
    kinds: dict[object, Action] = {_set_kind(action): action for action in before}
    for action in actions:
        kinds[_set_kind(action)] = action
    return tuple(kinds.values())


def _set_kind(action: Action) -> object:
    if isinstance(action, Output | OutputReg):
        return Output
    return action if isinstance(action, Load | Move | Other) else type(action)


def _bucket_order(actions: Actions) -> Actions | None:
    """Return a bucket's actions in the order of an action set, None if that is not so simple.

    Writes come first, then one group, output or resubmit (`ofpacts_execute_action_set()` in
    `lib/ofp-actions.c`).
    """
    writes = [action for action in actions if isinstance(action, Load | Move)]
    rest = [a for a in actions if not isinstance(a, Load | Move | Nothing)]
    if len(rest) != 1 or not isinstance(rest[0], Output | OutputReg | Group | Resubmit):
        return () if not rest and not writes else None
    return (*writes, rest[0])


def _kind(name: str) -> str:
    return name.partition("(")[0].partition(":")[0].strip() or "action"
