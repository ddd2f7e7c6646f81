# SPDX-License-Identifier: Apache-2.0
"""Control messages as highwayd takes them out of a stream.

Real messages with bytes changed, sealed anew or not, other bytes between them, cut anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ovs_highway import protocol, shm
from ovs_highway.shm import LinkFlag, Role, Status

from .taker import Taker

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINK: Final = {"link_id": 21, "size": 1 << 21, "peer_id": 12, "peer_name": "b"}
EXAMPLES: Final = (
    protocol.Hello(port_id=11, role=Role.VNF, pid=7, epoch=9, name="a", driver="d"),
    protocol.Hello(port_id=11, role=Role.SWITCH, epoch=9, name="a"),
    protocol.Welcome(port_id=11, status=Status.REFUSED, text="why"),
    protocol.PortRegion(port_id=11, region_id=11, size=1 << 21),
    protocol.PortGone(port_id=11, region_id=11),
    protocol.LinkAdd(port_id=11, flags=LinkFlag.CHECKED, **_LINK),  # type: ignore[arg-type]
    protocol.LinkAdded(port_id=11, status=Status.LATER, text="no", **_LINK),  # type: ignore[arg-type]
    protocol.LinkUpdate(port_id=11, **_LINK),  # type: ignore[arg-type]
    protocol.LinkRemove(port_id=11, **_LINK),  # type: ignore[arg-type]
    protocol.LinkRemoved(port_id=11, text="gone", **_LINK),  # type: ignore[arg-type]
    protocol.Want(port_id=11, peer_id=12, rules=3),
    protocol.Purge(port_id=11, token=5),
    protocol.Purged(port_id=11, token=5),
    protocol.Log(port_id=11, level=6, text="line"),
    protocol.PortReleased(port_id=11, region_id=11),
    protocol.Mismatch(port_id=11, link_id=21, sender_id=11, receiver_id=12, sent=(3, 180)),
)
_CHECKSUM: Final = shm.ffi.offsetof("struct highway_msg", "checksum")


def seal(frame: bytes) -> bytes:
    """Return a message with its checksum right."""
    value = protocol.checksum(frame).to_bytes(4, "little")
    return frame[:_CHECKSUM] + value + frame[_CHECKSUM + 4 :]


def changed(take: Taker) -> bytes:
    """Return one of the examples with some bytes of its body or its head changed."""
    how = take.number()
    frame = protocol.encode(EXAMPLES[how % len(EXAMPLES)], sequence=1)
    for _ in range(take.number() % 4):
        at = _CHECKSUM + 4 + take.number() % (shm.MSG_LEN - _CHECKSUM - 12)
        new = take.bytes(8) if take.number() & 1 else take.bytes(1) * take.number()
        new = new[: shm.MSG_LEN - at]
        frame = frame[:at] + new + frame[at + len(new) :]
    if how & 0x40:
        at, new = 4 + take.number() % 4, take.bytes(1)
        frame = frame[:at] + new + frame[at + len(new) :]
    return frame if how & 0x80 else seal(frame)


def stream(take: Taker) -> tuple[bytes, int]:
    """Return a stream of messages, and how many of them are sealed."""
    parts: list[bytes] = []
    sealed = 0
    while take.rest and len(parts) < 12:
        kind = take.number()
        if kind < 0xC0:
            frame = changed(take)
            sealed += seal(frame) == frame
            parts.append(frame)
        elif kind < 0xE0:
            parts.append(take.bytes(kind & 31))
        else:
            parts.append(b"HWYM"[: 1 + (kind & 3)])
    return b"".join(parts), sealed


def one_input(data: bytes) -> None:
    """Nothing raises; every sealed message is taken, as one or as malformed; cuts do not matter."""
    take = Taker(data)
    step = 1 + take.number() * 2
    raw, sealed = stream(take)
    whole, pieces = protocol.Decoder(), protocol.Decoder()
    messages = whole.feed(raw)
    assert len(messages) + whole.malformed >= sealed
    found = []
    for at in range(0, len(raw), step):
        found += pieces.feed(raw[at : at + step])
    assert found == messages
    assert (pieces.skipped, pieces.malformed) == (whole.skipped, whole.malformed)
    assert whole.skipped + (len(messages) + whole.malformed) * shm.MSG_LEN <= len(raw)
    for message in messages:
        # What replaces characters that cannot be may be longer, so texts can be cut once.
        (once,) = protocol.Decoder().feed(protocol.encode(message))
        assert type(once) is type(message)
        assert protocol.Decoder().feed(protocol.encode(once)) == [once]


def seeds() -> Iterable[bytes]:
    """Each kind of message alone, and some together."""
    yield from (bytes([60, 0, kind, 0]) for kind in range(len(EXAMPLES)))
    yield bytes([3, 0, 0, 0, 0xC4, 1, 2, 3, 4, 0xE3, 0, 1, 1, 40, *range(8)])
