# SPDX-License-Identifier: Apache-2.0
"""What the link reconciler is told, and what it answers: facts, actions, and status for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ovs_highway import shm
from ovs_highway.shm import LinkFlag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ovs_highway.agent.policy import Terms
    from ovs_highway.shm import Phase

Pair: TypeAlias = tuple[str, str]
"""Two ports, in order of their names: end 0 and end 1 of their link."""
Way: TypeAlias = tuple[str, str]
"""A direction: sender and receiver."""
Flags: TypeAlias = tuple[LinkFlag, LinkFlag]
"""What end 0 and end 1 of a link must heed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """What the detector has found out; a port that is in neither is not known (yet).

    Attributes:
        peers: by sender, the one port to which all that it sends goes.
        reasons: by sender, why there is none.
        pending: senders of which that is not known yet, but soon will be.
    """

    peers: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    pending: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    """What is known of a port at the moment.

    Attributes:
        switch: an ovs-vswitchd is connected.
        vnf: number of the VNF's connection, None without one.
        started: that VNF has attached the region and started.
        wants: rules in force by the peer's region id.
        forbidden: why the port may have no links, None if it may.
        no_room: why no further link can be made, None if one can.
        terms: on which terms the database lets it have links; None: that is not known (yet).
        directed: its driver knows links with terms for each direction.
        buffer: bytes of the buffers of a link in which its VNF takes frames, 0 if it does not.
    """

    name: str
    region_id: int
    n_queues: int = 1
    ring_size: int = shm.MIN_RING_SIZE
    switch: bool = True
    vnf: int | None = None
    started: bool = False
    wants: Mapping[int, int] = field(default_factory=dict)
    forbidden: str | None = None
    no_room: str | None = None
    terms: Terms | None = None
    directed: bool = True
    buffer: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Make the region of a link; then call `made` or `failed`.

    Attributes:
        buffers: bytes of the buffers that end 0 and end 1 may send in, 0 for none.
    """

    link_id: int
    pair: Pair
    port_ids: tuple[int, int]
    n_queues: tuple[int, int]
    ring_size: int
    flags: Flags
    buffers: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Send LINK_ADD to one end."""

    link_id: int
    end: int
    port: str
    flags: LinkFlag


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Send LINK_UPDATE to one end, and store its flags in the link's region."""

    link_id: int
    end: int
    port: str
    flags: LinkFlag


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Send LINK_REMOVE to one end."""

    link_id: int
    end: int
    port: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPhase:
    """Store the phase in the link's region."""

    link_id: int
    pair: Pair
    phase: Phase
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink:
    """Remove the region of a link."""

    link_id: int
    pair: Pair
    text: str


Action: TypeAlias = Make | Add | Update | Remove | SetPhase | Unlink


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """A pair for people: its link's phase, or why there is none.

    Attributes:
        flags: what the ends of the link must heed.
        ways: by sending end, why nothing may be sent; empty if it may.
    """

    pair: Pair
    link_id: int | None
    phase: str
    reason: str
    flags: Flags = (shm.FREE, shm.FREE)
    ways: tuple[str, str] = ("", "")
