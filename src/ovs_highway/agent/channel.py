# SPDX-License-Identifier: Apache-2.0
"""A VNF's or a switch side's control connection: messages, and regions beside them."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from ovs_highway import protocol
from ovs_highway.agent.access import Peer, peer_of
from ovs_highway.errors import ProtocolError
from ovs_highway.limits import Bucket

if TYPE_CHECKING:
    from ovs_highway.protocol import LinkAdd, Message
    from ovs_highway.region import LinkRegion

_READ: Final = 4096
_MAX_QUEUED: Final = 4096
_MAX_FDS: Final = 1
_UNFINISHED: Final = 5.0


class Pace:
    """Slows down what comes faster than so many messages a second, for long.

    Attributes:
        exceeded: it had to; for the one who logs it to clear.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.exceeded = False
        self._bucket = Bucket(per_second=per_second, burst=2 * per_second)

    async def keep(self, cost: float = 1.0) -> None:
        """Account for one message, or what costs as much; wait if there were too many."""
        if wait := self._bucket.owe(cost):
            self.exceeded = True
            await asyncio.sleep(wait)


SWITCH_RATE: Final = 4000.0
"""Messages a second that one connection of a switch's port may send for long."""
VNF_RATE: Final = 500.0
"""The same for a VNF, which has no more to say than a few words on each of its links."""


class VnfChannel(Protocol):
    """What a VNF's session needs of its connection, whatever that is made of.

    Attributes:
        pid: of the VNF.
        peer: the process, None for a guest's.
        pace: of its messages.
        fds: file descriptors that came and were not taken yet.
        may_repeat_hello: an answer can get lost, so the same HELLO may come again.
    """

    pid: int
    pace: Pace
    fds: list[int]

    @property
    def peer(self) -> Peer | None:
        """See above."""

    @property
    def may_repeat_hello(self) -> bool:
        """See above."""

    async def receive(self) -> Message | None:
        """Return the next message; None at the end of the connection."""

    def send(self, message: Message, *, fd: int | None = None) -> None:
        """Queue a message, with a file descriptor where there can be one."""

    def hand_over(self, message: LinkAdd, link: LinkRegion) -> None:
        """Give the VNF a link's region, and tell it so."""

    def close(self) -> None:
        """Close the connection; `receive` then returns None."""


class Channel:
    """One connection to a driver over a unix stream socket; regions go as file descriptors.

    A peer that sends what is no message, does not end one that it has begun, or does not read, is
    cut off; one that sends too fast is read more slowly.

    Attributes:
        pid: the peer's process id as the kernel knows it.
        peer: the peer.
        pace: of its messages.
        fds: file descriptors that came and were not taken yet; closed with the channel.
    """

    may_repeat_hello: Final = False

    def __init__(self, sock: socket.socket, per_second: float = SWITCH_RATE) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._decoder = protocol.Decoder(strict=True)
        self._inbox: deque[Message] = deque()
        self._outbox: deque[tuple[bytes, int | None]] = deque()
        self._readable: asyncio.Future[None] | None = None
        self._sequence = 0
        self._begun: float | None = None
        self.pace = Pace(per_second)
        self.fds: list[int] = []
        self.closed = False
        self.peer = peer_of(sock)
        self.pid = self.peer.pid

    async def receive(self) -> Message | None:
        """Return the next message; None at the end of the connection.

        Raises:
            ProtocolError: the peer sent something else than messages, or a part of one.
        """
        while not self.closed:
            if self._inbox:
                await self.pace.keep()
                return self._inbox.popleft()
            try:
                data = self._read()
            except BlockingIOError:
                await self._wait_readable()
                continue
            except OSError:
                break
            if not data:
                break
            self._inbox += (messages := self._decoder.feed(data))
            if not self._decoder.pending:
                self._begun = None
            elif messages or self._begun is None:
                self._begun = self._loop.time()
            if self._decoder.skipped or self._decoder.malformed:
                raise ProtocolError("sent bytes that are no control message; connection closed")
        return None

    def _read(self) -> bytes:
        room = socket.CMSG_LEN(_MAX_FDS * array.array("i").itemsize)
        data, ancillary, flags, _ = self._sock.recvmsg(_READ, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self.fds += fds
        if len(self.fds) > _MAX_FDS or flags & socket.MSG_CTRUNC:
            raise ProtocolError("sent more file descriptors than any message has")
        return data

    async def _wait_readable(self) -> None:
        self._readable = self._loop.create_future()
        self._loop.add_reader(self._sock, self._wake)
        until = None if self._begun is None else self._begun + _UNFINISHED
        try:
            async with asyncio.timeout_at(until):
                await self._readable
        except TimeoutError as error:
            text = f"did not end a message within {_UNFINISHED:.0f} s; connection closed"
            raise ProtocolError(text) from error
        finally:
            if not self.closed:
                self._loop.remove_reader(self._sock)

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def send(self, message: Message, *, fd: int | None = None) -> None:
        """Queue a message, with a file descriptor if there is one; a closed channel drops it."""
        if self.closed:
            return
        self._sequence += 1
        raw = protocol.encode(message, sequence=self._sequence)
        # The caller may close its descriptor before this one is sent.
        try:
            self._outbox.append((raw, os.dup(fd) if fd is not None else None))
        except OSError:  # no descriptors left: the driver will come again
            self.close()
            return
        if len(self._outbox) > _MAX_QUEUED:
            self.close()
        elif len(self._outbox) == 1:
            self._flush()

    def hand_over(self, message: LinkAdd, link: LinkRegion) -> None:
        """Send a link's region beside the message."""
        self.send(message, fd=link.fd)

    def _flush(self) -> None:
        while self._outbox:
            raw, fd = self._outbox[0]
            try:
                if fd is None:
                    sent = self._sock.send(raw)
                else:
                    sent = socket.send_fds(self._sock, [raw], [fd])
                    os.close(fd)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self.close()
                return
            if sent < len(raw):
                self._outbox[0] = (raw[sent:], None)
            else:
                self._outbox.popleft()
        self._loop.remove_writer(self._sock)

    def close(self) -> None:
        """Close the connection; `receive` then returns None."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self.closed = True
        self._wake()
        self._sock.close()
        for fd in [*self.fds, *(fd for _, fd in self._outbox if fd is not None)]:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.fds.clear()
        self._outbox.clear()
