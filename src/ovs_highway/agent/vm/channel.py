# SPDX-License-Identifier: Apache-2.0
"""The control channel of a VM, which its ports share, and each port's part of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from ovs_highway import protocol, shm
from ovs_highway.agent.channel import Pace
from ovs_highway.errors import VmError
from ovs_highway.log import LogLimit
from ovs_highway.shm import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.protocol import LinkAdd, Message
    from ovs_highway.region import LinkRegion

log = logging.getLogger(__name__)

_READ: Final = 4096
_RATE: Final = 2000.0
_MAX_WAITING: Final = 1024
_MAX_UNSENT: Final = 1 << 20


class PortChannel:
    """What `Channel` is to a VNF with a socket of its own: one port's messages.

    Attributes:
        pid: of the program in the guest, as it says.
        peer: None: it is in a guest.
        pace: of the VM's messages, which all of its ports share.
        region_id: under which the guest knows the port.
        fds: none: regions are plugged in.
    """

    may_repeat_hello: Final = True
    peer: Final = None

    def __init__(
        self,
        hello: protocol.Hello,
        pace: Pace,
        send: Callable[[Message], None],
        plug: Callable[[LinkAdd, LinkRegion], None],
    ) -> None:
        self.name = hello.name
        self.pace = pace
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
    earlier program may stand before the first one; what comes too fast is read slowly, whether it
    is messages or not.

    Attributes:
        pace: of what comes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._writer: asyncio.StreamWriter | None = None
        self._sequence = 0
        self.pace = Pace(_RATE)
        self._slow_limit = LogLimit(per_second=1 / 60, burst=1)

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
                tried, messages = decoder.tried, decoder.feed(data)
                # Noise costs as much as the messages that it could have been.
                await self.pace.keep(max(len(data) / shm.MSG_LEN, decoder.tried - tried))
                if self.pace.exceeded and self._slow_limit():
                    rate = self.pace.per_second
                    text = "VM %s: its guest sends more than %.0f messages a second; they wait"
                    log.warning(text, self._name, rate)
                self.pace.exceeded = False
                for message in messages:
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
