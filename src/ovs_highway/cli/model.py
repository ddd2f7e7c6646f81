# SPDX-License-Identifier: Apache-2.0
"""What the status commands show, read from the regions; highwayd only adds what it alone knows."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths, region, unixctl
from ovs_highway.errors import CommandError
from ovs_highway.shm import Off, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ovs_highway.region import Gate, LinkRegion, PortRegion, SwitchState, VnfState

_ANSWER: Final = 2.0
LEASE: Final = 10.0
"""Seconds without highwayd after which drivers leave the bypass, as in the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """What highwayd knows beyond the regions; empty if it is not running.

    Attributes:
        away: seconds since it was last there, None if it is or if that is not known.
        ports: its entry for each port, see `agent/control.py`.
        links: phase and reason by pair of ports.
    """

    running: bool
    pid: int | None = None
    away: float | None = None
    version: str = ""
    ovsdb: bool = False
    ports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    links: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortView:
    """One port.

    Attributes:
        lapsed: the lease has: highwayd has been away for too long.
        policy: why policy has the port off, in full; the gate has room for a part of it.
        rules_to: number of rules in force by the peer's region id.
        wants: ports to which it has rules, in force or not, as highwayd knows.
    """

    name: str
    region_id: int
    n_queues: int
    switch: SwitchState
    gate: Gate
    vnf: VnfState
    rules_to: Mapping[int, int]
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
    """One link region; `received` is packets and bytes by receiving end."""

    link_id: int
    names: tuple[str, str]
    port_ids: tuple[int, int]
    phase: Phase
    checked: bool
    closed: str
    received: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a link, or of a pair of ports that should have one.

    Attributes:
        state: `bypass`; `idle`, a link that no rule uses this way; or `off`.
        checked: the receiver checks what comes over the link.
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
            pairs |= {(port.name, by_id[peer]) for peer in port.rules_to if peer in by_id}
            pairs |= {(port.name, peer) for peer in port.wants if peer in self.ports}
        return [self._direction(*pair, links.get(pair)) for pair in sorted(pairs)]

    def _direction(self, sender: str, receiver: str, link: LinkView | None) -> Direction:
        one, other = self.ports.get(sender), self.ports.get(receiver)
        rules = one.rules_to.get(other.region_id, 0) if one and other else 0
        reason = why_off(self.agent, sender, receiver, one, other, link)
        state = "off" if reason else "bypass" if rules else "idle"
        packets, count = link.received[link.names.index(receiver)] if link else (0, 0)
        return Direction(
            sender=sender,
            receiver=receiver,
            state=state,
            rules=rules,
            packets=packets,
            bytes=count,
            reason=reason or "",
            link_id=link.link_id if link else None,
            checked=link is not None and link.checked,
        )


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
        return told or "the link is being set up"
    if link.closed:
        return f"the link was closed: {link.closed}"
    if link.phase is Phase.LEAVING:
        return f"the link is being taken down: {told}" if told else "the link is being taken down"
    if link.phase is Phase.NEW:
        return "the link is being set up"
    return f"the link is being taken over: {told}" if phase == "adopting" and told else None


class Source:
    """The regions of one run directory, open for reading, as a context manager."""

    def __init__(self, rundir: Path | None, *, writable: bool = False) -> None:
        self.rundir = rundir or paths.rundir()
        self._tag = paths.region_tag(self.rundir)
        self._writable = writable
        self._stack = contextlib.ExitStack()
        self.ports: dict[str, PortRegion] = {}

    def __enter__(self) -> Source:
        self.ports, _ = region.open_ports(self._tag, writable=self._writable)
        for port in self.ports.values():
            self._stack.enter_context(port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def port(self, name: str) -> PortRegion:
        """Return the region of a port.

        Raises:
            CommandError: there is no such port.
        """
        if name not in self.ports:
            known = ", ".join(sorted(self.ports)) or "none at all"
            raise CommandError(
                f"there is no port {name} in {self.rundir}; the ports there: {known}"
            )
        return self.ports[name]

    def view(self) -> View:
        """Read everything."""
        agent = ask_agent(self.rundir)
        ports = {name: _port_view(port, agent) for name, port in sorted(self.ports.items())}
        links, _ = region.open_links(self._tag)
        views = []
        for link in links:
            with link:
                views.append(_link_view(link))
        return View(agent=agent, ports=ports, links=tuple(views))

    def received(self) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
        """Return packets and bytes by receiving end, of all links by id."""
        links, _ = region.open_links(self._tag)
        found = {}
        for link in links:
            with link:
                found[link.region_id] = (link.received(0), link.received(1))
        return found


def _port_view(port: PortRegion, agent: AgentView) -> PortView:
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
        rules_to=Counter(port.live_peers()),
        lapsed=lapsed,
        policy=told.get("policy") or "",
        wants=tuple(told.get("wants", ())),
    )


def _link_view(link: LinkRegion) -> LinkView:
    closed = [f"{link.end(end).closed} at {link.names[end]}" for end in _closed_ends(link)]
    return LinkView(
        link_id=link.region_id,
        names=link.names,
        port_ids=link.port_ids,
        phase=link.phase,
        checked=link.checked,
        closed=", ".join(closed),
        received=(link.received(0), link.received(1)),
    )


def _closed_ends(link: LinkRegion) -> Iterator[int]:
    return (end for end in (0, 1) if link.end(end).closed)


def _away(rundir: Path) -> float | None:
    """Return for how many seconds highwayd has not renewed its leases."""
    try:
        return max(0.0, time.time() - (rundir / "highwayd.pid").stat().st_mtime)
    except OSError:
        return None


def ask_agent(rundir: Path) -> AgentView:
    """Return what highwayd knows, or an empty view if it does not answer."""
    socket = paths.control_socket(rundir)
    try:
        show = json.loads(unixctl.call(socket, "highway/show", timeout=_ANSWER))
        links = json.loads(unixctl.call(socket, "highway/links", timeout=_ANSWER))
    except (CommandError, ValueError):
        return AgentView(running=False, away=_away(rundir))
    return AgentView(
        running=True,
        pid=show["pid"],
        version=show["version"],
        ovsdb=show["ovsdb"],
        ports={port["name"]: port for port in show["ports"]},
        links={
            (link["ports"][0], link["ports"][1]): (link["phase"], link["reason"])
            for link in links["links"]
        },
    )
