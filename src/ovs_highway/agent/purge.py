# SPDX-License-Identifier: Apache-2.0
"""Has OVS learn its datapath flows anew: when the switch's side asks, and when mirrors change.

OVS 3.1 does not look at existing flows again when a mirror comes, changes or goes
(`mirror_set()` in `ofproto/ofproto-dpif-mirror.c`), as it does for sFlow, IPFIX and NetFlow.

A flow that OVS learns anew while its offload thread has not yet destroyed the old one's rule, which
takes up to 64 ms, is shown the old one's count once more. So no port may deliver packets meanwhile:
the switch's side is asked to hold each port, and each asks for the purge once it does. And a
revalidator that has dumped a flow just before the purge deletes it takes it for a new one and
counts all its hits again (`revalidate()` and `revalidator_purge()` in
`ofproto/ofproto-dpif-upcall.c`), with and without us: so revalidators pause meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ovs_highway import protocol, unixctl
from ovs_highway.agent import control
from ovs_highway.errors import CommandError, HighwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ovs_highway.agent.channel import Channel
    from ovs_highway.ovsdb import Snapshot

log = logging.getLogger(__name__)

PURGE: Final = ("revalidator/pause", "revalidator/purge", "revalidator/resume")
_SETTLE: Final = 0.1
_GATHER: Final = 0.03
_START: Final = 0.5
_OVS_PATIENCE: Final = 5.0


def mirrors_changed(before: Snapshot | None, now: Snapshot) -> bool:
    """Tell whether flows that were made before may lack a mirror, or have one too many."""
    old = {} if before is None else {name: b.mirrors for name, b in before.bridges.items()}
    return any(bridge.mirrors != old.get(name, frozenset()) for name, bridge in now.bridges.items())


class Purger:
    """Runs `revalidator/purge`; `run` is its life.

    Args:
        switches: returns the channels of all ports that ovs-vswitchd has now.
    """

    def __init__(self, ovs_rundir: Path, switches: Callable[[], Iterable[Channel]]) -> None:
        self._ovs_rundir = ovs_rundir
        self._switches = switches
        self._asked: asyncio.Queue[tuple[Channel, int] | None] = asyncio.Queue()
        self._snapshot: Snapshot | None = None
        self._mirrors = asyncio.Event()
        self._news = asyncio.Event()

    def ask(self, channel: Channel, token: int) -> None:
        """Purge, then answer with this token."""
        self._asked.put_nowait((channel, token))

    def follow(self, snapshot: Snapshot) -> None:
        """Take over a new state of the database; purge if its mirrors are others."""
        if mirrors_changed(self._snapshot, snapshot):
            self._mirrors.set()
        self._snapshot = snapshot
        self._news.set()

    async def run(self) -> None:
        """Do what is asked for until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._purge_forever())
            group.create_task(self._watch_mirrors())

    async def _watch_mirrors(self) -> None:
        await asyncio.sleep(_START)  # the switch's side comes back to a new highwayd
        while True:
            await self._mirrors.wait()
            self._mirrors.clear()
            await self._carried_out()
            channels = list(self._switches())
            for channel in channels:
                channel.send(protocol.Purge(token=0))
            if not channels:
                self._asked.put_nowait(None)

    async def _carried_out(self) -> None:
        """Wait until ovs-vswitchd has carried out what stands in the database.

        It is told of a change at the same moment as highwayd, and looks at it before it answers
        its control socket; the counter adds certainty for changes by ovs-vsctl.
        """
        try:
            async with asyncio.timeout(_OVS_PATIENCE):
                await asyncio.sleep(_SETTLE)
                while self._snapshot is not None and (
                    self._snapshot.cur_cfg < self._snapshot.next_cfg
                ):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            log.warning("ovs-vswitchd does not carry out what stands in the database")

    async def _purge_forever(self) -> None:
        while True:
            asked = [await self._asked.get()]
            await asyncio.sleep(_GATHER)  # others ask within a tick of the switch's control thread
            while not self._asked.empty():
                asked.append(self._asked.get_nowait())
            try:
                socket = unixctl.vswitchd_socket(self._ovs_rundir)
                _, purged, _ = await control.calls(socket, *PURGE)
                if isinstance(purged, CommandError):
                    raise purged
                log.info("OVS was told to learn its flows anew")
            except HighwayError as error:
                log.warning("OVS could not be told to learn its flows anew: %s", error)
            for channel, token in filter(None, asked):
                channel.send(protocol.Purged(token=token))
