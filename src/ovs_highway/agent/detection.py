# SPDX-License-Identifier: Apache-2.0
"""The p-2-p link detector within highwayd: its connections to OVS, and what follows from it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from ovs_highway import unixctl
from ovs_highway.agent import control
from ovs_highway.agent.actions import Proofs
from ovs_highway.agent.policy import pipeline
from ovs_highway.agent.suppression import Suppression
from ovs_highway.detector.settings import settings
from ovs_highway.detector.verdicts import Detector
from ovs_highway.errors import CommandError
from ovs_highway.events import about
from ovs_highway.openflow import messages as wire
from ovs_highway.openflow.client import Client
from ovs_highway.openflow.model import Restart, Synced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ovs_highway.agent.ports import Ports
    from ovs_highway.detector.verdicts import Verdict
    from ovs_highway.openflow.model import Event
    from ovs_highway.ovsdb import Snapshot

log = logging.getLogger(__name__)

HOLD: Final = 10.0
"""Seconds for which a proof outlives the connection that it came from, or for the first one."""
FADE: Final = 0.3
"""Seconds in which highwayd sees that an ovs-vswitchd has ended which has deleted its flows."""
_LEFT_OUT: Final = (b"meter:", b"write_actions(", b"clear_actions")
_LARGE: Final = 10_000
"""Flows of a bridge from which on Python's collector is told to leave them alone."""


class Detection:
    """Follows the bridges that our ports' packets can pass; `run` is its life.

    Args:
        guard: called before regions are looked at.
        news: called when `proofs` is another one, or a rule was suppressed or lifted.
    """

    def __init__(
        self,
        ports: Ports,
        ovs_rundir: Path,
        *,
        guard: Callable[[], None],
        news: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._ovs_rundir = ovs_rundir
        self._news = news
        self._now = asyncio.get_running_loop().time
        self.detector = Detector()
        self.suppression = Suppression(ports, self.detector, ovs_rundir, guard=guard, told=news)
        self.proofs = Proofs()
        self._snapshot: Snapshot | None = None
        self._changed = asyncio.Event()
        self._missed: set[str] = set()
        self._doubtful = asyncio.Event()
        self._held: dict[str, tuple[str, float]] = {}
        self._start_until = self._now() + HOLD

    def follow(self, snapshot: Snapshot) -> None:
        """Take over a new state of the database."""
        self._snapshot = snapshot
        bridges: set[str] = set()
        if snapshot.external_ids.get("highway-detector") != "off":
            for interface in snapshot.ports.values():
                bridges |= pipeline(snapshot, interface.bridge)
        before = set(self.detector.ports)
        self.detector.configure(settings(snapshot, bridges & set(snapshot.bridges)))
        self._decide(gone=before != set(self.detector.ports))
        self._changed.set()

    async def run(self) -> None:
        """Follow the bridges until cancelled."""
        clients: dict[str, tuple[frozenset[str], asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as group:
            group.create_task(self.suppression.run(), name="suppression")
            group.create_task(self._end_holds(), name="proofs")
            group.create_task(self._examine_doubtful(), name="OpenFlow 1.0")
            while True:
                await self._changed.wait()
                self._changed.clear()
                assert self._snapshot is not None
                wanted = {
                    name: self._snapshot.bridges[name].protocols
                    for name in self.detector.bridges
                    if name in self._snapshot.bridges
                }
                for name, (protocols, task) in list(clients.items()):
                    if wanted.get(name) != protocols:
                        task.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await task
                        del clients[name]
                for name in wanted.keys() - clients.keys():
                    task = group.create_task(self._follow_bridge(name), name=f"bridge {name}")
                    clients[name] = wanted[name], task

    async def _follow_bridge(self, name: str) -> None:
        target = f"unix:{self._ovs_rundir / name}.mgmt"
        await Client(target, partial(self._deliver, name)).run()

    def _deliver(self, name: str, events: list[Event]) -> None:
        """A bridge's connection tells something; never raises."""
        try:
            self._take(name, events)
        except Exception:
            log.exception("bridge %s: the detector failed; please report it", name)
            self._take(name, [Restart(missed=True, why="the detector failed; see highwayd's log")])

    def _take(self, name: str, events: list[Event]) -> None:
        changes = self.detector.take(name, events)
        synced = any(isinstance(event, Synced) for event in events)
        if synced and self.detector.bridges[name].version == wire.OF10:
            self.detector.doubt(name, "whether OpenFlow 1.0 tells everything is being looked at")
            self._doubtful.set()
        self._decide()
        if changes.missed:
            self._missed.add(name)
        if not changes.everything or (synced and name in self._missed):
            self.suppression.follow(name, changes)
        if synced:
            self._missed.discard(name)
            count = len(self.detector.bridges[name])
            log.info("bridge %s: %d flows are followed", name, count, extra=about("highwayd"))
            if count >= _LARGE:
                gc.collect()
                gc.freeze()

    async def _examine_doubtful(self) -> None:
        """OpenFlow 1.0 leaves out what it cannot say, so OVS is asked whether there is any of it.

        While a bridge speaks nothing else, nobody can add more of it.
        """
        while True:
            await self._doubtful.wait()
            self._doubtful.clear()
            for name, bridge in list(self.detector.bridges.items()):
                if bridge.version != wire.OF10 or bridge.doubt is None:
                    continue
                why = await self._left_out(name)
                self.detector.doubt(name, why)
                self._decide()

    async def _left_out(self, name: str) -> str | None:
        try:
            socket = unixctl.vswitchd_socket(self._ovs_rundir)
            for what in _LEFT_OUT:
                if await control.search(socket, "bridge/dump-flows", name, what=what):
                    word = what.decode().rstrip(":(")
                    return (
                        f"it has flows with {word}, which OpenFlow 1.0 leaves out; let it speak 1.4"
                    )
        except CommandError as error:
            return f"whether OpenFlow 1.0 tells everything is not known: {error}"
        return None

    # Proofs ------------------------------------------------------------------------------------

    def _decide(self, *, gone: bool = False) -> None:
        if self.detector.decide() or gone:
            self._publish()

    def _publish(self) -> None:
        """Make `proofs` of the verdicts; one outlives the loss of its connection for a while."""
        peers: dict[str, str] = {}
        reasons: dict[str, str] = {}
        pending: set[str] = set()
        for port, verdict in self.detector.verdicts.items():
            if verdict.peer is not None:
                peers[port] = verdict.peer
                self._held.pop(port, None)
            elif self._hold(port, verdict, peers):
                pass
            elif self._soon(port, verdict):
                pending.add(port)
            else:
                reasons[port] = verdict.reason.describe() if verdict.reason else "it is not known"
        before, self.proofs = (
            self.proofs,
            Proofs(peers=peers, reasons=reasons, pending=frozenset(pending)),
        )
        for port in sorted(peers.keys() | before.peers.keys()):
            old, new = before.peers.get(port), peers.get(port)
            if new is not None and old != new:
                _tell(port, new, "proven", "all that it sends goes there")
            if old is not None and old != new:
                why = f"it goes to {new} now" if new else reasons.get(port, "it is not looked at")
                _tell(port, old, "disproved", why)
        if before != self.proofs:
            self._news()

    def _hold(self, port: str, verdict: Verdict, peers: dict[str, str]) -> bool:
        """Keep the last proof of a port for a while; return whether that is done.

        If its bridge is not connected (any more): for `HOLD`. If bypasses are to go on without a
        switch: for `FADE`, since an ovs-vswitchd that ends deletes its flows first. And as long
        as there is no switch.
        """
        unsynced = _unsynced(verdict)
        before = self.proofs.peers.get(port)
        standalone = self._snapshot is not None and self._snapshot.standalone
        if before is None or not (unsynced or standalone):
            self._held.pop(port, None)
            return False
        if port not in self._held:
            wait = HOLD if unsynced else FADE
            self._held[port] = before, self._now() + wait
            asyncio.get_running_loop().call_later(wait, self._publish)
        elif self._now() >= self._held[port][1] and not self._alone(port):
            del self._held[port]
            return False
        peers[port] = before
        return True

    def _soon(self, port: str, verdict: Verdict) -> bool:
        """Tell whether a port's bridge is still to be read for the first time."""
        return _unsynced(verdict) and (self._now() < self._start_until or self._alone(port))

    def _alone(self, port: str) -> bool:
        return port in self._ports and self._ports[port].switch is None

    async def _end_holds(self) -> None:
        while True:
            await asyncio.sleep(1)
            late = any(self._now() >= until for _, until in self._held.values())
            if late or (self.proofs.pending and self._now() >= self._start_until):
                self._publish()


def _unsynced(verdict: Verdict) -> bool:
    return verdict.reason is not None and verdict.reason.kind == "unsynced"


def _tell(port: str, peer: str, state: str, why: str) -> None:
    words = "p-2-p" if state == "proven" else "not p-2-p any more"
    log.info(
        "path %s to %s: %s: %s",
        port,
        peer,
        words,
        why,
        extra=about("p2p", port, peer, state=state, reason=why),
    )
