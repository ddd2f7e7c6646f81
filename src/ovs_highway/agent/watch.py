# SPDX-License-Identifier: Apache-2.0
"""Notices every change of path: which direction between two ports takes the bypass, and why not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.events import about
from ovs_highway.limits import Bucket
from ovs_highway.view import AgentView, Direction, PortView, View, link_view, port_view

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterable, Mapping

    from ovs_highway.agent.actions import LinkStatus, Pair, Way
    from ovs_highway.agent.ports import Port, Ports
    from ovs_highway.region import LinkRegion

log = logging.getLogger(__name__)

_LINES: Final = (1.0, 50.0)
"""Changes of one path that are told, a second for long, and at once: VNFs can cause them."""


class PathWatch:
    """Compares what `highway links` would show now with what it showed before."""

    def __init__(self) -> None:
        self._seen: object = None
        self._paths: dict[Pair, Direction] = {}
        self._limits: dict[Pair, Bucket] = {}
        self._rules: dict[str, tuple[object, tuple[Counter[int], Counter[int]]]] = {}

    def look(
        self, ports: Ports, links: Iterable[LinkRegion], told: Iterable[LinkStatus]
    ) -> list[Direction]:
        """Log and return what has changed since the last look.

        What changes too often is told later, as it then is.
        """
        links = list(links)
        told = list(told)
        reasons = {one.pair: (one.phase, _steady(one.reason)) for one in told}
        ways = {
            way: _steady(reason)
            for one in told
            for way, reason in zip((one.pair, one.pair[::-1]), one.ways, strict=True)
        }
        state: Any = (
            [_signature(port) for port in ports.values()],
            [(link.region_id, link.phase, link.flags, link.end(0), link.end(1)) for link in links],
            reasons,
            ways,
        )
        if state == self._seen:
            return []
        self._seen = state
        view = self._view(ports, links, reasons, ways)
        now = {(way.sender, way.receiver): way for way in view.directions()}
        changes = self._news(now, ports.keys())
        for way in changes:
            _tell(way)
        return changes

    def _news(self, now: Mapping[Pair, Direction], ports: Collection[str]) -> list[Direction]:
        """Return what has changed and may be told; what may not yet is looked at again."""
        changes = [_gone(way) for pair, way in self._paths.items() if pair not in now]
        changes += [
            way
            for pair, way in now.items()
            if (before := self._paths.get(pair)) is None
            or (before.state, before.reason, before.rules, before.checked)
            != (way.state, way.reason, way.rules, way.checked)
        ]
        told: list[Direction] = []
        late: set[Pair] = set()
        for way in changes:
            pair = (way.sender, way.receiver)
            fresh = Bucket(per_second=_LINES[0], burst=_LINES[1])
            if self._limits.setdefault(pair, fresh)():
                told.append(way)
            else:
                late.add(pair)
                self._seen = None
        kept = {pair: way for pair, way in self._paths.items() if pair in late}
        self._paths = {pair: way for pair, way in now.items() if pair not in late} | kept
        for pair in [pair for pair in self._limits if not {*pair} <= {*ports}]:
            del self._limits[pair]
        return told

    def _view(
        self,
        ports: Ports,
        links: list[LinkRegion],
        reasons: Mapping[Pair, tuple[str, str]],
        ways: Mapping[Way, str],
    ) -> View:
        agent = AgentView(
            running=True,
            ports={
                name: {"policy": ports.why_off(name), "wants": ports.wanted_by(port)}
                for name, port in ports.items()
            },
            links=reasons,
            ways=ways,
        )
        views = {name: self._port(port, agent) for name, port in ports.items()}
        return View(agent=agent, ports=views, links=tuple(map(link_view, links)))

    def _port(self, port: Port, agent: AgentView) -> PortView:
        """Return the view of a port; its rules are read only if something has changed there."""
        mark = (port.region.region_id, port.region.gate().change)
        before = self._rules.get(port.name)
        rules = before[1] if before and before[0] == mark else port.region.count_rules()
        self._rules[port.name] = (mark, rules)
        return port_view(port.region, agent, rules)


def _signature(port: Port) -> tuple[object, ...]:
    state = port.region.raw
    return (
        port.name,
        port.region.region_id,
        int(state.gate.change),
        bool(state.switch_state.attached),
        bool(state.vnf_state.attached),
        bool(state.vnf_state.started),
        tuple(port.wants.items()),
    )


def _steady(reason: str) -> str:
    """Return a reason without the seconds that a failure's counts down to the next try."""
    return reason.partition("; next try")[0]


def _gone(way: Direction) -> Direction:
    return Direction(
        sender=way.sender,
        receiver=way.receiver,
        state="off",
        rules=0,
        packets=way.packets,
        bytes=way.bytes,
        reason="no rule asks for it any more",
        link_id=None,
        checked=False,
        counted=False,
    )


def _tell(way: Direction) -> None:
    what = {"bypass": f"bypass, rules in force: {way.rules}", "idle": "no rule in force"}
    text = what.get(way.state, f"normal channel: {way.reason}")
    log.info(
        "path %s to %s: %s%s",
        way.sender,
        way.receiver,
        text,
        " (checked)" if way.checked and way.state == "bypass" else "",
        extra=about(
            "path",
            way.sender,
            way.receiver,
            state=way.state,
            rules=way.rules,
            reason=way.reason,
            link_id=None if way.link_id is None else f"{way.link_id:016x}",
        ),
    )
