# SPDX-License-Identifier: Apache-2.0
"""What is said on one connection, by a switch side or by a VNF."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway import protocol, shm
from ovs_highway.agent.channel import VNF_RATE, Channel
from ovs_highway.agent.ports import Port, Ports, Vnf, check_abi
from ovs_highway.errors import ProtocolError, RegionError
from ovs_highway.events import about
from ovs_highway.log import LogLimit
from ovs_highway.region import PortRegion
from ovs_highway.shm import Role, Status

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from ovs_highway.agent.channel import VnfChannel
    from ovs_highway.agent.links import Links
    from ovs_highway.protocol import Hello, Message

log = logging.getLogger(__name__)

HELLO_TIMEOUT: Final = 5.0
"""Seconds that a new connection has to say who it is."""

_MAX_REFUSED: Final = 255
_REFUSED_PAUSE: Final = 60.0

_LOG_LEVELS: Final = {5: logging.WARNING, 6: logging.INFO, 7: logging.INFO, 8: logging.DEBUG}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What sessions ask of highwayd.

    Attributes:
        news: something changed that links may depend on.
        listen: make a port's socket if there is none.
        retire: end the life of a port that was deleted a moment ago.
        vnf_gone: the VNF of this port has gone; its links' other ends need not wait for it.
        purge: let OVS learn its flows anew, then answer with this token.
    """

    news: Callable[[], None]
    listen: Callable[[str], None]
    retire: Callable[[Port], None]
    vnf_gone: Callable[[str], None]
    purge: Callable[[Channel, int], None]


class Sessions:
    """Serves the connections of both roles."""

    def __init__(self, ports: Ports, links: Links, hooks: Hooks) -> None:
        self._ports = ports
        self._links = links
        self._hooks = hooks
        self._numbers = itertools.count(1)
        self._refusals = LogLimit()
        self._refused: dict[str, float] = {}

    async def serve_switch(self, sock: socket.socket) -> None:
        """Serve one connection to switch.sock, for the life of a port's switch side.

        Raises:
            ProtocolError: the peer broke the protocol.
        """
        channel = Channel(sock)
        try:
            hello = await _hello(channel, Role.SWITCH)
            if hello is None:
                return
            who = f"port {hello.name}: ovs-vswitchd (pid {channel.pid})"
            try:
                version, port = self._attach(channel, hello, who)
            except (ProtocolError, RegionError) as error:
                self._refuse(channel, hello, Status.REFUSED, str(error), self._refusals)
                return
            welcome = protocol.Welcome(
                port_id=port.region.region_id, status=Status.OK, abi_version=version
            )
            channel.send(welcome)
            with _until_gone(lambda: self._ports.detach_switch(port, channel), self._hooks.news):
                await self._listen_to_switch(channel, port, who)
        finally:
            channel.close()

    def _attach(self, channel: Channel, hello: Hello, who: str) -> tuple[int, Port]:
        fds, channel.fds = channel.fds, []
        region: PortRegion | None = None
        try:
            version = check_abi(hello.abi_version, hello.abi_oldest, who)
            if not shm.valid_port_name(hello.name):
                raise ProtocolError("a port name has letters, digits, '_', '-' and '.' only")
            if len(fds) != 1:
                raise ProtocolError(f"{who} sent {len(fds)} regions with its HELLO, not one")
            region = PortRegion.open_again(fds[0], what=f"the region of port {hello.name}")
            if region.name != hello.name or region.tag != self._ports.tag:
                raise RegionError(
                    f"the region of port {hello.name} belongs to port {region.name} of run "
                    f"directory {region.tag}; set HIGHWAY_RUNDIR the same on both sides"
                )
            old = self._ports.get(hello.name)
            if old is not None and old.deleted:
                self._hooks.retire(old)
                old = None
            before = old.region.region_id if old is not None else 0
            self._hooks.listen(hello.name)
            port = self._ports.attach(region, channel, version)
        except (ProtocolError, RegionError):
            if region is not None:
                region.close()
            raise
        finally:
            for fd in fds:
                os.close(fd)
        if port.vnf is not None and port.region.region_id != before:
            _send_region(port, port.vnf.channel)
        self._hooks.news()
        return version, port

    async def _listen_to_switch(self, channel: Channel, port: Port, who: str) -> None:
        limit = LogLimit()
        while (message := await channel.receive()) is not None:
            _no_fds(channel, who)
            match message:
                case protocol.Want(peer_id=peer_id, rules=rules):
                    port.want(peer_id, rules)
                    self._hooks.news()
                case protocol.Purge(token=token):
                    log.info("%s asks for a purge", who)
                    self._hooks.purge(channel, token)
                case protocol.Mismatch():
                    self._close_mismatched(port, message)
                case protocol.Log():
                    _log(message, who, limit)
                case _:
                    raise _unexpected(message, who)

    def _close_mismatched(self, port: Port, found: protocol.Mismatch) -> None:
        """Close a link whose ends count differently; nobody knows which one is wrong."""
        ends = [end for end in self._links.ends(found.link_id) if end != port.name]
        if len(ends) != 1:
            return
        text = (
            f"{ends[0]} counts {found.sent[0]} packets ({found.sent[1]} bytes) sent to {port.name},"
            f" which counts {found.received[0]} ({found.received[1]}) received"
        )
        log.warning("link %s-%s: %s", ends[0], port.name, text, extra=about("link", port.name))
        self._links.fault(found.link_id, text, asyncio.get_running_loop().time())
        self._hooks.news()

    async def serve_vnf_socket(self, name: str, sock: socket.socket) -> None:
        """Serve one connection to the socket of port `name`, for the life of a VNF.

        Raises:
            ProtocolError: the peer broke the protocol.
        """
        await self.serve_vnf(name, Channel(sock, VNF_RATE))

    async def serve_vnf(self, name: str, channel: VnfChannel) -> None:
        """Serve one connection of a VNF that is to be at port `name`, and close it.

        Raises:
            ProtocolError: the peer broke the protocol.
        """
        try:
            hello = await _hello(channel, Role.VNF)
            if hello is None:
                return
            who = f"port {name}: VNF (pid {channel.pid})"
            _no_fds(channel, who)
            port = self._ports.get(name)
            if port is None or port.deleted:
                text = f"port {name} was deleted"
                self._refuse(channel, hello, Status.LATER, text, self._refusals)
                return
            try:
                version, unfit = _fit(port, hello, who)
                if hello.name != name:
                    raise ProtocolError(f"this is the socket of port {name}, not of {hello.name}")
            except ProtocolError as error:
                self._refuse(channel, hello, Status.REFUSED, str(error), port.limits.lines)
                return
            if why := self._ports.access(name).why_not(channel.peer, hello.token):
                self._refuse(channel, hello, Status.REFUSED, f"{who}: {why}", port.limits.lines)
                return
            if port.vnf is not None:
                text = f"port {name} is already in use by pid {port.vnf.channel.pid}"
                self._refuse(channel, hello, Status.LATER, text, port.limits.lines)
                return
            if not port.limits.attaching():
                text = f"port {name}: its VNFs come and go too often; this one has to wait"
                self._refuse(channel, hello, Status.LATER, text, port.limits.lines)
                return
            vnf = Vnf(
                channel=channel,
                session=next(self._numbers),
                epoch=hello.epoch,
                driver=hello.driver,
                token=hello.token,
                unfit=unfit,
                directed=version >= shm.ABI_DIRECTED,
                external=hello.external,
                counts=version >= shm.ABI_COUNTED,
            )
            port.vnf = vnf
            log.info(
                "%s attached, %s", who, hello.driver or "driver not named", extra=about("vnf", name)
            )
            if unfit is not None:
                log.warning("no links: %s", unfit, extra=about("vnf", name))
            welcome = protocol.Welcome(
                port_id=port.region.region_id,
                status=Status.OK,
                abi_version=version,
                text=unfit or "",
            )
            channel.send(welcome)
            _send_region(port, channel)
            self._hooks.news()
            with _until_gone(
                lambda: self._ports.detach_vnf(port, vnf),
                lambda: self._hooks.vnf_gone(name),
                self._hooks.news,
            ):
                await self._listen_to_vnf(channel, port, vnf, who, welcome)
        finally:
            channel.close()

    async def _listen_to_vnf(
        self, channel: VnfChannel, port: Port, vnf: Vnf, who: str, welcome: protocol.Welcome
    ) -> None:
        limit = port.limits.lines
        now = asyncio.get_running_loop().time
        while (message := await channel.receive()) is not None:
            _no_fds(channel, who)
            if channel.pace.exceeded and port.limits.slow():
                rate = channel.pace.per_second
                log.warning("%s sends more than %.0f messages a second; they wait", who, rate)
            channel.pace.exceeded = False
            match message:
                case protocol.Hello(epoch=vnf.epoch) if channel.may_repeat_hello:
                    channel.send(welcome)
                    _send_region(port, channel)
                case protocol.LinkAdded(link_id=link_id, status=status, text=text, flags=flags):
                    ok = status is Status.OK
                    if ok and text and limit():
                        log.info(
                            "%s has link %016x: %s",
                            who,
                            link_id,
                            text,
                            extra=about("link", port.name),
                        )
                    if not ok and limit():
                        log.warning(
                            "%s refused link %016x: %s",
                            who,
                            link_id,
                            text,
                            extra=about("link", port.name),
                        )
                    known = self._links.added(
                        port.name,
                        vnf.session,
                        link_id,
                        ok=ok,
                        text=text,
                        now=now(),
                        flags=flags,
                    )
                    if not known:
                        channel.send(
                            protocol.LinkRemove(
                                port_id=port.region.region_id,
                                link_id=link_id,
                                text="highwayd does not know this link",
                            )
                        )
                    self._hooks.news()
                case protocol.LinkRemoved(link_id=link_id, status=status, text=text):
                    ok = status is Status.OK
                    if not ok and limit():
                        log.warning(
                            "%s closed link %016x: %s",
                            who,
                            link_id,
                            text,
                            extra=about("link", port.name),
                        )
                    self._links.removed(
                        port.name, vnf.session, link_id, ok=ok, text=text, now=now()
                    )
                    self._hooks.news()
                case protocol.Log():
                    _log(message, who, limit)
                case _:
                    raise _unexpected(message, who)

    def _refuse(
        self, channel: VnfChannel, hello: Hello, status: Status, text: str, limit: LogLimit
    ) -> None:
        # Drivers that were refused try again, up to ten times a second.
        now = asyncio.get_running_loop().time()
        if now - self._refused.get(text, -_REFUSED_PAUSE) >= _REFUSED_PAUSE and limit():
            log.warning("refused: %s", text)
            self._refused = {**dict([*self._refused.items()][-_MAX_REFUSED:]), text: now}
        channel.send(protocol.Welcome(port_id=hello.port_id, status=status, text=text))


@contextlib.contextmanager
def _until_gone(*then: Callable[[], None]) -> Iterator[None]:
    """Call `then` when the peer has gone; not when highwayd ends, for then all stays as it is."""
    try:
        yield
    except asyncio.CancelledError:
        raise
    except BaseException:
        for step in then:
            step()
        raise
    else:
        for step in then:
            step()


def _fit(port: Port, hello: Hello, who: str) -> tuple[int, str | None]:
    """Return the ABI version to speak with a VNF, and why it can have no links, None if it can.

    Raises:
        ProtocolError: it cannot even use the port's region.
    """
    try:
        return check_abi(hello.abi_version, hello.abi_oldest, who), None
    except ProtocolError as error:
        header = port.region.raw.header
        if not (
            int(header.abi_oldest) <= hello.abi_version
            and hello.abi_oldest <= int(header.abi_version)
        ):
            raise
        return hello.abi_version, str(error)


async def _hello(channel: VnfChannel, role: Role) -> Hello | None:
    """Return the greeting, or None if the peer went away before it.

    Raises:
        ProtocolError: something else came, or nothing in time.
    """
    who = f"pid {channel.pid}"
    try:
        async with asyncio.timeout(HELLO_TIMEOUT):
            message = await channel.receive()
    except TimeoutError as error:
        raise ProtocolError(f"{who} did not say who it is; connection closed") from error
    except ProtocolError as error:
        raise ProtocolError(f"{who} {error}") from error
    if message is None:
        return None
    if not isinstance(message, protocol.Hello):
        raise _unexpected(message, who)
    if message.role is not role:
        channel.send(
            protocol.Welcome(
                status=Status.REFUSED, text=f"this socket is for role {role.name.lower()}"
            )
        )
        raise ProtocolError(f"{who} came to the wrong socket: role {message.role.name.lower()}")
    return message


def _send_region(port: Port, channel: VnfChannel) -> None:
    channel.send(
        protocol.PortRegion(
            port_id=port.region.region_id,
            region_id=port.region.region_id,
            size=port.region.size,
        ),
        fd=port.region.fd,
    )


def _no_fds(channel: VnfChannel, who: str) -> None:
    if channel.fds:
        raise ProtocolError(f"{who} sent a file descriptor that nobody asked for")


def _unexpected(message: Message, who: str) -> ProtocolError:
    return ProtocolError(f"{who} sent {type(message).__name__}, which it never should")


def _log(message: protocol.Log, who: str, limit: LogLimit) -> None:
    if limit():
        log.log(_LOG_LEVELS.get(message.level, logging.ERROR), "%s: %s", who, message.text)
