# SPDX-License-Identifier: Apache-2.0
"""Finds out which bridges have OpenFlow rules with `fin_timeout`.

That action wants to see TCP's FIN and RST flags, which an offload does not report to OVS. A
datapath flow that it concerns always looks at the IP protocol (`OFPACT_FIN_TIMEOUT` in
`ofproto/ofproto-dpif-xlate.c`), so OVS is asked for its OpenFlow rules only while a bypass rule
for TCP is in force, or until the last `fin_timeout` has gone. Each bridge is asked at most once a
second, and OVS is kept busy for at most a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ovs_highway import unixctl
from ovs_highway.agent import control
from ovs_highway.agent.policy import pipeline
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ovs_highway.agent.ports import Ports
    from ovs_highway.ovsdb import Snapshot

log = logging.getLogger(__name__)

_LOOK: Final = 0.1
_PERIOD: Final = 1.0
_SHARE: Final = 20
_ACTION: Final = b"fin_timeout("


def bridges_to_ask(
    snapshot: Snapshot, tcp_ports: Collection[str], found: Collection[str]
) -> set[str]:
    """Return the bridges whose OpenFlow rules matter.

    Args:
        tcp_ports: ports with a bypass rule for TCP in force.
        found: bridges that had the action when they were asked last. Their ports are off, and
            have no rule in force any more.
    """
    concerned = {snapshot.ports[name].bridge for name in tcp_ports if name in snapshot.ports}
    passed = {name for bridge in concerned for name in pipeline(snapshot, bridge)}
    return (passed | set(found)) & set(snapshot.bridges)


class FinTimeout:
    """Keeps `found`, the bridges with such rules; `run` is its life.

    Args:
        guard: called before regions are looked at.
        changed: called after `found` has changed.
    """

    def __init__(
        self,
        ports: Ports,
        ovs_rundir: Path,
        *,
        guard: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._ovs_rundir = ovs_rundir
        self._guard = guard
        self._changed = changed
        self._asked: dict[str, float] = {}
        self._seen: dict[int, tuple[int, bool]] = {}
        self.found: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Follow the OpenFlow rules until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_LOOK)
            snapshot = self._ports.snapshot
            if snapshot is None:
                continue
            wanted = bridges_to_ask(snapshot, self._tcp_ports(), self.found)
            self._note(self.found & wanted)
            for bridge in sorted(wanted):
                if now() - self._asked.get(bridge, -_PERIOD) < _PERIOD:
                    continue
                self._asked[bridge] = began = now()
                await self._ask(bridge)
                await asyncio.sleep((_SHARE - 1) * (now() - began))

    def _tcp_ports(self) -> list[str]:
        """Return the ports with a rule for TCP; a table is read only if its region has changed."""
        self._guard()
        seen: dict[int, tuple[int, bool]] = {}
        found = []
        for name, port in self._ports.items():
            key, change = port.region.region_id, port.region.gate().change
            old = self._seen.get(key)
            tcp = old[1] if old is not None and old[0] == change else port.region.matches_tcp()
            seen[key] = change, tcp
            if tcp:
                found.append(name)
        self._seen = seen
        return found

    async def _ask(self, bridge: str) -> None:
        try:
            socket = unixctl.vswitchd_socket(self._ovs_rundir)
            there = await control.search(socket, "bridge/dump-flows", bridge, what=_ACTION)
        except CommandError as error:
            log.debug("the OpenFlow rules of bridge %s are not known: %s", bridge, error)
            return
        self._note(self.found | {bridge} if there else self.found - {bridge})

    def _note(self, found: frozenset[str]) -> None:
        if found != self.found:
            self.found = found
            log.info("bridges with fin_timeout: %s", ", ".join(sorted(found)) or "none")
            self._changed()
