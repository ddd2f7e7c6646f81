# SPDX-License-Identifier: Apache-2.0
"""Listening unix sockets whose connections are tasks of one group."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import HighwayError, ProtocolError
from ovs_highway.log import LogLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

log = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 16
_ACCEPT_PAUSE: Final = 0.01


class Listener:
    """A unix stream socket, mode 0600; `serve` is run for each connection, which it owns.

    An error in one connection is a log line and ends that connection only.
    """

    def __init__(
        self,
        path: Path,
        serve: Callable[[socket.socket], Awaitable[None]],
        group: asyncio.TaskGroup,
        *,
        limit: int = _MAX_CONNECTIONS,
    ) -> None:
        """Listen on `path`; what is there from an earlier life is replaced.

        Raises:
            ProtocolError: the path is too long for a socket, or cannot be made.
        """
        self.path = path
        self._serve = serve
        self._group = group
        self._limit = limit
        self._connections = 0
        self._log_limit = LogLimit()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            self._sock.bind(str(path))
            path.chmod(0o600)
            self._sock.listen(64)
        except OSError as error:
            self._sock.close()
            raise ProtocolError(f"cannot listen on {path}: {error}") from error
        self._task = group.create_task(self._accept(), name=f"accept {path}")

    def close(self) -> None:
        """Stop listening and remove the socket; connections go on."""
        self._task.cancel()
        self._sock.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                if self._log_limit():
                    log.warning("%s: cannot accept a connection: %s", self.path, error)
                await asyncio.sleep(0.1)
                continue
            if self._connections >= self._limit:
                if self._log_limit():
                    log.warning("%s: more than %d connections", self.path, self._limit)
                sock.close()
            else:
                self._connections += 1
                self._group.create_task(self._guard(sock), name=f"connection {self.path}")
            await asyncio.sleep(_ACCEPT_PAUSE)

    async def _guard(self, sock: socket.socket) -> None:
        try:
            await self._serve(sock)
        except HighwayError as error:
            if self._log_limit():
                log.warning("%s", error)
        except Exception:
            log.exception("%s: a connection ended with an error; please report it", self.path)
        finally:
            self._connections -= 1
            sock.close()
