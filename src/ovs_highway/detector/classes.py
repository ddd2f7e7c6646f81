# SPDX-License-Identifier: Apache-2.0
"""Which bypass rules a change of flows concerns, and whether they are still right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ovs_highway.detector.verdicts import Interest
from ovs_highway.detector.walk import Walk
from ovs_highway.openflow.fields import META_ONES

if TYPE_CHECKING:
    from ovs_highway.detector.switch import Changes
    from ovs_highway.detector.verdicts import Detector

_SURVEY: Final = 2_000
_JUDGE: Final = 2_000


class Surveys:
    """Knows of each port with rules what all that its packets can meet.

    A survey goes on where a verdict stops. It is out of date once a change concerns it; until it is
    made anew every change of its bridges does.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._interest = Interest()

    def missing(self, port: str) -> bool:
        """Tell whether a port has no survey that is up to date."""
        return port not in self._interest

    def make(self, port: str) -> bool:
        """Make a port's survey; False if there is too much to see."""
        walk = Walk(self._detector.bridges, refine=False, survey=True, budget=_SURVEY)
        walk.start(self._detector.ports[port])
        if walk.bounded:
            self._interest.drop(port)
            return False
        self._interest.note(port, walk)
        return True

    def drop(self, port: str) -> None:
        """Forget a port's survey."""
        self._interest.drop(port)

    def concerned(self, ports: set[str], bridge: str, changes: Changes) -> set[str]:
        """Return those of some ports that changes of a bridge may concern."""
        unknown = {port for port in ports if self.missing(port)}
        if changes.everything:
            return set(ports)
        return unknown | (self._interest.concerned(bridge, changes) & ports)


def touches(changes: Changes, known: int, value: int) -> bool:
    """Tell whether changes can matter to packets of which `known` packet bits are `value`."""
    if changes.everything or changes.groups or changes.ports:
        return True
    known &= ~META_ONES
    return any(not (flow.value ^ value) & flow.mask & known for flow in changes.flows)


def still_right(detector: Detector, port: str, peer: str, known: int, value: int) -> bool:
    """Tell whether packets of a port are certain to go to `peer` now, time-outs or not."""
    verdict = detector.verdicts.get(port)
    if verdict is not None and verdict.peer == peer:
        return True
    for refine in (False, True):
        walk = Walk(detector.bridges, refine=refine, budget=_JUDGE, lasting=False)
        walk.start(detector.ports[port], known, value)
        if walk.reason is None and walk.target == detector.ports.get(peer):
            return True
    return False
