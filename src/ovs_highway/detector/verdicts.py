# SPDX-License-Identifier: Apache-2.0
"""The detector: which port sends everything to which other one, after every event.

A port is judged again only when something changes that its last walk has looked at, so an event
costs as much as it concerns, whatever the size of the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.detector.switch import Bridge, BridgeSettings, Changes, apply
from ovs_highway.detector.walk import Place, Reason, Visit, Walk
from ovs_highway.openflow.fields import IN_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ovs_highway.openflow.model import Event, Flow

_COARSE: Final = 20_000
_FINE: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of all that one port sends.

    Attributes:
        peer: the port of ours to which everything goes, None if that is not so.
        reason: why there is none.
        passed: bridges that it passes.
    """

    port: str
    peer: str | None = None
    reason: Reason | None = None
    passed: frozenset[str] = frozenset()


class Detector:
    """The state of a switch's bridges, and the verdict of each of our ports."""

    def __init__(self) -> None:
        self.bridges: dict[str, Bridge] = {}
        self.ports: dict[str, Place] = {}
        self.verdicts: dict[str, Verdict] = {}
        self._interest = Interest()
        self._dirty: set[str] = set()

    def configure(self, settings: Mapping[str, BridgeSettings]) -> None:
        """Take over what the database says of all bridges; the others are forgotten."""
        for name in set(self.bridges) - set(settings):
            del self.bridges[name]
        changed = False
        for name, one in settings.items():
            bridge = self.bridges.setdefault(name, Bridge(name))
            changed |= bridge.settings != one
            bridge.settings = one
        ports = {
            port.highway: (name, number)
            for name, one in settings.items()
            for number, port in one.ports.items()
            if port.highway is not None
        }
        if changed or ports != self.ports:
            self._dirty.update(ports)
        for port in set(self.ports) - set(ports):
            self.verdicts.pop(port, None)
            self._interest.drop(port)
            self._dirty.discard(port)
        self.ports = ports

    def take(self, name: str, events: Iterable[Event]) -> Changes:
        """Take over what a bridge's connection tells; return what it changes."""
        bridge = self.bridges.setdefault(name, Bridge(name))
        changes = apply(bridge, events)
        if changes.everything:
            self._dirty.update(self.ports)
        else:
            self._dirty |= self._interest.concerned(name, changes)
        return changes

    def doubt(self, name: str, why: str | None) -> None:
        """Take what a bridge's connection tells for incomplete, or not any more."""
        bridge = self.bridges.get(name)
        if bridge is not None and bridge.doubt != why:
            bridge.doubt = why
            self._dirty.update(self.ports)

    def decide(self) -> list[Verdict]:
        """Judge the ports that are concerned by what has changed; return new verdicts."""
        found = []
        for port in sorted(self._dirty & set(self.ports)):
            verdict, walk = self.judge(port)
            self._interest.note(port, walk)
            if verdict != self.verdicts.get(port):
                found.append(verdict)
            self.verdicts[port] = verdict
        self._dirty.clear()
        return found

    def judge(self, port: str, known: int = 0, value: int = 0) -> tuple[Verdict, Walk]:
        """Judge a port, or only those of its packets of which `known` bits have this value."""
        walk = self._walk(port, known, value, refine=False, budget=_COARSE)
        if not walk.definite and not walk.bounded:
            fine = self._walk(port, known, value, refine=True, budget=_FINE)
            if not fine.bounded:
                walk = fine
        return self._verdict(port, walk), walk

    def _walk(self, port: str, known: int, value: int, *, refine: bool, budget: int) -> Walk:
        walk = Walk(self.bridges, refine=refine, budget=budget)
        walk.start(self.ports[port], known, value)
        return walk

    def _verdict(self, port: str, walk: Walk) -> Verdict:
        passed = frozenset(walk.passed)
        if walk.reason is not None or walk.target is None:
            return Verdict(port=port, reason=walk.reason, passed=passed)
        name, number = walk.target
        settings = self.bridges[name].settings.ports.get(number)
        peer = None if settings is None else settings.highway
        if peer is None:
            desc = self.bridges[name].ports.get(number)
            text = f"goes to port {desc.name if desc else number}, which is not a highway port"
            return Verdict(port=port, reason=Reason("elsewhere", text, name), passed=passed)
        return Verdict(port=port, peer=peer, passed=passed)


class Interest:
    """Which subject has to be looked at again when something changes.

    A subject is whatever a walk was made for. Visits are found by the input port that they were
    made with, since most flows ask for one.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple[str, int], dict[int | None, dict[Visit, set[str]]]] = {}
        self._groups: dict[Place, set[str]] = {}
        self._ports: dict[Place, set[str]] = {}
        self._walks: dict[str, Walk] = {}

    def note(self, subject: str, walk: Walk) -> None:
        """A subject was looked at again."""
        self.drop(subject)
        self._walks[subject] = walk
        for visit in walk.visits:
            table = self._tables.setdefault((visit.bridge, visit.table), {})
            table.setdefault(_in_port(visit.known, visit.value), {}).setdefault(visit, set()).add(
                subject
            )
        for place in walk.groups:
            self._groups.setdefault(place, set()).add(subject)
        for place in walk.ports:
            self._ports.setdefault(place, set()).add(subject)

    def drop(self, subject: str) -> None:
        """Forget a subject."""
        walk = self._walks.pop(subject, None)
        if walk is None:
            return
        for visit in walk.visits:
            key, port = (visit.bridge, visit.table), _in_port(visit.known, visit.value)
            visits = self._tables.get(key, {}).get(port, {})
            subjects = visits.get(visit, set())
            subjects.discard(subject)
            if not subjects and visits.pop(visit, None) is not None and not visits:
                del self._tables[key][port]
                if not self._tables[key]:
                    del self._tables[key]
        for places, mine in ((self._groups, walk.groups), (self._ports, walk.ports)):
            for place in mine:
                rest = places.get(place, set()) - {subject}
                if rest:
                    places[place] = rest
                else:
                    places.pop(place, None)

    def __contains__(self, subject: str) -> bool:
        return subject in self._walks

    def concerned(self, bridge: str, changes: Changes) -> set[str]:
        """Return the subjects that changes of one bridge concern."""
        found: set[str] = set()
        for flow in changes.flows:
            self._add_concerned(bridge, flow, found)
        for group in changes.groups:
            found |= self._groups.get((bridge, group), set())
        for port in changes.ports:
            found |= self._ports.get((bridge, port), set())
        return found

    def _add_concerned(self, bridge: str, flow: Flow, found: set[str]) -> None:
        table = self._tables.get((bridge, flow.table))
        if table is None:
            return
        for visits in _looked_up(table, flow):
            for visit, subjects in visits.items():
                if flow.priority >= visit.least and not (
                    (flow.value ^ visit.value) & flow.mask & visit.known
                ):
                    found |= subjects


def _looked_up(
    table: Mapping[int | None, dict[Visit, set[str]]], flow: Flow
) -> Iterator[dict[Visit, set[str]]]:
    """Return the visits that may have met a flow, by its input port."""
    if flow.mask & IN_PORT.ones != IN_PORT.ones:
        yield from table.values()
        return
    for port in (IN_PORT.take(flow.value), None):
        if (visits := table.get(port)) is not None:
            yield visits


def _in_port(known: int, value: int) -> int | None:
    return IN_PORT.take(value) if known & IN_PORT.ones == IN_PORT.ones else None
