# SPDX-License-Identifier: Apache-2.0
"""What the OpenFlow client tells of a bridge: flows, groups, ports, and what they do.

Actions are those of ovs-actions(7), reduced to what can be followed; everything else is `Other`,
with its name. Instructions of OpenFlow 1.1+ are actions here, in the order in which they are
carried out: meter, apply (its actions in line), clear, write, metadata, goto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from ovs_highway.openflow.fields import Slice

# Reserved ports, OpenFlow 1.1+ numbers (OpenFlow 1.5.1, 7.2.1.2).
MAX_PORT: Final = 0xFFFFFF00
UNSET: Final = 0xFFFFFFF7
IN_PORT: Final = 0xFFFFFFF8
TABLE: Final = 0xFFFFFFF9
NORMAL: Final = 0xFFFFFFFA
FLOOD: Final = 0xFFFFFFFB
ALL: Final = 0xFFFFFFFC
CONTROLLER: Final = 0xFFFFFFFD
LOCAL: Final = 0xFFFFFFFE
NONE: Final = 0xFFFFFFFF
PORT_NAMES: Final = {
    UNSET: "UNSET",
    IN_PORT: "IN_PORT",
    TABLE: "TABLE",
    NORMAL: "NORMAL",
    FLOOD: "FLOOD",
    ALL: "ALL",
    CONTROLLER: "CONTROLLER",
    LOCAL: "LOCAL",
    NONE: "NONE",
}


@dataclass(frozen=True, slots=True)
class Output:
    """Send to a port, reserved ports included."""

    port: int


@dataclass(frozen=True, slots=True)
class OutputReg:
    """Send to the port whose number stands in some bits."""

    source: Slice


@dataclass(frozen=True, slots=True)
class Group:
    """Have a group do it."""

    group: int


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look up in a table (None: the present one), as if from a port (None: the present one)."""

    port: int | None
    table: int | None


@dataclass(frozen=True, slots=True)
class Goto:
    """Go on in a later table, after everything else."""

    table: int


@dataclass(frozen=True, slots=True)
class Load:
    """Set those bits of `target` that `mask` has to `value`; both are relative to the slice."""

    target: Slice
    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class Move:
    """Copy bits; both slices are equally wide."""

    source: Slice
    target: Slice


@dataclass(frozen=True, slots=True)
class Clone:
    """Do something to a copy of the packet."""

    actions: Actions


@dataclass(frozen=True, slots=True)
class WriteActions:
    """Put actions into the action set."""

    actions: Actions


@dataclass(frozen=True, slots=True)
class ClearActions:
    """Empty the action set."""


@dataclass(frozen=True, slots=True)
class Exit:
    """End the packet's way through the tables."""


@dataclass(frozen=True, slots=True)
class CtClear:
    """Forget what connection tracking has told; nothing, if it has told nothing."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Does nothing to the packet, such as `note`."""

    name: str


@dataclass(frozen=True, slots=True)
class Other:
    """Anything else; `name` as ovs-ofctl(8) writes it, such as `dec_ttl` or `unknown action 99`."""

    name: str


Action: TypeAlias = (
    Output
    | OutputReg
    | Group
    | Resubmit
    | Goto
    | Load
    | Move
    | Clone
    | WriteActions
    | ClearActions
    | Exit
    | CtClear
    | Nothing
    | Other
)
Actions: TypeAlias = tuple[Action, ...]


@dataclass(slots=True, eq=False)
class Flow:
    """An OpenFlow flow. Those with the same `key` are the same flow.

    Attributes:
        mask, value: what it matches, see `fields`; a field that is not understood is a number in
            `opaque` that stands for its exact bytes.
        actions: the same tuple object for all flows that do the same.
        timeouts: it has an idle or a hard timeout.
    """

    table: int
    priority: int
    mask: int
    value: int
    actions: Actions
    cookie: int = 0
    timeouts: bool = False

    @property
    def key(self) -> tuple[int, int, int, int]:
        """What identifies the flow in its bridge."""
        return self.table, self.priority, self.mask, self.value


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a group; `watches`: whether it is used depends on a port or another group."""

    actions: Actions
    watches: bool = False
    weight: int = 1


@dataclass(frozen=True, slots=True)
class GroupDesc:
    """A group; `kind` is `all`, `select`, `indirect`, `ff` or what else the switch calls it."""

    group: int
    kind: str
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class PortDesc:
    """A port of a bridge.

    Attributes:
        config: OFPPC_* bits, state: OFPPS_* bits, OpenFlow 1.1+ numbers.
    """

    port: int
    name: str
    config: int
    state: int


# Port configuration (OpenFlow 1.0 and 1.1+ agree on these but for spanning tree's, 1.0 only).
PORT_DOWN: Final = 1 << 0
NO_STP: Final = 1 << 1
NO_RECV: Final = 1 << 2
NO_RECV_STP: Final = 1 << 3
NO_FLOOD: Final = 1 << 4
NO_FWD: Final = 1 << 5
NO_PACKET_IN: Final = 1 << 6
LINK_DOWN: Final = 1 << 0
"""Of a port's state."""


# What a connection tells, in the order in which it happened at the switch. -----------------------


@dataclass(frozen=True, slots=True)
class FlowSet:
    """A flow was added, or its actions or cookie changed."""

    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowGone:
    """A flow went."""

    key: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class GroupSet:
    """A group was added or changed."""

    group: GroupDesc


@dataclass(frozen=True, slots=True)
class GroupGone:
    """A group went; None: all of them."""

    group: int | None


@dataclass(frozen=True, slots=True)
class PortSet:
    """A port was added or changed."""

    port: PortDesc


@dataclass(frozen=True, slots=True)
class PortGone:
    """A port went."""

    port: int


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything before this is the whole state; from here on come changes.

    Attributes:
        groups: whether changes of groups will be told.
        frags: OFPC_FRAG_*: 0 normal, 1 drop, 2 reassemble, 3 nx-match.
        version: OpenFlow version spoken, such as 5 for 1.4.
    """

    groups: bool
    frags: int
    version: int


@dataclass(frozen=True, slots=True)
class Restart:
    """Forget everything: a new state comes, until `Synced`. `missed`: events were missed."""

    missed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Frags:
    """`ovs-ofctl set-frags` was used; the number is that of `Synced`."""

    frags: int


Event: TypeAlias = (
    FlowSet | FlowGone | GroupSet | GroupGone | PortSet | PortGone | Synced | Restart | Frags
)
