# SPDX-License-Identifier: Apache-2.0
"""Ports whose ovs-vswitchd is away: who has gone for certain, and whose bypass goes on.

With `highway-fail-mode=standalone` the rules that were in force when it went stay in force, as far
as the database and the operator still want that, until the next ovs-vswitchd has started the port.
With `secure` the drivers stop by themselves once the region says that there is no switch.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import region
from ovs_highway.events import about
from ovs_highway.shm import Off

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ovs_highway.agent.ports import Port
    from ovs_highway.ovsdb import Snapshot

log = logging.getLogger(__name__)

SETTLE: Final = 0.05
"""Seconds in which the database tells that a port was deleted; OVS closes it when it reads that."""
RETURN: Final = 10.0
"""Seconds that an ovs-vswitchd which is back has for a port; then it does not want the port."""


class Alone:
    """Looks after the ports of one run directory; no I/O but that to their regions."""

    def __init__(self) -> None:
        self._away: dict[str, float] = {}
        self._back: float | None = None
        self._done: object = None
        self.names: frozenset[str] = frozenset()
        """The ports whose bypass goes on without a switch."""

    def follow(self, ports: Mapping[str, Port], snapshot: Snapshot | None, now: float) -> bool:
        """Look at all ports; return whether some of them are to be looked at again soon."""
        known = [port for port in ports.values() if not port.deleted]
        here = [port for port in known if _has_switch(port)]
        away = [port for port in known if port not in here and _had_switch(port)]
        self._away = {port.name: self._away.get(port.name, now) for port in away}
        self._back = (self._back or now) if here else None
        late = self._back is not None and now - self._back >= RETURN
        settled = {name for name, since in self._away.items() if now - since >= SETTLE}
        before = self.names
        if snapshot is None or not snapshot.standalone or late:
            names = frozenset[str]()
        else:
            # One that OVS closed while it has others was deleted, or OVS cannot open it.
            may = (settled if not here else settled & before) & set(snapshot.ports)
            names = frozenset(may)
        self._tell(ports, before, names)
        if late:
            for port in away:
                region.stop_alone(port.region)
        self.names = names
        self._go_on({name: ports[name] for name in names}, here)
        waiting = any(port.switch is None for port in here) or bool(names and here)
        return waiting or settled != set(self._away)

    @staticmethod
    def _tell(ports: Mapping[str, Port], before: frozenset[str], names: frozenset[str]) -> None:
        for name in sorted(names - before):
            log.info(
                "port %s: its bypass goes on without ovs-vswitchd (standalone)",
                name,
                extra=about("port", name),
            )
        for name in sorted(before - names):
            if name in ports and not ports[name].region.raw.switch_state.attached:
                log.info(
                    "port %s: its bypass does not go on without ovs-vswitchd",
                    name,
                    extra=about("port", name),
                )

    def _go_on(self, alone: Mapping[str, Port], here: list[Port]) -> None:
        """Have the last rules in force, as they are allowed now; look only if something changed."""
        both = [*alone.values(), *here] if alone else []
        state: Any = [(port.name, port.region.region_id, port.region.gate()) for port in both]
        if state == self._done:
            return
        receivers = {port.region.region_id: port.region for port in both if _may_receive(port)}
        for port in alone.values():
            if region.go_on_alone(port.region, receivers):
                count = len(port.region.live_peers())
                log.info("port %s: rules in force without a switch: %d", port.name, count)
            if port.switch is None:
                # Nobody tells what they are; a VNF that comes back is to get its links.
                port.wants = dict(Counter(port.region.live_peers()))
        self._done = [(port.name, port.region.region_id, port.region.gate()) for port in both]


def _has_switch(port: Port) -> bool:
    """Tell whether a switch has started the port and lives; notes in the region if it does not."""
    if not port.region.raw.switch_state.attached:
        return False
    if port.switch is not None or port.region.locked():
        return True
    if port.region.switch_died():
        log.info("port %s: ovs-vswitchd has gone", port.name, extra=about("port", port.name))
    return False


def _had_switch(port: Port) -> bool:
    """Tell whether any switch has ever started the port."""
    return bool(port.region.raw.switch_state.epoch)


def _may_receive(port: Port) -> bool:
    """Tell whether others' rules towards a port may be in force, as the switch would see it."""
    gate = port.region.gate()
    if gate.off_operator or gate.off_policy:
        return False
    # A switch that is back has the port down until it has started it.
    return bool(port.region.raw.switch_state.attached) or not gate.off_switch & Off.DOWN
