# SPDX-License-Identifier: Apache-2.0
"""The control protocol with cut, glued, hostile and random bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway import protocol, shm
from ovs_highway.protocol import Decoder, Message, encode
from ovs_highway.shm import CData, LinkFlag, Role, Stats, Status, ffi

MESSAGES: list[Message] = [
    protocol.Hello(
        role=Role.SWITCH, name="vnf1", epoch=1 << 63, pid=7, driver="net_highway", port_id=5
    ),
    protocol.Welcome(status=Status.REFUSED, text="no"),
    protocol.PortRegion(region_id=3, size=1 << 24),
    protocol.PortGone(region_id=3),
    protocol.LinkAdd(
        link_id=9, size=1 << 21, peer_id=4, end=1, flags=LinkFlag.NO_SEND, peer_name="vnf2"
    ),
    protocol.LinkAdded(link_id=9, status=Status.LATER, text="no memory"),
    protocol.LinkUpdate(link_id=9),
    protocol.LinkRemove(link_id=9, text="gone"),
    protocol.LinkRemoved(link_id=9),
    protocol.Want(peer_id=4, rules=2),
    protocol.Purge(token=11),
    protocol.Purged(token=11),
    protocol.Log(level=4, text="hm"),
    protocol.PortReleased(port_id=5, region_id=5),
    protocol.Mismatch(link_id=9, sender_id=1, receiver_id=2, sent=(3, 4), received=(5, 6)),
    protocol.WhoCounts(sender_id=7, source=Stats.RECEIVER),
]

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(0, (1 << 32) - 1),
    "tuple[int, int]": st.tuples(*[st.integers(0, (1 << 64) - 1)] * 2),
    "end": st.integers(0, 1),
    "bool": st.booleans(),
    "str": st.text(st.characters(exclude_categories=("C", "Z")), max_size=15),
    "bytes": st.binary(max_size=64).map(lambda token: token.rstrip(b"\0")),
    "Role": st.sampled_from(Role),
    "Stats": st.sampled_from(Stats),
    "Status": st.sampled_from(Status),
    "LinkFlag": st.integers(0, 7).map(LinkFlag),
}


@st.composite
def any_message(draw: st.DrawFn) -> Message:
    kind = type(draw(st.sampled_from(MESSAGES)))
    return kind(
        **{
            f.name: draw(_VALUES["end" if f.name == "end" else str(f.type)])
            for f in dataclasses.fields(kind)
        }
    )


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_way_there(message: Message) -> None:
    raw = encode(message)
    assert len(raw) == shm.MSG_LEN
    decoder = Decoder()
    assert decoder.feed(raw) == [message]
    assert (decoder.skipped, decoder.malformed) == (0, 0)


def test_every_type_of_the_header_is_known() -> None:
    types = ffi.typeof("enum highway_msg_type").relements.values()
    assert sorted(message.TYPE for message in MESSAGES) == sorted(types)


@given(st.lists(any_message(), max_size=6), st.lists(st.integers(1, 700)))
def test_messages_arrive_whatever_way_the_stream_is_cut(
    messages: list[Message], cuts: list[int]
) -> None:
    stream = b"".join(map(encode, messages))
    decoder, found = Decoder(), []
    for cut in [*cuts, len(stream)]:
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert found == messages
    assert decoder.skipped == 0


@given(st.binary(max_size=2000))
def test_random_bytes_give_no_message_and_no_error(data: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(data) == []
    assert decoder.skipped <= len(data)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.integers(1, 255).map(lambda n: encode(MESSAGES[0])[:n]),
            st.just(shm.MSG_MAGIC.to_bytes(4, "little")),
        ),
        max_size=5,
    ),
    any_message(),
)
def test_a_whole_message_behind_garbage_is_found(garbage: list[bytes], message: Message) -> None:
    decoder = Decoder()
    found = decoder.feed(b"".join(garbage)) + decoder.feed(encode(message))
    # Garbage may end in the beginning of a message, which the next one then completes to nothing.
    found += decoder.feed(encode(message))
    assert message in found
    assert decoder.malformed == 0


@given(any_message(), st.integers(0, shm.MSG_LEN - 1), st.integers(1, 255))
def test_one_changed_byte_costs_only_its_message(message: Message, at: int, change: int) -> None:
    raw = bytearray(encode(message))
    raw[at] ^= change
    decoder = Decoder()
    assert decoder.feed(bytes(raw) + encode(message)) == [message]
    assert decoder.skipped > 0


def seal(raw: Any) -> bytes:  # noqa: ANN401  # a cffi struct
    raw.checksum = protocol.checksum(bytes(ffi.buffer(raw)))
    return bytes(ffi.buffer(raw))


def opened(message: Message) -> Any:  # noqa: ANN401  # a cffi struct
    raw = ffi.new("struct highway_msg *")
    ffi.buffer(raw)[:] = encode(message)
    return raw


def test_values_that_cannot_be_are_counted_and_dropped() -> None:
    decoder = Decoder()
    raw = opened(MESSAGES[0])
    raw.type = 999
    assert decoder.feed(seal(raw)) == []
    raw = opened(MESSAGES[0])
    raw.body.hello.role = 77
    assert decoder.feed(seal(raw)) == []
    raw = opened(MESSAGES[1])
    ffi.buffer(raw.body.welcome.text)[:] = b"x" * 128
    assert decoder.feed(seal(raw)) == []
    assert decoder.malformed == 3
    assert decoder.feed(encode(MESSAGES[2])) == [MESSAGES[2]]


@pytest.mark.parametrize("version", [0, 1, 99])
def test_messages_of_any_version_are_understood(version: int) -> None:
    for message in MESSAGES:
        raw = opened(message)
        raw.version = version
        assert Decoder().feed(seal(raw)) == [message]


def test_texts_are_cut_at_a_character_and_cleaned() -> None:
    (message,) = Decoder().feed(encode(protocol.Log(level=4, text="a" * 214 + "é")))
    assert message == protocol.Log(level=4, text="a" * 214)
    (message,) = Decoder().feed(encode(protocol.Log(level=4, text="a\n\x1b[31mb")))
    assert message == protocol.Log(level=4, text="a??[31mb")


def test_checksum_is_fnv_1a() -> None:
    assert protocol.checksum(bytes(256)) != 0
    # Of nothing but zeros FNV-1a 32 is offset * prime^256.
    assert protocol.checksum(bytes(256)) == 0x811C9DC5 * pow(0x01000193, 256, 1 << 32) % (1 << 32)


@pytest.mark.parametrize(
    ("version", "told", "meant"),
    [
        (shm.ABI_DIRECTED - 1, LinkFlag.CHECKED, LinkFlag.CHECKED | LinkFlag.PEER_CHECKS),
        (shm.ABI_DIRECTED - 1, shm.FREE, shm.FREE),
        (shm.ABI_DIRECTED, LinkFlag.CHECKED, LinkFlag.CHECKED),
    ],
)
def test_checked_was_for_both_directions_once(
    version: int, told: LinkFlag, meant: LinkFlag
) -> None:
    raw: CData = ffi.new("struct highway_msg *")
    ffi.buffer(raw)[:] = encode(protocol.LinkAdded(link_id=9, flags=told))
    raw.version = version
    raw.checksum = protocol.checksum(bytes(ffi.buffer(raw)))
    (message,) = Decoder().feed(bytes(ffi.buffer(raw)))
    assert message == protocol.LinkAdded(link_id=9, flags=meant)
