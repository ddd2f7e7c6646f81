# SPDX-License-Identifier: Apache-2.0
"""Whose counters become OVS's statistics: `highway-stats`, told to the switch's side of each port.

A receiver counts what it checks. With `highway-stats=receiver` at a port its counters hold, but for
senders whose links to it are not checked: those are told by name, before their link is used.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ovs_highway import protocol, shm
from ovs_highway.events import about
from ovs_highway.shm import Stats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ovs_highway.agent.channel import Channel
    from ovs_highway.agent.ports import Port, Ports

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Who counts what is sent to a port.

    Attributes:
        source: whose counters hold.
        believed: region ids of the senders whose own counters hold all the same.
    """

    source: Stats
    believed: frozenset[int] = frozenset()


def counting(stats: Stats, unchecked: frozenset[int], *, able: bool = True) -> Counting:
    """Return who is to count what is sent to a port.

    Args:
        unchecked: senders whose links to it are not checked.
        able: its VNF's driver counts what it checks, and its region has room for that.
    """
    if stats is Stats.SENDER or not able:
        return Counting(source=Stats.SENDER)
    return Counting(source=Stats.RECEIVER, believed=unchecked)


def news(before: Counting | None, now: Counting) -> list[tuple[int, Stats]]:
    """Return what to tell a switch that knows `before`, None: nothing since its WELCOME.

    The names come before the rule for all others, so that nobody is counted in the wrong way.
    """
    known = frozenset() if before is None else before.believed
    told = [(sender, Stats.SENDER) for sender in sorted(now.believed - known)]
    if before is None or before.source is not now.source:
        told.append((0, now.source))
    return told + [(sender, Stats.RECEIVER) for sender in sorted(known - now.believed)]


class Teller:
    """Tells the switches."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._told: WeakKeyDictionary[Channel, Counting] = WeakKeyDictionary()

    def follow(self, unchecked: Mapping[str, frozenset[int] | None]) -> None:
        """Tell each switch what it does not know yet; `unchecked` is what `Links` returns."""
        for port in self._ports.values():
            senders = unchecked.get(port.name, frozenset())
            if senders is not None:
                self._tell(port, senders)

    def _tell(self, port: Port, unchecked: frozenset[int]) -> None:
        terms = self._ports.terms(port.name)
        if port.switch is None or port.version < shm.ABI_COUNTED or terms is None:
            return
        able = port.region.has_in_counters and (port.vnf is None or port.vnf.counts)
        before, now = self._told.get(port.switch), counting(terms.stats, unchecked, able=able)
        if before == now:
            return
        if (before.source if before else Stats.SENDER) is not now.source:
            log.info(
                "port %s: what is sent to it past the switch is counted by the %s",
                port.name,
                now.source.name.lower(),
                extra=about("policy", port.name),
            )
        self._told[port.switch] = now
        for sender, source in news(before, now):
            port.switch.send(
                protocol.WhoCounts(port_id=port.region.region_id, sender_id=sender, source=source)
            )
