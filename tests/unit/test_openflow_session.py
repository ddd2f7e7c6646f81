# SPDX-License-Identifier: Apache-2.0
"""A connection to a bridge, replayed, reordered, cut and corrupted."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.openflow_record import VERSIONS, recorded

from ovs_highway.errors import ProtocolError
from ovs_highway.openflow import messages as wire
from ovs_highway.openflow.model import (
    LOCAL,
    Event,
    FlowGone,
    FlowSet,
    Frags,
    GroupGone,
    GroupSet,
    Output,
    PortGone,
    PortSet,
    Restart,
    Synced,
)
from ovs_highway.openflow.session import Session
from ovs_highway.openflow.text import format_actions, format_match

if TYPE_CHECKING:
    from collections.abc import Iterator

every_version = pytest.mark.parametrize("version", VERSIONS)


def theirs(version: str) -> bytes:
    """Return all that the switch sent, up to the poll."""
    return b"".join(line.data for line in recorded(version) if not line.ours)


def until_synced(version: str) -> tuple[Session, list[Event]]:
    """Return a session that knows everything, and what it told."""
    session, told = Session(), []
    for line in recorded(version):
        if not line.ours:
            events, _ = session.receive(line.data)
            told += events
            if session.synced:
                return session, told
    pytest.fail("it never knows everything")


@every_version
def test_replay_sends_what_was_sent_and_tells_what_happened(version: str) -> None:
    session = Session()
    told: list[Event] = []
    ready = b""
    for line in recorded(version):
        if line.ours:
            ready = ready or session.poll()
            assert ready == line.data
            ready = b""
        else:
            events, out = session.receive(line.data)
            told += events
            ready += out
    assert isinstance(told[0], Restart)
    (at,) = (index for index, event in enumerate(told) if isinstance(event, Synced))
    before, after = told[1:at], told[at + 1 :]
    groups = VERSIONS[version] >= 5
    assert told[at] == Synced(groups=groups, frags=0, version=VERSIONS[version])
    ports = [event.port for event in before if isinstance(event, PortSet)]
    assert [(port.port, port.name) for port in ports] == [(LOCAL, "br0"), (1, "p1"), (2, "p2")]
    flows = [event.flow for event in before if isinstance(event, FlowSet)]
    assert len(flows) == len({flow.key for flow in flows}) == (52 if version == "1.0" else 53)
    if version != "1.0":
        (five,) = (event.group for event in before if isinstance(event, GroupSet))
        assert (five.group, five.kind) == (5, "select")
        assert [bucket.weight for bucket in five.buckets] == [5, 1]
        assert [bucket.watches for bucket in five.buckets] == [False, True]
        assert [bucket.actions for bucket in five.buckets] == [(Output(1),), (Output(2),)]
    changed = [event for event in after if isinstance(event, PortSet)]
    assert changed[0].port.config & 1
    udp = [event for event in after if isinstance(event, FlowSet | FlowGone)]
    assert [type(event) for event in udp] == [FlowSet, FlowSet, FlowGone]
    first, second, gone = udp
    assert isinstance(first, FlowSet)
    assert isinstance(second, FlowSet)
    assert isinstance(gone, FlowGone)
    assert first.flow.key == second.flow.key == gone.key
    assert format_match(first.flow.mask, first.flow.value) == "udp"
    assert [format_actions(event.flow.actions) for event in (first, second)] == [
        "output:1",
        "output:2",
    ]
    kinds = [event.group.kind for event in after if isinstance(event, GroupSet)]
    expected = {"1.4": ["all", "ff"], "1.5": ["all", "ff", wire.CHANGED, "select"]}
    assert kinds == expected.get(version, [])
    assert [event for event in after if isinstance(event, GroupGone)] == [GroupGone(6)] * groups
    assert [event for event in after if isinstance(event, Frags)] == [Frags(1)]


@every_version
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_cuts_between_reads_change_nothing(version: str, data: st.DataObject) -> None:
    whole = theirs(version)
    expected, _ = Session().receive(whole)
    session = Session()
    told = []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        told += session.receive(whole[start:stop])[0]
    assert list(map(shown, told)) == list(map(shown, expected))


def shown(event: Event) -> object:
    """Return an event as something that can be compared."""
    if isinstance(event, FlowSet):
        return event.flow.key, event.flow.actions, event.flow.cookie, event.flow.timeouts
    return event


@every_version
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_corrupt_bytes_raise_nothing_but_the_one_error(version: str, data: st.DataObject) -> None:
    messages = [bytearray(line.data) for line in recorded(version) if not line.ours]
    keep_frame = data.draw(st.booleans())
    for _ in range(data.draw(st.integers(1, 6))):
        message = messages[data.draw(st.integers(1, len(messages) - 1))]
        least = 4 if keep_frame and len(message) > 8 else 0
        place = data.draw(st.integers(least, len(message) - 1))
        message[place] = data.draw(st.integers(0, 255))
    session = Session()
    with contextlib.suppress(ProtocolError):
        for message in messages:
            session.receive(bytes(message))
            session.poll()


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_the_one_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        Session().receive(data)


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [
        ({1, 2, 3, 4, 5, 6}, 5),
        ({1, 4, 6}, 6),
        ({1, 4}, 4),
        ({1}, 1),
        ({4, 5, 6, 7, 8}, 5),
    ],
)
def test_best_version_is_chosen(offered: set[int], spoken: int) -> None:
    session = Session()
    bitmap = sum(1 << version for version in offered)
    body = struct.pack("!HHI", 1, 8, bitmap)
    _, out = session.receive(wire.pack(max(offered), wire.HELLO, 1, body))
    assert session.version == spoken
    assert out[0] == spoken


@pytest.mark.parametrize("offered", [{2}, {3}, {2, 3}, {1, 2, 3}, {7}, set()])
def test_versions_that_cannot_be_followed_are_refused(offered: set[int]) -> None:
    bitmap = sum(1 << version for version in offered)
    hello = wire.pack(max(offered, default=1), 0, 1, struct.pack("!HHI", 1, 8, bitmap))
    with pytest.raises(ProtocolError, match="OpenFlow14"):
        Session().receive(hello)


@pytest.mark.parametrize(("highest", "spoken"), [(1, 1), (4, 4), (5, 5), (6, 5), (9, 5)])
def test_hello_without_bitmap_offers_all_lower_versions(highest: int, spoken: int) -> None:
    session = Session()
    session.receive(wire.pack(highest, wire.HELLO, 1))
    assert session.version == spoken


def test_what_does_not_begin_with_hello_is_refused() -> None:
    with pytest.raises(ProtocolError, match="hello"):
        Session().receive(wire.pack(5, wire.ECHO_REQUEST, 1))


@every_version
def test_echo_is_answered(version: str) -> None:
    session, _ = until_synced(version)
    _, out = session.receive(wire.pack(VERSIONS[version], wire.ECHO_REQUEST, 77, b"abc"))
    assert out == wire.pack(VERSIONS[version], wire.ECHO_REPLY, 77, b"abc")


@every_version
def test_a_refused_request_is_an_error_that_says_so(version: str) -> None:
    session, _ = until_synced(version)
    body = struct.pack("!HH", 1, 6)
    with pytest.raises(ProtocolError, match="type 1, code 6"):
        session.receive(wire.pack(VERSIONS[version], wire.ERROR, 3, body))


@every_version
def test_poll_waits_for_the_answer_to_the_one_before(version: str) -> None:
    session, _ = until_synced(version)
    assert session.poll()
    assert session.poll() == b""


def test_nothing_is_polled_before_everything_is_known() -> None:
    session = Session()
    assert session.poll() == b""
    session.receive(theirs("1.4")[:16])
    assert session.poll() == b""


def pause(version: str, event: str) -> bytes:
    """Return what says that changes are left out, or are not any more."""
    number = VERSIONS[version]
    paused = event == "pause"
    if number >= 5:
        body = struct.pack("!HH4xHH4x", wire.MP_FLOW_MONITOR, 0, 8, 5 if paused else 6)
        return wire.pack(number, 19, 0, body)
    if number == 4:
        kind = wire.ONF_MONITOR_PAUSED if paused else wire.ONF_MONITOR_RESUMED
        return wire.experimenter(number, 0, 0x4F4E4600, kind)
    kind = wire.NXT_MONITOR_PAUSED if paused else wire.NXT_MONITOR_RESUMED
    return wire.experimenter(number, 0, 0x2320, kind)


def requests(out: bytes) -> Iterator[wire.Message]:
    """Return the messages that we sent."""
    yield from wire.Framer().feed(out)


@every_version
def test_what_was_left_out_is_asked_again(version: str) -> None:
    session, _ = until_synced(version)
    events, out = session.receive(pause(version, "pause"))
    (restart,) = events
    assert isinstance(restart, Restart)
    assert restart.missed
    assert not session.synced
    assert out == b""
    events, out = session.receive(pause(version, "resume"))
    assert events == []
    sent = list(requests(out))
    assert len(sent) == (4 if version == "1.0" else 5)  # cancel, ports, groups, flows, barrier
    # The same answers, under the new numbers.
    number = VERSIONS[version]
    start = recorded(version)
    replies = [line.data for line in start if not line.ours and line.data[1] in (17, 19)]
    by_kind = {bytes(reply[8:12]): reply for reply in reversed(replies) if reply[4:8] != bytes(4)}
    told: list[Event] = []
    for message in sent[1:-1]:
        reply = by_kind[message.body[:4]]
        told += session.receive(reply[:4] + struct.pack("!I", message.xid) + reply[8:])[0]
    assert not session.synced
    told += session.receive(wire.pack(number, wire.barrier_reply(number), sent[-1].xid))[0]
    assert session.synced
    assert isinstance(told[-1], Synced)
    assert sum(isinstance(event, FlowSet) for event in told) >= 52
    assert sum(isinstance(event, PortSet) for event in told) == 3


@every_version
def test_changes_while_the_old_state_is_void_are_not_told(version: str) -> None:
    session, _ = until_synced(version)
    last = [line.data for line in recorded(version) if not line.ours and line.data[1] in (17, 19)]
    change = next(data for data in reversed(last) if data[4:8] == bytes(4))
    assert session.receive(change)[0]
    session.receive(pause(version, "pause"))
    assert session.receive(change)[0] == []
    session.receive(pause(version, "resume"))
    assert session.receive(change)[0] == []  # what is asked now will have it


def test_ports_with_reserved_numbers_are_told_as_in_later_versions() -> None:
    session, _ = until_synced("1.0")
    port = struct.pack("!H6s16sIIIIII", 0xFFFE, bytes(6), b"br0", 0, 1, 0, 0, 0, 0)
    status = wire.pack(1, wire.PORT_STATUS, 0, struct.pack("!B7x", 1) + port)
    assert session.receive(status)[0] == [PortGone(LOCAL)]
