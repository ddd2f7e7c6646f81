# SPDX-License-Identifier: Apache-2.0
"""The ports that highwayd knows: their regions, who is connected, what is wanted.

No sockets and no tasks here; `server` tells what happens on them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ovs_highway import region, shm
from ovs_highway.agent.access import Access, access
from ovs_highway.agent.actions import PortFacts
from ovs_highway.agent.policy import Terms, terms, why_port_off
from ovs_highway.errors import ProtocolError
from ovs_highway.events import about
from ovs_highway.limits import Bucket
from ovs_highway.log import LogLimit
from ovs_highway.shm import Off

if TYPE_CHECKING:
    from pathlib import Path

    from ovs_highway.agent.channel import Channel, VnfChannel
    from ovs_highway.ovsdb import Snapshot
    from ovs_highway.region import PortRegion

log = logging.getLogger(__name__)

_MAX_WANTS: Final = 4096
_COMINGS: Final = (0.5, 15.0)
"""How often a VNF may attach, and start, by itself: a second for long, and at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnf:
    """A connected VNF.

    Attributes:
        session: numbers the connections of this highwayd.
        token: what it has shown, to be let in.
        unfit: why it can have the normal channel only, None if it can have links.
        directed: it knows links with terms for each direction.
        external: it takes frames in the buffers of a link.
        counts: it counts by itself what it checks.
    """

    channel: VnfChannel
    session: int
    epoch: int
    driver: str
    token: bytes = b""
    unfit: str | None = None
    directed: bool = True
    external: bool = False
    counts: bool = True


@dataclass(slots=True)
class Limits:
    """What the VNFs of a port may have, one after the other: a new one has no more of it.

    Attributes:
        lines: of highwayd's log that they cause.
        slow: the line that says that they send too many messages.
        attaching, starting: which makes links come and go.
        was_started: the last start was let pass.
    """

    lines: LogLimit = field(default_factory=lambda: LogLimit(per_second=0.2))
    slow: LogLimit = field(default_factory=lambda: LogLimit(per_second=1 / 60, burst=1))
    attaching: Bucket = field(
        default_factory=lambda: Bucket(per_second=_COMINGS[0], burst=_COMINGS[1])
    )
    starting: Bucket = field(
        default_factory=lambda: Bucket(per_second=_COMINGS[0], burst=_COMINGS[1])
    )
    was_started: bool = False


@dataclass(slots=True)
class Port:
    """One port.

    Attributes:
        limits: of its VNFs.
        wants: rules in force by the peer's region id, as the switch last told.
        absent_since: since when neither switch nor database know the port; None while they do.
        deleted: on its way out: no links any more, its socket closes soon.
        no_links: why it may have no links just now, None if it may.
        no_room: why it can have no further link, None if it can.
        version: the ABI version that its switch's side speaks.
    """

    name: str
    region: PortRegion
    switch: Channel | None = None
    vnf: Vnf | None = None
    wants: dict[int, int] = field(default_factory=dict)
    absent_since: float | None = None
    deleted: bool = False
    no_links: str | None = None
    no_room: str | None = None
    limits: Limits = field(default_factory=Limits)
    version: int = 0

    def facts(self, terms: Terms | None) -> PortFacts:
        """Return what the link reconciler needs to know of this port now."""
        state = self.region.raw.vnf_state
        vnf = self.vnf
        # Until the VNF has attached, the region still tells of the life before.
        same = vnf is not None and int(state.epoch) == vnf.epoch
        forbidden = f"port {self.name} was deleted" if self.deleted else self.no_links
        if forbidden is None and vnf is not None:
            forbidden = vnf.unfit
        return PortFacts(
            name=self.name,
            region_id=self.region.region_id,
            n_queues=self.region.n_queues,
            ring_size=self.region.rings.size,
            switch=self.switch is not None,
            vnf=None if vnf is None else vnf.session,
            started=self._has_started(same and bool(state.attached) and bool(state.started)),
            wants=MappingProxyType(dict(self.wants)),
            forbidden=forbidden,
            no_room=self.no_room,
            terms=terms,
            directed=vnf is None or vnf.directed,
            buffer=shm.buffer_size(self._max_frame()) if vnf is not None and vnf.external else 0,
        )

    def _max_frame(self) -> int:
        return min(int(self.region.raw.switch_state.max_frame), shm.MAX_FRAME)

    def _has_started(self, says_so: bool) -> bool:
        """Tell whether a VNF that says so, in its region, is believed: it can change that word."""
        if says_so and not self.limits.was_started and not self.limits.starting():
            if self.limits.lines():
                log.warning(
                    "port %s: its VNF starts and stops too often; its links wait", self.name
                )
            return False
        self.limits.was_started = says_so
        return says_so

    def want(self, peer_id: int, rules: int) -> None:
        """Note how many rules towards a peer are in force."""
        if rules == 0:
            self.wants.pop(peer_id, None)
        elif len(self.wants) < _MAX_WANTS or peer_id in self.wants:
            self.wants[peer_id] = rules


class Ports(Mapping[str, Port]):
    """All ports of one run directory, by name.

    Args:
        tag: of the run directory, as in the names of region files.
        off_all: flag file of the kill switch for all ports.
        grace: seconds after the start in which drivers may come back before they count as dead.
        settle: seconds that a port has to be gone for before it counts as deleted; it spares a
            port that is added again at once.
    """

    def __init__(
        self, *, tag: str, off_all: Path, now: float, grace: float = 2.0, settle: float = 0.3
    ) -> None:
        self.tag = tag
        self._off_all = off_all
        self._grace_until: float | None = now + grace
        self._settle = settle
        self._ports: dict[str, Port] = {}
        self.snapshot: Snapshot | None = None
        self.fin_timeout: frozenset[str] = frozenset()
        self._terms: dict[str, Terms | None] = {}
        self._access: dict[str, Access] = {}

    def __getitem__(self, name: str) -> Port:
        return self._ports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def adopt(self) -> list[Port]:
        """Open the regions that are there already; return their ports."""
        found, problems = region.open_ports(self.tag, writable=True)
        for problem in problems:
            log.warning("ignored: %s", problem)
        for name, port_region in found.items():
            log.info(
                "port %s: adopted region %016x",
                name,
                port_region.region_id,
                extra=about("port", name),
            )
            self._ports[name] = Port(name, port_region)
            self.apply(self._ports[name])
        return list(self._ports.values())

    def attach(self, port_region: PortRegion, channel: Channel, version: int) -> Port:
        """The switch side has a port, known or new; return it with its region exchanged."""
        name = port_region.name
        port = self._ports.get(name)
        if port is None:
            port = self._ports[name] = Port(name, port_region)
            log.info(
                "port %s: added, region %016x",
                name,
                port_region.region_id,
                extra=about("port", name),
            )
        elif port.region.same_file(port_region):
            port_region.close()
            log.info("port %s: ovs-vswitchd is back", name, extra=about("port", name))
        else:
            log.info(
                "port %s: made anew, region %016x",
                name,
                port_region.region_id,
                extra=about("port", name),
            )
            port.region.close()
            port.region = port_region
        if port.switch is not None:
            port.switch.close()
        port.switch, port.version, port.absent_since = channel, version, None
        port.wants.clear()
        if not port.region.linked:
            log.warning("port %s: its region has no file any more; delete and add the port", name)
        self.apply(port)
        return port

    def detach_switch(self, port: Port, channel: Channel) -> None:
        """The switch side of a port is not connected any more; `alone` sees what that means."""
        if port.switch is channel:
            port.switch = None

    def detach_vnf(self, port: Port, vnf: Vnf) -> None:
        """The VNF of a port is gone."""
        if port.vnf is vnf:
            port.vnf = None
            port.region.vnf_died()
            log.info("port %s: the VNF has gone", port.name, extra=about("vnf", port.name))

    def apply(self, port: Port) -> None:
        """Write the kill switch and what the database says into a port's region."""
        if port.region.set_operator(Off.ALL, off=self._off_all.exists()):
            log.info(
                "port %s: kill switch for all ports applied",
                port.name,
                extra=about("policy", port.name),
            )
        if (snapshot := self.snapshot) is None:
            return
        reason = self.why_off(port.name)
        if port.region.set_policy(
            reason, tx_flush_us=snapshot.tx_flush_us, standalone=snapshot.standalone
        ):
            log.info(
                "port %s: policy: %s",
                port.name,
                f"off, {reason}" if reason else "on",
                extra=about("policy", port.name),
            )

    def follow(self, snapshot: Snapshot) -> None:
        """Take over a new state of the database."""
        self.snapshot = snapshot
        self._terms = {name: terms(snapshot, name) for name in snapshot.ports}
        found = {name: access(one.external_ids) for name, one in snapshot.ports.items()}
        for name, one in found.items():
            if one.problem and one != self._access.get(name):
                log.error("port %s: %s", name, one.problem)
        self._access = found
        for port in self._ports.values():
            self.apply(port)

    def access(self, name: str) -> Access:
        """Return who may attach to a port; highwayd's own user as long as that is not known."""
        return self._access.get(name) or Access()

    def why_off(self, name: str) -> str | None:
        """Return why policy wants the bypass of a port off, None if it does not."""
        if self.snapshot is None:
            return None
        return why_port_off(self.snapshot, name, self.fin_timeout)

    def switches(self) -> list[Channel]:
        """Return the channels to the switch's side of all ports that it has now."""
        return [port.switch for port in self._ports.values() if port.switch is not None]

    def wanted_by(self, port: Port) -> list[str]:
        """Return the ports to which a port has rules."""
        return [peer.name for peer in self._ports.values() if peer.region.region_id in port.wants]

    def terms(self, name: str) -> Terms | None:
        """Return on which terms a port may have links, None if that is not known."""
        return self._terms.get(name)

    def every_second(self) -> None:
        """Renew the leases, and set right what others may have changed."""
        for port in self._ports.values():
            port.region.renew_lease()
            self.apply(port)

    def check_grace(self, now: float) -> None:
        """Once after the start: who has not come back is dead."""
        if self._grace_until is None or now < self._grace_until:
            return
        self._grace_until = None
        for port in self._ports.values():
            if port.vnf is None and port.region.vnf_died():
                log.info(
                    "port %s: its VNF did not come back", port.name, extra=about("vnf", port.name)
                )

    def deleted(self, now: float) -> list[Port]:
        """Remove the regions of ports that neither switch nor database have; return these ports.

        The memory goes when all have unmapped it. Without a database that can be reached,
        nothing is deleted.
        """
        found = []
        for port in self._ports.values():
            known = self.snapshot is None or not self.snapshot.connected
            known = known or (self.snapshot is not None and port.name in self.snapshot.ports)
            if port.deleted or known or port.switch is not None or self._grace_until is not None:
                port.absent_since = None
                continue
            if port.absent_since is None:
                port.absent_since = now
            if now - port.absent_since >= self._settle and port.region.lock():
                port.deleted = True
                self._unlink(port)
                found.append(port)
        return found

    def _unlink(self, port: Port) -> None:
        if (path := region.file_of(port.region)) is not None:
            region.unlink_region(path)
        log.info("port %s: deleted", port.name, extra=about("port", port.name))

    def forget(self, port: Port) -> None:
        """Drop a port and unmap its region."""
        if self._ports.get(port.name) is port:
            del self._ports[port.name]
        port.region.close()

    def facts(self) -> dict[str, PortFacts]:
        """Return what the link reconciler needs to know of all ports now."""
        return {name: port.facts(self._terms.get(name)) for name, port in self._ports.items()}


def check_abi(version: int, oldest: int, who: str) -> int:
    """Return the ABI version to speak with a driver.

    Raises:
        ProtocolError: there is none that both know.
    """
    common = min(version, shm.ABI_VERSION)
    if oldest > version or common < max(oldest, shm.ABI_OLDEST):
        raise ProtocolError(
            f"{who} speaks ABI {oldest} to {version}, highwayd {shm.ABI_OLDEST} to "
            f"{shm.ABI_VERSION}; install the same release on both sides"
        )
    return common
