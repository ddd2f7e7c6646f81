# SPDX-License-Identifier: Apache-2.0
"""Listening unix sockets whose connections are tasks of one group."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Final

from ovs_highway.agent.access import Peer, peer_of
from ovs_highway.errors import HighwayError, ProtocolError
from ovs_highway.limits import Bucket
from ovs_highway.log import LogLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ovs_highway.limits import Quota

log = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 16
_ACCEPT_PAUSE: Final = 0.01
_OWN_MODE: Final = 0o600


class Listener:
    """A unix stream socket; `serve` is run for each connection, which it owns.

    At first it is for highwayd's own user: mode 0600. An error in one connection is a log line and
    ends that connection only.

    Args:
        limit: connections at a time; further ones are closed at once.
        quota: connections at a time that each user may have to all sockets which share it.
        per_second: connections, for long; further ones wait.
        why_not: returns why a process may not connect, None if it may.
    """

    def __init__(
        self,
        path: Path,
        serve: Callable[[socket.socket], Awaitable[None]],
        group: asyncio.TaskGroup,
        *,
        limit: int = _MAX_CONNECTIONS,
        quota: Quota | None = None,
        per_second: float | None = None,
        why_not: Callable[[Peer], str | None] = lambda _: None,
    ) -> None:
        """Listen on `path`; what is there from an earlier life is replaced.

        Raises:
            ProtocolError: the path is too long for a socket, or cannot be made.
        """
        self.path = path
        self._serve = serve
        self._group = group
        self._limit = limit
        self._quota = quota
        self._rate = Bucket(per_second=per_second, burst=4 * per_second) if per_second else None
        self._why_not = why_not
        self._connections = 0
        self._log_limit = LogLimit(per_second=0.2, burst=10)
        self._away_limit = LogLimit(per_second=1 / 60, burst=3)
        self._pace_limit = LogLimit(per_second=1 / 60, burst=1)
        self._given = (os.geteuid(), os.getegid(), _OWN_MODE)
        self._knock = asyncio.Event()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            self._sock.bind(str(path))
            path.chmod(_OWN_MODE)
            self._sock.listen(64)
        except OSError as error:
            self._sock.close()
            raise ProtocolError(f"cannot listen on {path}: {error}") from error
        self._task = group.create_task(self._accept(), name=f"accept {path}")

    def give(self, uid: int, gid: int, mode: int) -> None:
        """Have the socket owned by a user and group; never open for more than these in between.

        Raises:
            ProtocolError: there is no permission for that; the socket is highwayd's own then.
        """
        if self._given == (uid, gid, mode):
            return
        own = (os.geteuid(), os.getegid())
        try:
            # Only an owner may change modes.
            os.chown(self.path, *own, follow_symlinks=False)
            self.path.chmod(_OWN_MODE)
            self._given = (*own, _OWN_MODE)
            if mode != _OWN_MODE:
                os.chown(self.path, -1, gid, follow_symlinks=False)
                self.path.chmod(mode)
            os.chown(self.path, uid, gid, follow_symlinks=False)
            self._given = (uid, gid, mode)
        except OSError as error:
            raise ProtocolError(
                f"cannot give {self.path} to uid {uid}, gid {gid}: {error.strerror}; highwayd needs"
                " CAP_CHOWN"
            ) from error

    def close(self) -> None:
        """Stop listening and remove the socket; connections go on."""
        self._task.cancel()
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    async def _somebody_knocks(self) -> None:
        """Wait until there is a connection to accept.

        `loop.sock_accept` would fail in the event loop's own code when `close` comes just then.
        """
        self._knock.clear()
        asyncio.get_running_loop().add_reader(self._sock, self._knocked)
        await self._knock.wait()

    def _knocked(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._knock.set()

    async def _accept(self) -> None:
        while True:
            await self._somebody_knocks()
            try:
                sock, _ = self._sock.accept()
                sock.setblocking(False)
            except BlockingIOError:
                continue
            except OSError as error:
                if self._log_limit():
                    log.warning("%s: cannot accept a connection: %s", self.path, error)
                await asyncio.sleep(0.1)
                continue
            peer = peer_of(sock)
            if (why := self._why_turned_away(peer)) is None:
                self._connections += 1
                self._group.create_task(self._guard(sock, peer), name=f"connection {self.path}")
            else:
                if self._away_limit():
                    text = "%s: pid %d of uid %d is turned away: %s"
                    log.warning(text, self.path, peer.pid, peer.uid, why)
                sock.close()
            if self._rate is not None and (wait := self._rate.owe()):
                if self._pace_limit():
                    text = "%s: too many connections come, they wait; the last is pid %d's"
                    log.warning(text, self.path, peer.pid)
                await asyncio.sleep(wait)
            await asyncio.sleep(_ACCEPT_PAUSE)

    def _why_turned_away(self, peer: Peer) -> str | None:
        """Return why a connection is not served; None if it is, and then it counts."""
        if (why := self._why_not(peer)) is not None:
            return why
        if self._connections >= self._limit:
            return f"there are {self._limit} connections already"
        if self._quota is not None and not self._quota.take(peer.uid):
            return f"this user has {self._quota.limit} connections already"
        return None

    async def _guard(self, sock: socket.socket, peer: Peer) -> None:
        try:
            await self._serve(sock)
        except HighwayError as error:
            if self._log_limit():
                log.warning("%s", error)
        except Exception:
            log.exception("%s: a connection ended with an error; please report it", self.path)
        finally:
            self._connections -= 1
            if self._quota is not None:
                self._quota.give(peer.uid)
            sock.close()
