# SPDX-License-Identifier: Apache-2.0
"""highwayd itself: puts ports, links, sessions and the database together, and reconciles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from ovs_highway import paths, protocol, region, shm
from ovs_highway.agent import control, explain
from ovs_highway.agent.access import why_not_own
from ovs_highway.agent.actions import (
    Action,
    Add,
    Make,
    Pair,
    PortFacts,
    Remove,
    SetPhase,
    Unlink,
    Update,
)
from ovs_highway.agent.alone import Alone
from ovs_highway.agent.breakpoint import Breakpoint
from ovs_highway.agent.counting import Teller
from ovs_highway.agent.detection import Detection
from ovs_highway.agent.fin_timeout import FinTimeout
from ovs_highway.agent.links import Links, Timing
from ovs_highway.agent.ports import Port, Ports
from ovs_highway.agent.purge import Purger
from ovs_highway.agent.server import Listener
from ovs_highway.agent.sessions import Hooks, Sessions
from ovs_highway.agent.vm import Machines
from ovs_highway.agent.vm.host import VmHost
from ovs_highway.agent.watch import PathWatch
from ovs_highway.errors import ProtocolError, RegionError
from ovs_highway.events import EventHandler, EventLog, about
from ovs_highway.limits import Quota
from ovs_highway.log import LogLimit
from ovs_highway.ovsdb import Follower, Snapshot
from ovs_highway.region import LinkRegion
from ovs_highway.shm import Phase

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_POLL_BUSY: Final = 0.02
_POLL_IDLE: Final = 0.2
_RECONCILE_AT_LEAST: Final = 0.5
_GONE_PAUSE: Final = 1.0
_SWITCH_CONNECTIONS: Final = 4096
_USER_CONNECTIONS: Final = 2048
_CONNECTS: Final = 20.0
_MAX_ROUNDS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where highwayd works.

    Attributes:
        rundir: its sockets and flags.
        ovs_rundir: of the ovs-vswitchd that it serves, with `db.sock`.
    """

    rundir: Path
    ovs_rundir: Path
    timing: Timing = field(default_factory=Timing)


class _Stop(Exception):
    """Ends the task group."""


class Highwayd:
    """One highwayd; `run` is its life."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tag = paths.region_tag(config.rundir)
        self._now = asyncio.get_running_loop().time
        self.ports = Ports(tag=self._tag, off_all=config.rundir / "off-all", now=self._now())
        self.links = Links(new_id=_new_id, timing=config.timing, now=self._now())
        self._counting = Teller(self.ports)
        self._regions: dict[int, LinkRegion] = {}
        self._listeners: dict[str, Listener] = {}
        self._quota = Quota(_USER_CONNECTIONS)
        self._give_limit = LogLimit(per_second=0.5)
        self._purger = Purger(config.ovs_rundir, self.ports.switches)
        self._fin_timeout = FinTimeout(
            self.ports, config.ovs_rundir, guard=self._guard, changed=self._follow_fin_timeout
        )
        self._sessions = Sessions(
            self.ports,
            self.links,
            Hooks(
                news=self._news,
                listen=self._listen,
                retire=self._retire,
                vnf_gone=self._vnf_gone,
                purge=self._purger.ask,
            ),
        )
        self._machines = Machines(
            config.rundir,
            VmHost(self.ports, self.links, self._sessions.serve_vnf, self._news, self._now),
        )
        self.detection = Detection(
            self.ports, config.ovs_rundir, guard=self._guard, news=self._news
        )
        self._dirty = asyncio.Event()
        self._alone = Alone()
        self._watch = PathWatch()
        self._breakpoint = Breakpoint()
        self._last_facts: dict[str, PortFacts] = {}
        self._last_round = 0.0
        self._group = asyncio.TaskGroup()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; regions and links stay as they are.

        Raises:
            ProtocolError: a socket cannot be made.
        """
        handler = EventHandler(EventLog(paths.events_file(self._config.rundir)))
        logging.getLogger("ovs_highway").addHandler(handler)
        try:
            await self._run(stop)
        finally:
            logging.getLogger("ovs_highway").removeHandler(handler)

    async def _run(self, stop: asyncio.Event) -> None:
        rundir = self._config.rundir
        _make_dir(rundir)
        _make_dir(rundir / "ports")
        for stale in (rundir / "ports").glob("*/sock"):
            stale.unlink(missing_ok=True)
        own: list[Listener] = []
        try:
            async with self._group as group:
                self._adopt()
                self.detection.suppression.adopt()
                switch = paths.switch_socket(rundir)
                serve = self._sessions.serve_switch
                own.append(
                    Listener(switch, serve, group, limit=_SWITCH_CONNECTIONS, why_not=why_not_own)
                )
                methods = control.methods(self, stop.set) | {
                    "highway/vms": lambda: json.dumps({"vms": self._machines.describe()}),
                    "highway/explain": partial(explain.answer, self),
                    "highway/detector": partial(explain.state, self),
                }
                serve_control = partial(control.serve, methods)
                ctl = paths.control_socket(rundir)
                own.append(Listener(ctl, serve_control, group, why_not=why_not_own))
                group.create_task(self._reconcile_forever(), name="reconcile")
                group.create_task(self._renew_leases(), name="lease")
                group.create_task(self._purger.run(), name="purge")
                group.create_task(self._fin_timeout.run(), name="fin_timeout")
                follower = Follower(self._config.ovs_rundir / "db.sock", self._take_snapshot)
                group.create_task(follower.run(), name="ovsdb")
                group.create_task(self._machines.run(), name="virtual machines")
                group.create_task(self.detection.run(), name="detector")
                if not region.fixed_length_available():
                    log.warning(
                        "this kernel (no Landlock of Linux 6.2) cannot keep VNFs from cutting their"
                        " regions short: docs/security.md"
                    )
                log.info(
                    "highwayd serves %s, regions ovs-highway-%s-*",
                    rundir,
                    self._tag,
                    extra=about("highwayd"),
                )
                await stop.wait()
                raise _Stop
        except* _Stop:
            pass
        finally:
            for listener in [*own, *self._listeners.values()]:
                listener.close()
            for port in list(self.ports.values()):
                port.region.close()
            for link in self._regions.values():
                link.close()
        log.info("highwayd ends; regions and links stay, traffic goes on", extra=about("highwayd"))

    # Ports -------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        for port in self.ports.adopt():
            try:
                self._listen(port.name)
            except ProtocolError as error:
                log.error("port %s: %s", port.name, error)
        found, problems = region.open_links(self._tag, writable=True)
        for problem in problems:
            log.warning("removed: %s", problem)
        for link in sorted(
            found, key=lambda link: (link.phase is not Phase.ACTIVE, -link.created_ns)
        ):
            self._regions[link.region_id] = link
            self.links.adopt(
                link_id=link.region_id,
                pair=link.names,
                port_ids=link.port_ids,
                phase=link.phase,
                now=self._now(),
            )
        known = {link.path for link in found}
        for files in region.region_paths(self._tag, "link").values():
            for path in files:
                if path not in known:
                    region.unlink_region(path)

    def _listen(self, name: str) -> None:
        if name not in self._listeners:
            path = paths.vnf_socket(name, self._config.rundir)
            _make_dir(path.parent)
            serve = partial(self._sessions.serve_vnf_socket, name)
            self._listeners[name] = Listener(
                path, serve, self._group, quota=self._quota, per_second=_CONNECTS
            )
        self._give(name)

    def _give(self, name: str) -> None:
        """Have a port's socket belong to whom the database says."""
        try:
            self._listeners[name].give(*self.ports.access(name).socket())
        except ProtocolError as error:
            if self._give_limit():
                log.error("port %s: %s", name, error)

    def _follow_access(self) -> None:
        """Have sockets belong to whom they now are for; who may not have a port any more is told.

        What a VNF has mapped cannot be taken back, but its links are.
        """
        for name in self._listeners:
            self._give(name)
        for port in self.ports.values():
            if (vnf := port.vnf) is None:
                continue
            if why := self.ports.access(port.name).why_not(vnf.channel.peer, vnf.token):
                log.warning(
                    "port %s: its VNF (pid %d) is cut off: %s; to take its region back, delete the"
                    " port and add it again",
                    port.name,
                    vnf.channel.pid,
                    why,
                    extra=about("vnf", port.name),
                )
                vnf.channel.close()

    def _say_gone(self, port: Port) -> None:
        """Tell the VNF of a deleted port; it has a while to let go of it."""
        if port.vnf is not None:
            ident = port.region.region_id
            port.vnf.channel.send(protocol.PortGone(port_id=ident, region_id=ident))
        self._group.create_task(self._retire_later(port), name=f"retire {port.name}")

    async def _retire_later(self, port: Port) -> None:
        await asyncio.sleep(_GONE_PAUSE)
        self._retire(port)

    def _retire(self, port: Port) -> None:
        """End the life of a deleted port: its VNF's connection, its socket, its region."""
        if self.ports.get(port.name) is not port:
            return
        if port.vnf is not None:
            port.vnf.channel.close()
            port.vnf = None
        if (listener := self._listeners.pop(port.name, None)) is not None:
            # The directory stays: a container may have it, and the port may come back.
            listener.close()
        self.ports.forget(port)
        self._news()

    def _vnf_gone(self, name: str) -> None:
        for link in self._regions.values():
            if name in link.names:
                link.end_gone(link.names.index(name))

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        self.ports.follow(snapshot)
        self._follow_access()
        self._purger.follow(snapshot)
        self.detection.follow(snapshot)
        self._news()

    def _follow_fin_timeout(self) -> None:
        self.ports.fin_timeout = self._fin_timeout.found
        for port in self.ports.values():
            self.ports.apply(port)

    def _guard(self) -> None:
        """Before regions are looked at: has somebody who maps one cut its file short?"""
        for port in self.ports.values():
            if port.region.guard():
                log.error(
                    "port %s: somebody who maps its region has cut it short; delete the port and"
                    " add it again",
                    port.name,
                    extra=about("port", port.name),
                )
        for link_id, link in self._regions.items():
            if link.guard():
                why = "one of its ends has cut its region short"
                log.error("link %s-%s: %s", *link.names, why, extra=about("link", *link.names))
                # An idle driver need not notice.
                self.links.fault(link_id, why, self._now())
                self._news()

    async def _renew_leases(self) -> None:
        while True:
            self._guard()
            self.ports.every_second()
            # Its time tells the `highway` command for how long highwayd has been away.
            with contextlib.suppress(OSError):
                os.utime(self._config.rundir / "highwayd.pid")
            await asyncio.sleep(1)

    # Links -------------------------------------------------------------------------------------

    def _news(self) -> None:
        self._dirty.set()

    def _news_soon(self) -> None:
        asyncio.get_running_loop().call_later(_POLL_BUSY, self._news)

    async def _reconcile_forever(self) -> None:
        while True:
            busy = any(port.vnf is not None for port in self.ports.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_BUSY if busy else _POLL_IDLE):
                    await self._dirty.wait()
            news = self._dirty.is_set()
            self._dirty.clear()
            try:
                self._tick(self._now(), news=news)
                self._watch_paths(self._now())
            except Exception:
                log.exception("reconciling failed; it goes on, please report it")
                await asyncio.sleep(1)

    def _tick(self, now: float, *, news: bool) -> None:
        self._guard()
        self.ports.check_grace(now)
        for port in self.ports.deleted(now):
            self._say_gone(port)
        if self._alone.follow(self.ports, self.ports.snapshot, now):
            self._news_soon()
        for port in self.ports.values():
            port.no_links, port.no_room = self._machines.limits(port)
        facts = self.ports.facts()
        due = now - self._last_round >= _RECONCILE_AT_LEAST
        if not (news or due or facts != self._last_facts or not self.links.settled):
            return
        self._last_facts, self._last_round = facts, now
        for _ in range(_MAX_ROUNDS):
            actions = self.links.reconcile(facts, now, self.detection.proofs)
            self._counting.follow(self.links.unchecked())
            if not actions:
                break
            for action in actions:
                self._carry_out(action, now)

    def _watch_paths(self, now: float) -> None:
        self._watch.look(self.ports, self._regions.values(), self.links.describe(now))

    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case Make():
                self._breakpoint.reach("asked", action.pair)
                self._make(action, now)
            case SetPhase(link_id=link_id, pair=pair, phase=phase, text=text):
                if phase is Phase.ACTIVE:
                    self._breakpoint.reach("both", pair)
                words = pair, phase.name.lower(), text
                _tell_link(*words)
                self._regions[link_id].phase = phase
                if phase is Phase.ACTIVE:
                    self._breakpoint.reach("switching", pair)
            case Unlink(link_id=link_id, pair=pair, text=text):
                self._breakpoint.reach("withdrawn", pair)
                _tell_link(pair, "removed", text)
                link = self._regions.pop(link_id)
                region.unlink_region(link.path)
                link.close()
            case Add() | Update() | Remove():
                self._tell(action)
                point = {Add: "one", Remove: "draining"}.get(type(action))
                if point is not None:
                    self._breakpoint.reach(point, self._regions[action.link_id].names)

    def _make(self, action: Make, now: float) -> None:
        # A VM's memory for links is used again while somebody may still read in a buffer.
        in_vm = any(self._machines.of_port(name) is not None for name in action.pair)
        try:
            link = LinkRegion.create(
                tag=self._tag,
                link_id=action.link_id,
                names=action.pair,
                port_ids=action.port_ids,
                n_queues=action.n_queues,
                ring_size=action.ring_size,
                buffers=(0, 0) if in_vm else action.buffers,
                flags=action.flags,
                dirs=self._machines.region_dirs(action.pair),
            )
        except RegionError as error:
            log.warning("link %s-%s: %s", *action.pair, error, extra=about("link", *action.pair))
            self.links.failed(action.link_id, str(error), now)
            return
        why = self._why(action.pair)
        _tell_link(action.pair, "region made", f"{why}; {link.path}, {link.size >> 10} KiB")
        self._regions[action.link_id] = link
        self.links.made(action.link_id, now)
        self._breakpoint.reach("made", action.pair)

    def _why(self, pair: Pair) -> str:
        """Return why there is to be a link."""
        proven = [
            way for way in (pair, pair[::-1]) if self.detection.proofs.peers.get(way[0]) == way[1]
        ]
        if not proven:
            return "a rule asks for it"
        return " and ".join(f"{sender} to {receiver} is p-2-p" for sender, receiver in proven)

    def _tell(self, action: Add | Update | Remove) -> None:
        port = self.ports.get(action.port)
        if port is None or port.vnf is None:
            return
        link = self._regions[action.link_id]
        kind = {
            Add: protocol.LinkAdd,
            Update: protocol.LinkUpdate,
            Remove: protocol.LinkRemove,
        }[type(action)]
        message = kind(
            port_id=port.region.region_id,
            link_id=action.link_id,
            size=link.size,
            peer_id=link.port_ids[1 - action.end],
            end=action.end,
            flags=shm.FREE if isinstance(action, Remove) else action.flags,
            peer_name=link.names[1 - action.end],
            text=action.text if isinstance(action, Remove) else "",
        )
        if isinstance(action, Update):
            link.set_flags(action.end, action.flags)
        if isinstance(message, protocol.LinkAdd):
            port.vnf.channel.hand_over(message, link)
        else:
            port.vnf.channel.send(message)


def _tell_link(pair: Pair, what: str, text: str) -> None:
    log.info("link %s-%s: %s: %s", *pair, what, text, extra=about("link", *pair, phase=what))


def _new_id() -> int:
    return random.SystemRandom().randrange(1, 1 << 64)


def _make_dir(path: Path) -> None:
    """Make a directory that others may pass; the sockets in it are protected by themselves.

    Raises:
        ProtocolError: it cannot be made.
    """
    try:
        paths.make_dir(path)
    except OSError as error:
        raise ProtocolError(f"cannot make {path}: {error.strerror}") from error
