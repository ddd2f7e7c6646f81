# SPDX-License-Identifier: Apache-2.0
"""What is known of the switch: bridges with their flows, groups, ports and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovs_highway.detector.tables import Table
from ovs_highway.openflow.model import (
    Actions,
    Clone,
    Event,
    Flow,
    FlowGone,
    FlowSet,
    Frags,
    GroupDesc,
    GroupGone,
    GroupSet,
    Other,
    PortDesc,
    PortGone,
    PortSet,
    Restart,
    Synced,
    WriteActions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FRAG_DROP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """What the database says of one port of a bridge.

    Attributes:
        peer: the other end, bridge and OpenFlow port number, if it is a patch port.
        highway: the name of our port, if it is one.
        blocked: why not all that arrives goes through the flow tables, None if it does.
        held: why not all that OpenFlow sends there leaves there, None if it does.
    """

    peer: tuple[str, int] | None = None
    highway: str | None = None
    blocked: str | None = None
    held: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    """What the database says of a bridge.

    Attributes:
        blocked: why nothing that passes it can be proven, None if it can.
        ports: by OpenFlow port number.
    """

    blocked: str | None = None
    ports: Mapping[int, PortSettings] = field(default_factory=dict)


class Bridge:
    """What the OpenFlow connection has told of a bridge, and the database's settings.

    Attributes:
        unsynced: why not everything is known, None if it is.
        doubt: why what is known may not be all, None if there is no doubt.
        version: of OpenFlow, as on the wire; 0 while nothing is known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings = BridgeSettings()
        self.forget("it is not connected yet")

    def forget(self, why: str) -> None:
        """Forget what the connection has told."""
        self.unsynced: str | None = why
        self.tables: dict[int, Table] = {}
        self.groups: dict[int, GroupDesc] = {}
        self.ports: dict[int, PortDesc] = {}
        self.groups_told = False
        self.frags = 0
        self.version = 0
        self.doubt: str | None = None

    @property
    def blocked(self) -> str | None:
        """Why nothing that passes the bridge can be proven now, None if it can."""
        if self.unsynced is not None:
            return f"bridge {self.name}: {self.unsynced}"
        if self.doubt is not None:
            return f"bridge {self.name}: {self.doubt}"
        if self.settings.blocked is not None:
            return f"bridge {self.name}: {self.settings.blocked}"
        if self.frags == _FRAG_DROP:
            return f"bridge {self.name} drops fragments (ovs-ofctl set-frags)"
        return None

    def flows(self) -> Iterator[Flow]:
        """Return all flows."""
        for table in self.tables.values():
            yield from table.flows()

    def __len__(self) -> int:
        return sum(map(len, self.tables.values()))


@dataclass(slots=True)
class Changes:
    """What some events have changed in a bridge; `everything` covers the others.

    Attributes:
        flows: those that came, went or changed what they do, in the order of the events.
    """

    everything: bool = False
    missed: bool = False
    flows: list[Flow] = field(default_factory=list)
    groups: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)


def apply(bridge: Bridge, events: Iterable[Event]) -> Changes:
    """Take events over, in their order; return what has changed by them."""
    changes = Changes()
    for event in events:
        match event:
            case FlowSet(flow):
                _put(bridge, flow, changes)
            case FlowGone((number, priority, mask, value)):
                table = bridge.tables.get(number)
                gone = table.remove(priority, mask, value) if table is not None else None
                if gone is not None:
                    changes.flows.append(gone)
            case GroupSet(group):
                if bridge.groups.get(group.group) != group:
                    bridge.groups[group.group] = group
                    changes.groups.add(group.group)
            case GroupGone(None):
                changes.groups.update(bridge.groups)
                bridge.groups.clear()
            case GroupGone(int(number)):
                if bridge.groups.pop(number, None) is not None:
                    changes.groups.add(number)
            case PortSet(port):
                before = bridge.ports.get(port.port)
                bridge.ports[port.port] = port
                # OVS sends to a port whose link is down, too.
                if before is None or before.config != port.config:
                    changes.ports.add(port.port)
            case PortGone(number):
                if bridge.ports.pop(number, None) is not None:
                    changes.ports.add(number)
            case Synced(groups=groups, frags=frags, version=version):
                bridge.unsynced, bridge.version = None, version
                bridge.groups_told, bridge.frags = groups, frags
                changes.everything = True
            case Restart(missed=missed, why=why):
                bridge.forget(why)
                changes.everything = True
                changes.missed |= missed
            case Frags(frags):
                changes.everything |= bridge.frags != frags
                bridge.frags = frags
    return changes


def _put(bridge: Bridge, flow: Flow, changes: Changes) -> None:
    table = bridge.tables.get(flow.table)
    if table is None:
        table = bridge.tables[flow.table] = Table()
    before = table.put(flow)
    if (
        before is None
        or before.timeouts != flow.timeouts
        or before.actions != flow.actions
        or not _understood(flow.actions)
    ):
        changes.flows.append(flow)


def _understood(actions: Actions) -> bool:
    """Tell whether equal actions do the same; what is not understood has no more than a name."""
    for action in actions:
        inner = action.actions if isinstance(action, Clone | WriteActions) else ()
        if isinstance(action, Other) or not _understood(inner):
            return False
    return True
