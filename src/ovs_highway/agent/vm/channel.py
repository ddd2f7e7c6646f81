# SPDX-License-Identifier: Apache-2.0
"""The control channel of a VM, which its ports share, and each port's part of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

from ovs_highway import protocol
from ovs_highway.agent.channel import Pace
from ovs_highway.errors import VmError
from ovs_highway.shm import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.protocol import LinkAdd, Message
    from ovs_highway.region import LinkRegion

_READ: Final = 65536
_MAX_WAITING: Final = 4096
_MAX_UNSENT: Final = 1 << 20


class PortChannel:
    """What `Channel` is to a VNF with a socket of its own: one port's messages.

    Attributes:
        pid: of the program in the guest, as it says.
        region_id: under which the guest knows the port.
        fds: none: regions are plugged in.
    """

    may_repeat_hello: Final = True

    def __init__(
        self,
        hello: protocol.Hello,
        send: Callable[[Message], None],
        plug: Callable[[LinkAdd, LinkRegion], None],
    ) -> None:
        self.name = hello.name
        self.pid = hello.pid
        self.epoch = hello.epoch
        self.region_id = hello.port_id
        self.fds: list[int] = []
        self.closed = False
        self._send = send
        self._plug = plug
        self._inbox: deque[Message] = deque()
        self._news = asyncio.Event()
        self.deliver(hello)

    def deliver(self, message: Message) -> None:
        """Put a message from the guest where `receive` finds it."""
        if len(self._inbox) >= _MAX_WAITING:
            self.close()
        else:
            self._inbox.append(message)
        self._news.set()

    async def receive(self) -> Message | None:
        """Return the next message; None at the end."""
        while not self._inbox:
            if self.closed:
                return None
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft()

    def send(self, message: Message, *, fd: int | None = None) -> None:
        """Send a message; a descriptor cannot go along, and need not."""
        if not self.closed:
            self._send(message)

    def hand_over(self, message: LinkAdd, link: LinkRegion) -> None:
        """Plug a link's region in, then send the message."""
        self._plug(message, link)

    def close(self) -> None:
        """End this port's part; `receive` then returns None."""
        self.closed = True
        self._news.set()


class VmChannel:
    """The host's end of a VM's virtio-serial port: a unix socket of QEMU's.

    The guest's end may be anybody's. What is no message is skipped, since half a message of an
    earlier program may stand before the first one; messages that come too fast are read slowly.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._writer: asyncio.StreamWriter | None = None
        self._sequence = 0
        self._pace = Pace()

    async def run(self, path: str, take: Callable[[Message], None]) -> None:
        """Connect to a socket and take messages until it is closed.

        Raises:
            VmError: there is no such socket.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise VmError(f"VM {self._name}: no control channel at {path}") from error
        self._writer = writer
        decoder = protocol.Decoder()
        try:
            # Whoever is there greets anew: what was said to an earlier highwayd is lost.
            self.send(protocol.Welcome(status=Status.LATER, text="highwayd is new here"))
            while data := await reader.read(_READ):
                for message in decoder.feed(data):
                    await self._pace.keep()
                    take(message)
        except OSError:
            pass
        finally:
            self._writer = None
            writer.close()

    def send(self, message: Message) -> None:
        """Send a message; a guest that does not read loses what comes, and is greeted anew."""
        if self._writer is None:
            return
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT:
            self.close()
            return
        self._sequence += 1
        with contextlib.suppress(OSError):
            self._writer.write(protocol.encode(message, sequence=self._sequence))

    def close(self) -> None:
        """End the connection; `run` then returns."""
        if self._writer is not None:
            self._writer.close()
