# SPDX-License-Identifier: Apache-2.0
"""The control protocol between highwayd and drivers, without any I/O.

Messages are 256 bytes (`struct highway_msg`), the same on unix sockets and on virtio-serial. On a
stream a receiver that finds a wrong magic or checksum looks for the next magic, so a cut-off
message costs only itself. docs/control-protocol.md tells who sends what, and when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from ovs_highway import shm
from ovs_highway.shm import CData, LinkFlag, Role, Stats, Status, ffi

_MAGIC: Final = shm.MSG_MAGIC.to_bytes(4, "little")
_CHECKSUM: Final = ffi.offsetof("struct highway_msg", "checksum")


def checksum(frame: bytes) -> int:
    """Return the FNV-1a 32 hash of a message, its checksum field taken as 0."""
    value = 0x811C9DC5
    for byte in frame[:_CHECKSUM] + b"\0\0\0\0" + frame[_CHECKSUM + 4 :]:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What every message carries; `port_id` is the port's region id, 0 if not known."""

    TYPE: ClassVar[int] = 0
    port_id: int = 0

    def _write(self, body: CData) -> None:
        """Fill in the body."""

    @classmethod
    def _read(cls, port_id: int, body: CData) -> Message:
        """Return the message that a body stands for.

        Raises:
            ValueError: the body holds a value that cannot be.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """Driver: who it is; beside it the port's region if the role is SWITCH.

    Attributes:
        external: a VNF that takes frames in the buffers of a link.
        token: what a VNF shows to be let in.
    """

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_HELLO")
    role: Role
    abi_version: int = shm.ABI_VERSION
    abi_oldest: int = shm.ABI_OLDEST
    pid: int = 0
    epoch: int = 0
    name: str = ""
    driver: str = ""
    external: bool = False
    token: bytes = b""

    def _write(self, body: CData) -> None:
        hello = body.hello
        token = self.token[: len(hello.token)]
        ffi.buffer(hello.token)[0 : len(token)] = token
        hello.flags = shm.HELLO_EXTERNAL if self.external else 0
        hello.role, hello.pid, hello.epoch = int(self.role), self.pid, self.epoch
        hello.abi_version, hello.abi_oldest = self.abi_version, self.abi_oldest
        _put(hello.name, self.name)
        _put(hello.driver, self.driver)

    @classmethod
    def _read(cls, port_id: int, body: CData) -> Hello:
        hello = body.hello
        return cls(
            port_id=port_id,
            role=Role(hello.role),
            abi_version=int(hello.abi_version),
            abi_oldest=int(hello.abi_oldest),
            pid=int(hello.pid),
            epoch=int(hello.epoch),
            name=_get(hello.name),
            driver=_get(hello.driver),
            external=bool(hello.flags & shm.HELLO_EXTERNAL),
            token=bytes(ffi.buffer(hello.token)).rstrip(b"\0"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """highwayd: accepted, or not with a reason in `text`."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_WELCOME")
    status: Status
    abi_version: int = shm.ABI_VERSION
    text: str = ""

    def _write(self, body: CData) -> None:
        body.welcome.status, body.welcome.abi_version = int(self.status), self.abi_version
        _put(body.welcome.text, self.text)

    @classmethod
    def _read(cls, port_id: int, body: CData) -> Welcome:
        return cls(
            port_id=port_id,
            status=Status(body.welcome.status),
            abi_version=int(body.welcome.abi_version),
            text=_get(body.welcome.text),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _RegionMessage(Message):
    region_id: int
    size: int = 0

    def _write(self, body: CData) -> None:
        body.region.region_id, body.region.size = self.region_id, self.size

    @classmethod
    def _read(cls, port_id: int, body: CData) -> _RegionMessage:
        region = body.region
        return cls(port_id=port_id, region_id=int(region.region_id), size=int(region.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRegion(_RegionMessage):
    """highwayd to VNF: its port's region, which travels beside the message."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_PORT_REGION")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortGone(_RegionMessage):
    """highwayd to VNF: the port was deleted."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_PORT_GONE")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkMessage(Message):
    """What all messages about a link carry.

    Attributes:
        end: which end the VNF is.
        flags: what it must heed, or does; in LINK_ADD, LINK_ADDED and LINK_UPDATE.
    """

    link_id: int
    size: int = 0
    peer_id: int = 0
    end: int = 0
    flags: LinkFlag = shm.FREE
    status: Status = Status.OK
    peer_name: str = ""
    text: str = ""

    def _write(self, body: CData) -> None:
        link = body.link
        link.link_id, link.size, link.peer_id = self.link_id, self.size, self.peer_id
        link.end, link.status = self.end, int(self.status)
        link.flags = int(self.flags)
        _put(link.peer_name, self.peer_name)
        _put(link.text, self.text)

    @classmethod
    def _read(cls, port_id: int, body: CData) -> LinkMessage:
        link = body.link
        return cls(
            port_id=port_id,
            link_id=int(link.link_id),
            size=int(link.size),
            peer_id=int(link.peer_id),
            end=int(link.end),
            flags=LinkFlag.read(int(link.flags), shm.ABI_VERSION),
            status=Status(link.status),
            peer_name=_get(link.peer_name),
            text=_get(link.text),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAdd(LinkMessage):
    """highwayd to VNF: attach this link, whose region travels beside the message."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_LINK_ADD")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAdded(LinkMessage):
    """VNF: attached, or not with a reason in `text`; also after every HELLO."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_LINK_ADDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUpdate(LinkMessage):
    """highwayd to VNF: look at the link's phase, and heed these flags."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_LINK_UPDATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRemove(LinkMessage):
    """highwayd to VNF: leave, drain and unmap the link; `text` says why."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_LINK_REMOVE")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRemoved(LinkMessage):
    """VNF: no longer mapped; unasked: closed by itself, `text` says why."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_LINK_REMOVED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Want(Message):
    """Switch: how many rules towards a peer are in force; 0: none any more."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_WANT")
    peer_id: int
    rules: int

    def _write(self, body: CData) -> None:
        body.want.peer_id, body.want.rules = self.peer_id, self.rules

    @classmethod
    def _read(cls, port_id: int, body: CData) -> Want:
        want = body.want
        return cls(port_id=port_id, peer_id=int(want.peer_id), rules=int(want.rules))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PurgeMessage(Message):
    token: int

    def _write(self, body: CData) -> None:
        body.want.token = self.token

    @classmethod
    def _read(cls, port_id: int, body: CData) -> _PurgeMessage:
        return cls(port_id=port_id, token=int(body.want.token))


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge(_PurgeMessage):
    """Switch: let OVS learn its flows anew. highwayd: hold the port, and ask for that."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_PURGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged(_PurgeMessage):
    """highwayd: the purge with this token is over."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_PURGED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Message):
    """Driver: a line for highwayd's log; `level` as in rte_log.h, 4 = error to 8 = debug."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_LOG")
    level: int
    text: str

    def _write(self, body: CData) -> None:
        body.log.level = self.level
        _put(body.log.text, self.text)

    @classmethod
    def _read(cls, port_id: int, body: CData) -> Log:
        return cls(port_id=port_id, level=int(body.log.level), text=_get(body.log.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch(Message):
    """Switch: what the ends of a link have counted cannot both be true.

    Attributes:
        sender_id, receiver_id: region ids of their ports.
        sent, received: packets and bytes since the comparison began.
    """

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_MISMATCH")
    link_id: int
    sender_id: int
    receiver_id: int
    sent: tuple[int, int] = (0, 0)
    received: tuple[int, int] = (0, 0)

    def _write(self, body: CData) -> None:
        found = body.mismatch
        found.link_id, found.sender_id, found.receiver_id = (
            self.link_id,
            self.sender_id,
            self.receiver_id,
        )
        found.sent_packets, found.sent_bytes = self.sent
        found.received_packets, found.received_bytes = self.received

    @classmethod
    def _read(cls, port_id: int, body: CData) -> Mismatch:
        found = body.mismatch
        return cls(
            port_id=port_id,
            link_id=int(found.link_id),
            sender_id=int(found.sender_id),
            receiver_id=int(found.receiver_id),
            sent=(int(found.sent_packets), int(found.sent_bytes)),
            received=(int(found.received_packets), int(found.received_bytes)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoCounts(Message):
    """highwayd to switch: whose counters become statistics of what is sent to its port.

    Attributes:
        sender_id: region id of the sender's port; 0: all others, and what was said of a sender
            before the last WELCOME, and not since, is over.
    """

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_STATS")
    source: Stats
    sender_id: int = 0

    def _write(self, body: CData) -> None:
        body.stats.source, body.stats.sender_id = int(self.source), self.sender_id

    @classmethod
    def _read(cls, port_id: int, body: CData) -> WhoCounts:
        told = body.stats
        return cls(port_id=port_id, source=Stats(told.source), sender_id=int(told.sender_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class PortReleased(_RegionMessage):
    """VNF in a VM: its port has nothing mapped any more; answers PORT_GONE, or by itself."""

    TYPE: ClassVar[int] = shm.constant("HIGHWAY_MSG_PORT_RELEASED")


_TYPES: Final[dict[int, type[Message]]] = {
    kind.TYPE: kind
    for kind in (
        Hello,
        Welcome,
        PortRegion,
        PortGone,
        LinkAdd,
        LinkAdded,
        LinkUpdate,
        LinkRemove,
        LinkRemoved,
        Want,
        Purge,
        Purged,
        Log,
        PortReleased,
        Mismatch,
        WhoCounts,
    )
}


def _put(field: CData, text: str) -> None:
    raw = shm.text_bytes(text, len(field))
    ffi.buffer(field)[0 : len(raw)] = raw


def _get(field: CData) -> str:
    raw = bytes(ffi.buffer(field))
    if b"\0" not in raw:
        raise ValueError("a text without its end")
    return shm.clean(raw)


def encode(message: Message, *, sequence: int = 0) -> bytes:
    """Return the 256 bytes of a message; texts that are too long are cut."""
    raw: CData = ffi.new("struct highway_msg *")
    raw.magic, raw.version, raw.type = shm.MSG_MAGIC, shm.ABI_VERSION, message.TYPE
    raw.length, raw.port_id = shm.MSG_LEN, message.port_id
    raw.sequence = sequence & 0xFFFFFFFF
    message._write(raw.body)
    raw.checksum = checksum(bytes(ffi.buffer(raw)))
    return bytes(ffi.buffer(raw))


class Decoder:
    """Turns a stream of bytes into messages; never raises, whatever the bytes are.

    Args:
        strict: nothing behind the first byte that belongs to no message is looked at.

    Attributes:
        tried: checksums computed, which is what decoding costs.
        skipped: bytes that belonged to no message.
        malformed: whole messages with a type, version or value that cannot be.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._rest = b""
        self.tried = 0
        self.skipped = 0
        self.malformed = 0

    @property
    def pending(self) -> bool:
        """A message has begun and is not complete."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes as they come; return the messages that are complete now."""
        self._rest += data
        messages = []
        while (frame := self._next_frame()) is not None:
            message = self._parse(frame)
            if message is None:
                self.malformed += 1
            else:
                messages.append(message)
        return messages

    def _next_frame(self) -> bytes | None:
        """Take the next frame with a right magic and checksum, or None if there is none yet."""
        while True:
            if self._strict and self.skipped:
                self._rest = b""
                return None
            start = self._rest.find(_MAGIC)
            if start < 0:
                keep = next((n for n in (3, 2, 1) if self._rest.endswith(_MAGIC[:n])), 0)
                start = len(self._rest) - keep
                self._skip(start)
                return None
            self._skip(start)
            if len(self._rest) < shm.MSG_LEN:
                return None
            frame = self._rest[: shm.MSG_LEN]
            if self._sound(frame):
                self._rest = self._rest[shm.MSG_LEN :]
                return frame
            self._skip(1)

    def _skip(self, count: int) -> None:
        self.skipped += count
        self._rest = self._rest[count:]

    def _sound(self, frame: bytes) -> bool:
        raw: CData = ffi.from_buffer("struct highway_msg *", frame)
        if int(raw.length) != shm.MSG_LEN:
            return False
        self.tried += 1
        return int(raw.checksum) == checksum(frame)

    @staticmethod
    def _parse(frame: bytes) -> Message | None:
        raw: CData = ffi.from_buffer("struct highway_msg *", frame)
        kind = _TYPES.get(int(raw.type))
        if kind is None:
            return None
        try:
            message = kind._read(int(raw.port_id), raw.body)
        except ValueError:
            return None
        if isinstance(message, LinkMessage):
            flags = LinkFlag.read(int(message.flags), int(raw.version))
            return replace(message, flags=flags)
        return message
