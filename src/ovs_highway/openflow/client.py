# SPDX-License-Identifier: Apache-2.0
"""Follows a bridge for ever: the connection of a `Session`, made again whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import CommandError, ProtocolError
from ovs_highway.log import LogLimit
from ovs_highway.openflow.model import Event, Restart
from ovs_highway.openflow.session import VERSIONS, Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

READ_SIZE: Final = 256 << 10
POLL: Final = 1.0
"""Seconds between two questions how fragments are handled."""
DEAD: Final = 30.0
"""Seconds without a byte, after which a connection is given up."""
CONNECT: Final = 10.0
BACKOFF: Final = 0.1
"""Seconds between the first attempts to connect; between later ones it is longer."""
SLOWEST: Final = {"unix": 1.0, "tcp": 8.0, "ssl": 8.0}
_OPENFLOW_PORT: Final = 6653


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files (PEM) for a target that begins with `ssl:`, as ovs-ofctl's options name them."""

    private_key: Path
    certificate: Path
    ca_cert: Path

    def context(self) -> ssl.SSLContext:
        """Return the settings of a connection; like OVS, it does not look at host names.

        Raises:
            OSError: a file cannot be read, or is not what it should be.
        """
        context = ssl.create_default_context(cafile=str(self.ca_cert))
        context.check_hostname = False
        context.load_cert_chain(self.certificate, self.private_key)
        return context


class Client:
    """Tells what happens at a bridge, in batches, as long as `run` runs.

    `target` is `unix:FILE`, `tcp:HOST[:PORT]` or `ssl:HOST[:PORT]`. Each call of `deliver` has a
    list of events that is not empty. When a connection ends, the last is a `Restart`.

    Raises:
        CommandError: the target is malformed, or `ssl:` without certificates.
    """

    def __init__(
        self,
        target: str,
        deliver: Callable[[list[Event]], None],
        *,
        versions: tuple[int, ...] = VERSIONS,
        certificates: Certificates | None = None,
    ) -> None:
        self.target = target
        self._deliver = deliver
        self._versions = versions
        self._certificates = certificates
        self._kind, self._host, self._port = parse_target(target)
        if self._kind == "ssl" and certificates is None:
            raise CommandError(f"{target} needs a private key, a certificate and a CA certificate")
        self._limit = LogLimit(per_second=0.1, burst=5)

    async def run(self) -> None:
        """Connect and follow, again and again, until cancelled."""
        delay = BACKOFF
        while True:
            session = Session(self._versions)
            why = await self._once(session)
            if session.version is not None:
                self._deliver([Restart(missed=True, why=why)])
            if session.synced:
                delay = BACKOFF
            if self._limit():
                log.warning("%s: %s; trying again in %.1f s", self.target, why, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, SLOWEST[self._kind])

    async def _once(self, session: Session) -> str:
        """Follow one connection to its end; return why it ended."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT):
                reader, writer = await self._connect()
            await self._follow(session, reader, writer)
        except TimeoutError:
            return "it does not answer"
        except (OSError, ProtocolError) as error:
            return str(error)
        finally:
            if writer is not None:
                writer.transport.abort()
        return "the switch closed the connection"

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._kind == "unix":
            return await asyncio.open_unix_connection(self._host, limit=READ_SIZE)
        context = None
        if self._kind == "ssl" and self._certificates is not None:
            context = self._certificates.context()
        return await asyncio.open_connection(self._host, self._port, ssl=context, limit=READ_SIZE)

    async def _follow(
        self, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read until the switch closes the connection.

        Raises:
            TimeoutError: it says nothing, or takes nothing, for too long.
            OSError: the connection breaks.
            ProtocolError: see `Session`.
        """
        clock = asyncio.get_running_loop().time
        heard = polled = clock()
        while True:
            out, data = b"", None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    data = await reader.read(READ_SIZE)
            now = clock()
            if data == b"":
                return
            if data is not None:
                heard = now
                events, out = session.receive(data)
                if events:
                    self._deliver(events)
                await asyncio.sleep(0)  # a large table comes in without a pause
            elif now - heard > DEAD:
                raise TimeoutError
            if now - polled >= POLL:
                polled = now
                out += session.poll()
            if out:
                writer.write(out)
                async with asyncio.timeout(DEAD):
                    await writer.drain()


def parse_target(target: str) -> tuple[str, str, int]:
    """Return the kind of a target, its file or host, and its port.

    Raises:
        CommandError: it is malformed.
    """
    kind, _, rest = target.partition(":")
    if kind == "unix" and rest:
        return kind, rest, 0
    if kind in ("tcp", "ssl") and rest:
        if rest.startswith("["):
            host, _, port = rest[1:].partition("]")
            port = port.removeprefix(":")
        else:
            host, _, port = rest.partition(":")
        if host and (not port or (port.isascii() and port.isdigit() and int(port) < 1 << 16)):
            return kind, host, int(port or _OPENFLOW_PORT)
    raise CommandError(f"{target!r} is not unix:FILE, tcp:HOST[:PORT] or ssl:HOST[:PORT]")
