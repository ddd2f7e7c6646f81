# SPDX-License-Identifier: Apache-2.0
"""What ports and links look like at one moment, and why one is off, in plain words.

Read from the regions, by the status commands and by highwayd's record of events alike; highwayd
adds what it alone knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import shm
from ovs_highway.shm import LinkFlag, Off, Phase

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping

    from ovs_highway.region import Gate, LinkRegion, PortRegion, SwitchState, VnfState

LEASE: Final = 10.0
"""Seconds without highwayd after which drivers leave the bypass, as in the driver."""
SUPPRESSED: Final = "flow tables have changed: its rules are being re-examined"
"""Why a rule is not in force that OVS has not withdrawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """What highwayd knows beyond the regions; empty if it is not running.

    Attributes:
        away: seconds since it was last there, None if it is or if that is not known.
        ports: its entry for each port, see `agent/control.py`.
        links: phase and reason by pair of ports.
        ways: by sender and receiver, why nothing may be sent over a link; empty if it may.
    """

    running: bool
    pid: int | None = None
    away: float | None = None
    version: str = ""
    ovsdb: bool = False
    ports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    links: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    ways: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortView:
    """One port.

    Attributes:
        lapsed: the lease has: highwayd has been away for too long.
        policy: why policy has the port off, in full; the gate has room for a part of it.
        rules_to: number of rules in force by the peer's region id.
        suppressed_to: the same of those that highwayd has suppressed.
        wants: ports to which it has rules, in force or not, as highwayd knows.
    """

    name: str
    region_id: int
    n_queues: int
    switch: SwitchState
    gate: Gate
    vnf: VnfState
    rules_to: Mapping[int, int]
    suppressed_to: Mapping[int, int]
    lapsed: bool = False
    policy: str = ""
    wants: tuple[str, ...] = ()

    @property
    def off(self) -> Off:
        """All that has the port off."""
        gate = self.gate
        lapsed = Off.LEASE if self.lapsed else Off(0)
        away = Off(0) if self.switch.attached or gate.standalone else Off.SWITCH
        return gate.off_switch | gate.off_operator | gate.off_policy | lapsed | away


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """One link region; `flags` is what each end heeds, `received` packets and bytes by end."""

    link_id: int
    names: tuple[str, str]
    port_ids: tuple[int, int]
    phase: Phase
    flags: tuple[LinkFlag, LinkFlag]
    closed: str
    received: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a link, or of a pair of ports that should have one.

    Attributes:
        state: `bypass`; `idle`, a link that no rule uses this way; or `off`.
        checked: the receiver checks what comes over the link, if anything may.
        counted: and what it counts becomes OVS's statistics.
        packets, bytes: that the receiver took from the bypass since the link was made.
        reason: why it is off, in plain words; empty otherwise.
    """

    sender: str
    receiver: str
    state: str
    rules: int
    packets: int
    bytes: int
    reason: str
    link_id: int | None
    checked: bool
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything at one moment."""

    agent: AgentView
    ports: Mapping[str, PortView]
    links: tuple[LinkView, ...]

    def directions(self) -> list[Direction]:
        """Return a row for each direction of each link, and for each that is only wanted."""
        by_id = {port.region_id: port.name for port in self.ports.values()}
        links: dict[tuple[str, str], LinkView] = {}
        for link in self.links:
            for end in (0, 1):
                links[link.names[end], link.names[1 - end]] = link
        pairs = set(links)
        for port in self.ports.values():
            peers = {*port.rules_to, *port.suppressed_to}
            pairs |= {(port.name, by_id[peer]) for peer in peers if peer in by_id}
            pairs |= {(port.name, peer) for peer in port.wants if peer in self.ports}
        return [self._direction(*pair, links.get(pair)) for pair in sorted(pairs)]

    def _direction(self, sender: str, receiver: str, link: LinkView | None) -> Direction:
        one, other = self.ports.get(sender), self.ports.get(receiver)
        rules = one.rules_to.get(other.region_id, 0) if one and other else 0
        reason = why_off(self.agent, sender, receiver, one, other, link)
        if (
            reason is None
            and not rules
            and one
            and other
            and one.suppressed_to.get(other.region_id)
        ):
            reason = SUPPRESSED
        heeds = link.flags[link.names.index(sender)] if link else shm.FREE
        state = "off" if reason else "bypass" if rules else "idle"
        packets, count = link.received[link.names.index(receiver)] if link else (0, 0)
        checked = heeds & _SENDS == LinkFlag.PEER_CHECKS
        stats = self.agent.ports.get(receiver, {}).get("stats")
        return Direction(
            sender=sender,
            receiver=receiver,
            state=state,
            rules=rules,
            packets=packets,
            bytes=count,
            reason=reason or "",
            link_id=link.link_id if link else None,
            checked=checked,
            counted=checked and stats == "receiver",
        )


_SENDS: Final = LinkFlag.PEER_CHECKS | LinkFlag.NO_SEND
_ANY: Final = ~Off(0)
_RECEIVER: Final = Off.OPERATOR | Off.ALL | Off.POLICY | Off.DOWN
"""What keeps others from sending directly to a port, too."""


def off_reasons(port: PortView, bits: Off = _ANY) -> list[str]:
    """Return why the bypass of a port is switched off, in plain words; only for these bits."""
    name = port.name
    words = {
        Off.OPERATOR: f"switched off by the operator; turn on with: highway on {name}",
        Off.ALL: "switched off by the operator for all ports; turn on with: highway on --all",
        Off.POLICY: f"policy: {port.policy or port.gate.off_text or 'no reason given'}",
        Off.LEASE: "highwayd has been away for too long (lease); start highwayd",
        Off.HOLD: "hold: another thread polls the port, OVS learns its flows anew",
        Off.DOWN: f"port {name} is down",
        Off.SWITCH: f"no ovs-vswitchd has port {name}"
        + ("" if port.gate.standalone else "; highway-fail-mode=secure"),
    }
    return [text for bit, text in words.items() if port.off & bits & bit]


def why_off(
    agent: AgentView,
    sender: str,
    receiver: str,
    one: PortView | None,
    other: PortView | None,
    link: LinkView | None,
) -> str | None:
    """Return why nothing goes directly from `sender` to `receiver`, or None if it may."""
    for name, port in ((sender, one), (receiver, other)):
        if port is None:
            return f"port {name} was deleted"
    assert one is not None
    assert other is not None
    if reasons := off_reasons(one) or off_reasons(other, _RECEIVER):
        return "; ".join(reasons)
    for port in (one, other):
        if not port.vnf.attached:
            return f"no VNF attached at {port.name}"
        if not port.vnf.started:
            return f"the VNF at {port.name} has not started"
    phase, told = agent.links.get((min(sender, receiver), max(sender, receiver)), ("", ""))
    if link is None:
        if not agent.running:
            return "no link yet, and highwayd is not running; start highwayd"
        return agent.ways.get((sender, receiver)) or told or "the link is being set up"
    if link.closed:
        return f"the link was closed: {link.closed}"
    if link.phase is Phase.LEAVING:
        return f"the link is being taken down: {told}" if told else "the link is being taken down"
    if link.phase is Phase.NEW:
        return "the link is being set up"
    if LinkFlag.NO_SEND in link.flags[link.names.index(sender)]:
        return agent.ways.get((sender, receiver)) or "the link is for the other direction only"
    return f"the link is being taken over: {told}" if phase == "adopting" and told else None


def port_view(
    port: PortRegion, agent: AgentView, rules: tuple[Counter[int], Counter[int]] | None = None
) -> PortView:
    """Return what a port looks like now; what `count_rules` says is read if it is not given."""
    rules_to, suppressed_to = rules or port.count_rules()
    gate = port.gate()
    told = agent.ports.get(port.name, {})
    lapsed = agent.away is not None and agent.away > LEASE and not gate.standalone
    return PortView(
        name=port.name,
        region_id=port.region_id,
        n_queues=port.n_queues,
        switch=port.switch(),
        gate=gate,
        vnf=port.vnf(),
        rules_to=rules_to,
        suppressed_to=suppressed_to,
        lapsed=lapsed,
        policy=told.get("policy") or "",
        wants=tuple(told.get("wants", ())),
    )


def link_view(link: LinkRegion) -> LinkView:
    """Return what a link looks like now."""
    closed = [f"{link.end(end).closed} at {link.names[end]}" for end in _closed_ends(link)]
    return LinkView(
        link_id=link.region_id,
        names=link.names,
        port_ids=link.port_ids,
        phase=link.phase,
        flags=link.flags,
        closed=", ".join(closed),
        received=(link.received(0), link.received(1)),
    )


def _closed_ends(link: LinkRegion) -> Iterator[int]:
    return (end for end in (0, 1) if link.end(end).closed)
