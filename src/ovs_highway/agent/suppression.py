# SPDX-License-Identifier: Apache-2.0
"""Has senders leave bypass rules that a flowmod has made wrong, before OVS gets to it.

A rule that a change of flows concerns, and that is not certain to be right still, is suppressed at
once. OVS's revalidators then look at its datapath flow: if it is wrong its rule is destroyed, and
the suppression with it; if OVS keeps it, the rule is right, and the suppression is lifted.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from ovs_highway import unixctl
from ovs_highway.agent import control
from ovs_highway.agent.classes import RuleClass, rule_classes
from ovs_highway.detector.classes import Surveys, still_right, touches
from ovs_highway.errors import CommandError
from ovs_highway.events import about

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ovs_highway.agent.ports import Port, Ports
    from ovs_highway.detector.switch import Changes
    from ovs_highway.detector.verdicts import Detector

log = logging.getLogger(__name__)

_SURVEY_PAUSE: Final = 0.05
_LATE_PAUSE: Final = 0.01
_LATE: Final = 0.25
"""Seconds after a change within which OVS's offload thread may still put rules of before it."""
_SURVEY_AGAIN: Final = 5.0
_MAX_JUDGED: Final = 256
"""Rules per port and change that are judged; more than that are suppressed unseen."""
_ROUNDS: Final = 2
"""Times that OVS must have kept a rule that the detector takes for wrong."""
_QUEUE_TRIES: Final = 50
_QUEUE_PAUSE: Final = 0.02
_RETRY: Final = 1.0


class _Rule(NamedTuple):
    port: str
    region_id: int
    slot: int
    generation: int


class Suppression:
    """Suppresses rules and lifts that again; `run` is its life.

    Args:
        guard: called before regions are looked at.
        told: called after a rule of a port was suppressed or lifted.
    """

    def __init__(
        self,
        ports: Ports,
        detector: Detector,
        ovs_rundir: Path,
        *,
        guard: Callable[[], None],
        told: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._detector = detector
        self._ovs_rundir = ovs_rundir
        self._guard = guard
        self._told = told
        self._surveys = Surveys(detector)
        self._too_large: dict[str, float] = {}
        self._classes: dict[int, tuple[int, list[RuleClass]]] = {}
        self._suppressed: dict[_Rule, int] = {}
        self._stamp = 0
        self._now = asyncio.get_running_loop().time
        self._recent: dict[str, float] = {}
        self._seen: dict[str, set[tuple[int, int]]] = {}
        self._some = asyncio.Event()

    async def run(self) -> None:
        """Keep surveys up to date and lift suppressions until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._survey_forever())
            group.create_task(self._lift_forever())

    def adopt(self) -> None:
        """Take over what an earlier highwayd has suppressed; it is lifted when OVS agrees."""
        for port in self._ports.values():
            for slot, generation in port.region.suppressed().items():
                self._suppressed[_Rule(port.name, port.region.region_id, slot, generation)] = 0
                self._some.set()

    def follow(self, bridge: str, changes: Changes) -> None:
        """Flows have changed: suppress what is not certain to be right still."""
        with_rules = {name for name, port in self._ports.items() if port.wants}
        with_rules &= set(self._detector.ports)
        if not with_rules:
            return
        concerned = self._surveys.concerned(with_rules, bridge, changes)
        if concerned:
            self._guard()
        for name in sorted(concerned):
            self._surveys.drop(name)
            self._judge(self._ports[name], changes)
            self._recent[name] = self._now() + _LATE

    def _judge(self, port: Port, changes: Changes) -> None:
        rules = self._rules(port)
        self._seen[port.name] = {(rule.slot, rule.generation) for rule in rules}
        self._leave(port, [rule for rule in rules if touches(changes, rule.known, rule.value)])

    def _judge_late(self) -> None:
        """Judge rules that come just after a change of flows: OVS may have made them before it."""
        for name, until in list(self._recent.items()):
            port = self._ports.get(name)
            if port is None or name not in self._detector.ports or self._now() >= until:
                del self._recent[name]
                self._seen.pop(name, None)
                continue
            rules, seen = self._rules(port), self._seen.get(name, set())
            self._leave(port, [one for one in rules if (one.slot, one.generation) not in seen])
            self._seen[name] = {(rule.slot, rule.generation) for rule in rules}

    def _leave(self, port: Port, concerned: list[RuleClass]) -> None:
        """Suppress those of some rules that are not certain to be right."""
        # Those that go on without a switch are not for its flows, which it deletes when it ends.
        if port.switch is None:
            return
        names = self._names()
        found = []
        for number, rule in enumerate(concerned):
            peer = names.get(rule.peer_id, "")
            right = number < _MAX_JUDGED and still_right(
                self._detector, port.name, peer, rule.known, rule.value
            )
            if not right and port.region.suppress(rule.slot, rule.generation):
                found.append(peer)
                self._stamp += 1
                key = _Rule(port.name, port.region.region_id, rule.slot, rule.generation)
                self._suppressed[key] = self._stamp
        for peer in sorted(set(found)):
            log.info(
                "path %s to %s: rules left after a change of flows: %d",
                port.name,
                peer,
                found.count(peer),
                extra=about("path", port.name, peer, state="withdrawn", rules=found.count(peer)),
            )
        if found:
            self._some.set()
            self._told()

    def _names(self) -> dict[int, str]:
        """Return all ports' names by region id."""
        return {port.region.region_id: port.name for port in self._ports.values()}

    def _rules(self, port: Port) -> list[RuleClass]:
        """Return a port's rules in force; the table is read only if it has changed."""
        change = port.region.gate().change
        before = self._classes.get(port.region.region_id)
        if before is not None and before[0] == change:
            return before[1]
        rules = rule_classes(port.region)
        self._classes[port.region.region_id] = change, rules
        return rules

    # Surveys -----------------------------------------------------------------------------------

    async def _survey_forever(self) -> None:
        while True:
            await asyncio.sleep(_LATE_PAUSE if self._recent else _SURVEY_PAUSE)
            if self._recent:
                self._guard()
                self._judge_late()
            known = {port.region.region_id for port in self._ports.values()}
            self._classes = {key: value for key, value in self._classes.items() if key in known}
            for name, port in list(self._ports.items()):
                if name not in self._detector.ports or not port.wants:
                    self._surveys.drop(name)
                elif self._surveys.missing(name) and self._now() >= self._too_large.get(name, 0):
                    if not self._surveys.make(name):
                        self._too_large[name] = self._now() + _SURVEY_AGAIN
                    await asyncio.sleep(0)

    # Lifting -----------------------------------------------------------------------------------

    async def _lift_forever(self) -> None:
        kept: dict[_Rule, int] = {}
        while True:
            await self._some.wait()
            self._some.clear()
            while self._suppressed:
                before = dict(self._suppressed)
                try:
                    await self._revalidated()
                except CommandError as error:
                    log.debug("suppressed rules are not re-examined yet: %s", error)
                    await asyncio.sleep(_RETRY)
                    self._forget_destroyed()
                    continue
                self._guard()
                self._forget_destroyed()
                for rule, stamp in before.items():
                    if self._suppressed.get(rule) != stamp:
                        continue
                    kept[rule] = kept.get(rule, 0) + 1
                    if kept[rule] >= _ROUNDS or self._right(rule):
                        self._lift(rule)
                kept = {rule: n for rule, n in kept.items() if rule in self._suppressed}

    async def _revalidated(self) -> None:
        """Wait until OVS has looked at all flows since now, and its offload thread has followed.

        The first wait may end with a round that had begun before. Raises:
            CommandError: there is no ovs-vswitchd, or it does not answer.
        """
        socket = unixctl.vswitchd_socket(self._ovs_rundir)
        for _ in range(2):
            await control.call(socket, "revalidator/wait")
        for _ in range(_QUEUE_TRIES):
            await asyncio.sleep(_QUEUE_PAUSE)
            told = await control.call(socket, "dpctl/offload-stats-show")
            waiting = [
                line.rpartition(":")[2].strip()
                for line in told.splitlines()
                if "Enqueued offloads" in line
            ]
            if all(number == "0" for number in waiting):
                break
        # What the thread has taken from its queue it has in hand for a moment.
        await asyncio.sleep(_QUEUE_PAUSE)

    def _forget_destroyed(self) -> None:
        for rule in list(self._suppressed):
            port = self._ports.get(rule.port)
            if (
                port is None
                or port.region.region_id != rule.region_id
                or int(port.region.rule_table()[rule.slot].live) != rule.generation
            ):
                del self._suppressed[rule]

    def _right(self, rule: _Rule) -> bool:
        port = self._ports[rule.port]
        if rule.port not in self._detector.ports:
            return False
        names = self._names()
        return any(
            still_right(self._detector, rule.port, names.get(one.peer_id, ""), one.known, one.value)
            for one in self._rules(port)
            if (one.slot, one.generation) == (rule.slot, rule.generation)
        )

    def _lift(self, rule: _Rule) -> None:
        self._suppressed.pop(rule, None)
        self._ports[rule.port].region.lift(rule.slot, rule.generation)
        log.info("port %s: OVS keeps a rule: it is used again", rule.port)
        self._told()
