# SPDX-License-Identifier: Apache-2.0
"""Who may attach to a port: what the database says, against what the kernel says of a peer.

`external_ids` of the port's Interface: `highway-user` and `highway-group`, names or numbers, and
`highway-token-sha256`, the hash of a secret that the VNF has to know. Without the first two a port
is for highwayd's own user, and root. What cannot be understood lets nobody in.
"""

from __future__ import annotations

import array
import contextlib
import grp
import hashlib
import hmac
import os
import pwd
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

USER: Final = "highway-user"
GROUP: Final = "highway-group"
TOKEN: Final = "highway-token-sha256"

_SO_PEERGROUPS: Final = 59
_NO_ID: Final = (1 << 32) - 1  # what chown() takes for "leave it"
_MAX_GROUPS: Final = 256  # what Python's getsockopt() takes
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_known: dict[tuple[str, str], int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A process at the other end of a socket, as it was when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(sock: socket.socket) -> Peer:
    """Return who is at the other end of a unix socket."""
    form = "3i"
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    pid, uid, gid = struct.unpack(form, raw)
    groups = array.array("I")
    with contextlib.suppress(OSError):  # he has more groups than that: only the first one counts
        groups.frombytes(
            sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS * groups.itemsize)
        )
    return Peer(pid=pid, uid=uid, groups=frozenset({gid, *groups}))


def why_not_own(peer: Peer) -> str | None:
    """Return why somebody may not use a socket for highwayd's own user, None if he may."""
    if peer.uid in {0, os.geteuid()}:
        return None
    return f"it is for uid {os.geteuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may attach to a port.

    Attributes:
        uid, gid: whom it is for; both None: for highwayd's own user.
        token: SHA-256 of what a VNF has to show, in hexadecimal digits; empty: nothing.
        problem: what in the database makes no sense: nobody may attach.
    """

    uid: int | None = None
    gid: int | None = None
    token: str = ""
    problem: str = ""

    def socket(self) -> tuple[int, int, int]:
        """Return owner, group and mode of the port's socket."""
        own = (os.geteuid(), os.getegid())
        if self.problem:
            return *own, 0o600
        uid = own[0] if self.uid is None else self.uid
        return (uid, own[1], 0o600) if self.gid is None else (uid, self.gid, 0o660)

    def why_not(self, peer: Peer | None, token: bytes) -> str | None:
        """Return why a VNF may not attach, None if it may.

        Args:
            peer: None for a guest, whose ports the file of its virtual machine names.
        """
        if self.problem:
            return self.problem
        if peer is not None and (why := self._why_not_peer(peer)) is not None:
            return why
        if self.token and not hmac.compare_digest(hashlib.sha256(token).hexdigest(), self.token):
            return f"{'no' if not token else 'a wrong'} token: {TOKEN} is set; see token-file"
        return None

    def _why_not_peer(self, peer: Peer) -> str | None:
        if self.uid is None and self.gid is None:
            why = why_not_own(peer)
            return why and f"uid {peer.uid} may not: without {USER} and {GROUP} {why}"
        if peer.uid == self.uid or self.gid in peer.groups:
            return None
        names = [f"{USER} {self.uid}"] if self.uid is not None else []
        names += [f"{GROUP} {self.gid}"] if self.gid is not None else []
        return f"uid {peer.uid} may not: it is for {' and '.join(names)}"


def access(ids: Mapping[str, str]) -> Access:
    """Return who may attach to a port whose Interface has these `external_ids`."""
    try:
        token = ids.get(TOKEN, "").lower()
        if TOKEN in ids and not _SHA256.fullmatch(token):
            raise ValueError(f"{TOKEN} is not 64 hexadecimal digits, as sha256sum prints them")
        return Access(uid=_number(ids, USER), gid=_number(ids, GROUP), token=token)
    except ValueError as error:
        return Access(problem=f"external_ids: {error}; nobody may attach")


def _number(ids: Mapping[str, str], key: str) -> int | None:
    """Return the user's or group's number.

    Raises:
        ValueError: there is none of that name.
    """
    name = ids.get(key)
    if name is None:
        return None
    if name.isascii() and name.isdigit() and int(name) < _NO_ID:
        return int(name)
    if (key, name) not in _known:
        try:
            found = pwd.getpwnam(name).pw_uid if key == USER else grp.getgrnam(name).gr_gid
        except (KeyError, ValueError):
            raise ValueError(f"{key}={name} is unknown here") from None
        _known[key, name] = found
    return _known[key, name]
