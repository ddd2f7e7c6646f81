# SPDX-License-Identifier: Apache-2.0
"""OpenFlow messages: bytes to values and back, for the versions 1.0 and 1.3 to 1.5.

Only what following a bridge takes. Layouts are those of the OpenFlow specifications and of OVS's
include/openflow/; flow monitors are those of OpenFlow 1.4, for 1.3 those of ONF extension 187, for
1.0 those of OVS (lib/ofp-monitor.c), since 3.0 for 1.3 and later.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ovs_highway.errors import ProtocolError
from ovs_highway.openflow.actions import NICIRA, decode_actions, decode_instructions
from ovs_highway.openflow.model import (
    Bucket,
    Flow,
    FlowGone,
    FlowSet,
    GroupDesc,
    PortDesc,
)
from ovs_highway.openflow.oxm import ONF, decode_match, wide_port

if TYPE_CHECKING:
    from collections.abc import Iterator

OF10: Final = 1
OF13: Final = 4
OF14: Final = 5
OF15: Final = 6
VERSION_NAMES: Final = {1: "1.0", 2: "1.1", 3: "1.2", 4: "1.3", 5: "1.4", 6: "1.5"}

HELLO: Final = 0
ERROR: Final = 1
ECHO_REQUEST: Final = 2
ECHO_REPLY: Final = 3
EXPERIMENTER: Final = 4
FEATURES_REQUEST: Final = 5
FEATURES_REPLY: Final = 6
GET_CONFIG_REQUEST: Final = 7
GET_CONFIG_REPLY: Final = 8
SET_CONFIG: Final = 9
PORT_STATUS: Final = 12
GROUP_MOD: Final = 15
SET_ASYNC: Final = 28
REQUESTFORWARD: Final = 32

MP_GROUP_DESC: Final = 7
MP_PORT_DESC: Final = 13
MP_FLOW_MONITOR: Final = 16
MP_EXPERIMENTER: Final = 0xFFFF
MORE: Final = 1

NXT_SET_ASYNC_CONFIG: Final = 19
NXT_SET_CONTROLLER_ID: Final = 20
NXT_MONITOR_CANCEL: Final = 21
NXT_MONITOR_PAUSED: Final = 22
NXT_MONITOR_RESUMED: Final = 23
NXST_FLOW_MONITOR: Final = 2
ONF_FLOW_MONITOR: Final = 1870  # and its cancellation
ONF_MONITOR_PAUSED: Final = 1871
ONF_MONITOR_RESUMED: Final = 1872

MISS_SEND_LEN: Final = 128
CONTROLLER_ID: Final = 0x6877  # any but 0
ALL_GROUPS: Final = 0xFFFFFFFC
FRAGS: Final = 3
"""The bits of a switch's configuration that say what it does with IP fragments."""

PAUSES: Final = {
    struct.pack("!II", ONF, ONF_MONITOR_PAUSED),
    struct.pack("!II", NICIRA, NXT_MONITOR_PAUSED),
}
"""How the experimenter's messages begin that say that changes are left out from now on."""
RESUMES: Final = {
    struct.pack("!II", ONF, ONF_MONITOR_RESUMED),
    struct.pack("!II", NICIRA, NXT_MONITOR_RESUMED),
}
"""And those that say that they are not any more."""

_HEADER: Final = struct.Struct("!BBHI")
_PORT_10: Final = struct.Struct("!H6x16sII")
_PORT_11: Final = struct.Struct("!I4x6x2x16sII")
_PORT_14: Final = struct.Struct("!IH2x6x2x16sII")
_SIZE_10, _SIZE_11 = 48, 64
_UPDATE: Final = struct.Struct("!HH")
_FULL_14: Final = struct.Struct("!HHBBHHH4xQ")
_FULL_10: Final = struct.Struct("!HHHHHHHBxQ")
_OFP_MATCH: Final = struct.Struct("!HH")
_ADDED, _REMOVED, _MODIFIED = 0, 1, 2  # 1.0 and 1.3; 1.4 has INITIAL before them
_ABBREV: Final = 3
_PAUSED, _RESUMED = 4, 5


@dataclass(frozen=True, slots=True)
class Message:
    """A message, without its header."""

    version: int
    kind: int
    xid: int
    body: bytes


def pack(version: int, kind: int, xid: int, body: bytes = b"") -> bytes:
    """Return a message."""
    return _HEADER.pack(version, kind, 8 + len(body), xid) + body


class Framer:
    """Cuts a stream of bytes into messages; keeps at most one incomplete one."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now.

        Raises:
            ProtocolError: a message says that it is shorter than its header.
        """
        data = self._rest + data if self._rest else data
        found = []
        pos, end = 0, len(data)
        while end - pos >= 8:
            version, kind, size, xid = _HEADER.unpack_from(data, pos)
            if size < 8:
                raise ProtocolError(
                    f"a message claims to have {size} bytes; is this an OpenFlow switch?"
                )
            if end - pos < size:
                break
            found.append(Message(version, kind, xid, data[pos + 8 : pos + size]))
            pos += size
        self._rest = data[pos:]
        return found


# Requests ---------------------------------------------------------------------------------------


def hello(version: int, xid: int) -> bytes:
    """Return a hello that offers one version (OpenFlow 1.3.1, 7.5.1)."""
    return pack(version, HELLO, xid, struct.pack("!HHI", 1, 8, 1 << version))


def offered(message: Message) -> set[int]:
    """Return the versions that a hello offers."""
    body = message.body
    pos = 0
    while pos + 4 <= len(body):
        kind, size = struct.unpack_from("!HH", body, pos)
        if size < 4 or pos + size > len(body):
            break
        if kind == 1 and size >= 8:
            (bitmap,) = struct.unpack_from("!I", body, pos + 4)
            return {version for version in range(1, 32) if bitmap >> version & 1}
        pos += (size + 7) // 8 * 8
    return set(range(1, message.version + 1))


def set_config(version: int, xid: int, flags: int) -> bytes:
    """Return what asks for asynchronous messages, and sets how fragments are handled."""
    return pack(version, SET_CONFIG, xid, struct.pack("!HH", flags, MISS_SEND_LEN))


def set_async(version: int, xid: int) -> bytes:
    """Return what asks for changes of ports, and of groups if there is such a thing, only."""
    if version >= OF14:
        wanted = {3: 7, 11: 1}  # port status: added, gone, changed; request forward: groups
        body = b"".join(struct.pack("!HHI", kind, 8, wanted.get(kind | 1, 0)) for kind in range(12))
        return pack(version, SET_ASYNC, xid, body)
    body = struct.pack("!6I", 0, 0, 7, 7, 0, 0)  # packet-in, port status, flow removed
    if version == OF13:
        return pack(version, SET_ASYNC, xid, body)
    return experimenter(version, xid, NICIRA, NXT_SET_ASYNC_CONFIG, body)


def set_controller_id(version: int, xid: int) -> bytes:
    """Return what makes us another controller than 0, which is told of packets without a flow."""
    body = struct.pack("!6xH", CONTROLLER_ID)
    return experimenter(version, xid, NICIRA, NXT_SET_CONTROLLER_ID, body)


def experimenter(version: int, xid: int, who: int, kind: int, body: bytes = b"") -> bytes:
    """Return an experimenter's message."""
    return pack(version, EXPERIMENTER, xid, struct.pack("!II", who, kind) + body)


def barrier(version: int, xid: int) -> bytes:
    """Return a barrier request."""
    return pack(version, 18 if version == OF10 else 20, xid)


def barrier_reply(version: int) -> int:
    """Return the kind of a barrier reply."""
    return 19 if version == OF10 else 21


def multipart_reply(version: int) -> int:
    """Return the kind of a multipart reply."""
    return 17 if version == OF10 else 19


def multipart(version: int, xid: int, kind: int, body: bytes = b"") -> bytes:
    """Return a multipart request."""
    if version == OF10:
        return pack(version, 16, xid, struct.pack("!HH", kind, 0) + body)
    return pack(version, 18, xid, struct.pack("!HH4x", kind, 0) + body)


def port_desc(version: int, xid: int) -> bytes:
    """Return a request for all ports."""
    every = struct.pack("!I4x", 0xFFFFFFFF) if version >= OF15 else b""
    return multipart(version, xid, MP_PORT_DESC, every)


def group_desc(version: int, xid: int) -> bytes:
    """Return a request for all groups; OpenFlow 1.0 has none."""
    every = struct.pack("!I4x", ALL_GROUPS) if version >= OF15 else b""
    return multipart(version, xid, MP_GROUP_DESC, every)


def flow_monitor(version: int, xid: int, monitor: int) -> bytes:
    """Return what asks for all flows of all tables, and from then on for their changes."""
    if version >= OF14:
        flags = 0x1F  # initial, add, removed, modify, instructions
        body = struct.pack("!IIIHBB", monitor, 0xFFFFFFFF, 0xFFFFFFFF, flags, 0xFF, 0)
        return multipart(version, xid, MP_FLOW_MONITOR, body + _ANY_MATCH)
    flags = 0x1F  # initial, add, delete, modify, actions
    if version == OF13:
        body = struct.pack("!IHHIB3x", monitor, flags, len(_ANY_MATCH) - 4, 0xFFFFFFFF, 0xFF)
        head = struct.pack("!II", ONF, ONF_FLOW_MONITOR)
        return multipart(version, xid, MP_EXPERIMENTER, head + body + _ANY_MATCH)
    body = struct.pack("!IHHHB5x", monitor, flags, 0xFFFF, 0, 0xFF)
    head = struct.pack("!II4x", NICIRA, NXST_FLOW_MONITOR)
    return multipart(version, xid, MP_EXPERIMENTER, head + body)


_ANY_MATCH: Final = struct.pack("!HH4x", 1, 4)


def cancel_monitor(version: int, xid: int, monitor: int) -> bytes:
    """Return what ends a flow monitor."""
    if version >= OF14:
        body = struct.pack("!IIIHBB", monitor, 0xFFFFFFFF, 0xFFFFFFFF, 0x1F, 0xFF, 2)
        return multipart(version, xid, MP_FLOW_MONITOR, body + _ANY_MATCH)
    body = struct.pack("!I", monitor)
    if version == OF13:
        return experimenter(version, xid, ONF, ONF_FLOW_MONITOR, body)
    return experimenter(version, xid, NICIRA, NXT_MONITOR_CANCEL, body)


# Replies ----------------------------------------------------------------------------------------

Part = Literal["ports", "groups", "flows"]


def read_multipart(message: Message) -> tuple[Part | None, bytes, bool]:
    """Return what a multipart reply has, its body, and whether more parts follow.

    Raises:
        ProtocolError: it is too short.
    """
    version, body = message.version, message.body
    head = 4 if version == OF10 else 8
    if len(body) < head:
        raise ProtocolError("a multipart reply is too short; is this an OpenFlow switch?")
    kind, flags = struct.unpack_from("!HH", body)
    body = body[head:]
    part: Part | None = None
    if kind == MP_PORT_DESC:
        part = "ports"
    elif kind == MP_GROUP_DESC and version > OF10:
        part = "groups"
    elif kind == MP_FLOW_MONITOR and version >= OF14:
        part = "flows"
    elif kind == MP_EXPERIMENTER and body[:8] == struct.pack("!II", ONF, ONF_FLOW_MONITOR):
        part, body = "flows", body[8:]
    elif kind == MP_EXPERIMENTER and body[:8] == struct.pack("!II", NICIRA, NXST_FLOW_MONITOR):
        part, body = "flows", body[12:]
    return part, body, bool(flags & MORE)


Update: TypeAlias = FlowSet | FlowGone | Literal["pause", "resume"]


def read_updates(version: int, body: bytes) -> Iterator[Update]:
    """Tell the changes that a part of a flow monitor's reply has.

    Raises:
        ProtocolError: one is malformed, or tells of a change without telling the change.
    """
    pos, end = 0, len(body)
    modern = version >= OF14
    while pos < end:
        if end - pos < 8:
            raise ProtocolError("an update of a flow is too short; is this an OpenFlow switch?")
        size, event = _UPDATE.unpack_from(body, pos)
        if size < 8 or pos + size > end:
            raise ProtocolError("an update of a flow is malformed; is this an OpenFlow switch?")
        event = max(0, event - 1) if modern else event
        if event <= _MODIFIED:
            yield _update(version, body[pos : pos + size], event)
        elif modern and event == _PAUSED:
            yield "pause"
        elif modern and event == _RESUMED:
            yield "resume"
        else:  # an abbreviation stands for a change of our own, and we change nothing
            raise ProtocolError(f"an update of a flow is of an unknown kind {event}")
        pos += size


def _update(version: int, data: bytes, event: int) -> FlowSet | FlowGone:
    if len(data) < 24:
        raise ProtocolError("an update of a flow is too short; is this an OpenFlow switch?")
    if version >= OF14:
        _, _, table, _, idle, hard, priority, cookie = _FULL_14.unpack_from(data)
        length = _OFP_MATCH.unpack_from(data, 24)[1] if len(data) >= 32 else 0
    else:
        _, _, _, priority, idle, hard, length, table, cookie = _FULL_10.unpack_from(data)
    start = 24 if version == OF10 else 28
    stop = 24 + length
    if stop > len(data) or stop < start:
        raise ProtocolError("the match of a flow is malformed; is this an OpenFlow switch?")
    mask, value = decode_match(data[start:stop])
    if event == _REMOVED:
        return FlowGone((table, priority, mask, value))
    rest = data[24 + (length + 7) // 8 * 8 :]
    actions = decode_actions(version, rest) if version == OF10 else decode_instructions(rest)
    timeouts = bool(idle or hard)
    return FlowSet(Flow(table, priority, mask, value, actions, cookie, timeouts))


def read_ports(version: int, body: bytes) -> list[PortDesc]:
    """Return the ports that a list of port descriptions has.

    Raises:
        ProtocolError: one is malformed.
    """
    found = []
    pos = 0
    while pos < len(body):
        size = _SIZE_10 if version == OF10 else _SIZE_11
        if version >= OF14 and len(body) - pos >= 40:
            (size,) = struct.unpack_from("!H", body, pos + 4)
        if size < 40 or pos + size > len(body):
            raise ProtocolError("a port's description is malformed; is this an OpenFlow switch?")
        found.append(_port(version, body, pos))
        pos += size
    return found


def _port(version: int, body: bytes, pos: int) -> PortDesc:
    if version == OF10:
        number, name, config, state = _PORT_10.unpack_from(body, pos)
        number = wide_port(number)
        state = (state & 1) | (2 if state & 0x300 == 0x300 else 0)  # OFPPS10_STP_BLOCK
    elif version < OF14:
        number, name, config, state = _PORT_11.unpack_from(body, pos)
    else:
        number, _, name, config, state = _PORT_14.unpack_from(body, pos)
    return PortDesc(number, name.split(b"\0")[0].decode("utf-8", "replace"), config, state)


def read_port_status(version: int, body: bytes) -> tuple[bool, PortDesc]:
    """Return whether a port is gone, and the port.

    Raises:
        ProtocolError: it is malformed.
    """
    ports = read_ports(version, body[8:])
    if len(body) < 8 or len(ports) != 1:
        raise ProtocolError("a port's status is malformed; is this an OpenFlow switch?")
    return body[0] == 1, ports[0]


# Groups -----------------------------------------------------------------------------------------

_KINDS: Final = {0: "all", 1: "select", 2: "indirect", 3: "ff"}
_NOBODY: Final = 0xFFFFFFFF
CHANGED: Final = "changed"
"""Kind of a group of which is known only that it has changed."""


def read_groups(version: int, body: bytes) -> list[GroupDesc]:
    """Return the groups that a list of group descriptions has.

    Raises:
        ProtocolError: one is malformed.
    """
    found = []
    pos = 0
    while pos < len(body):
        least = 16 if version >= OF15 else 8
        size = struct.unpack_from("!H", body, pos)[0] if len(body) - pos >= least else 0
        if size < least or pos + size > len(body):
            raise ProtocolError("a group's description is malformed; is this an OpenFlow switch?")
        kind, group = struct.unpack_from("!BxI", body, pos + 2)
        buckets = body[pos + least : pos + size]
        if version >= OF15:
            (length,) = struct.unpack_from("!H", body, pos + 8)
            buckets = buckets[:length]
        found.append(_group(version, group, kind, buckets))
        pos += size
    return found


def read_group_mod(data: bytes) -> GroupDesc | int | None:
    """Return what a message in a REQUESTFORWARD does to a group.

    That is a group if it was added or changed, its number if it went, and None if the message is
    not about groups. A group that was changed in part has the kind `CHANGED`.

    Raises:
        ProtocolError: it is malformed.
    """
    if len(data) < 8:
        raise ProtocolError("a forwarded request is malformed; is this an OpenFlow switch?")
    version, message, size, _ = _HEADER.unpack_from(data)
    if message != GROUP_MOD:
        return None
    least = 24 if version >= OF15 else 16
    if not least <= size <= len(data):
        raise ProtocolError("a forwarded request is malformed; is this an OpenFlow switch?")
    command, kind, group = struct.unpack_from("!HBxI", data, 8)
    buckets = data[least:size]
    if version >= OF15:
        (length,) = struct.unpack_from("!H", data, 16)
        buckets = buckets[:length]
    if command == 2:
        return int(group)
    if command in (0, 1, 0x8000):  # add, modify, OVS's add or modify
        return _group(version, group, kind, buckets)
    return GroupDesc(group, CHANGED, ())


def _group(version: int, group: int, kind: int, data: bytes) -> GroupDesc:
    name = _KINDS.get(kind, f"unknown kind {kind}")
    return GroupDesc(group, name, tuple(_buckets(version, data)))


def _buckets(version: int, data: bytes) -> Iterator[Bucket]:
    pos = 0
    head = 8 if version >= OF15 else 16
    while pos < len(data):
        size = struct.unpack_from("!H", data, pos)[0] if len(data) - pos >= head else 0
        if size < head or pos + size > len(data):
            raise ProtocolError("a group's bucket is malformed; is this an OpenFlow switch?")
        bucket = data[pos : pos + size]
        pos += size
        weight, port, group = 1, _NOBODY, _NOBODY
        actions = bucket[head:]
        if version >= OF15:
            (length,) = struct.unpack_from("!H", bucket, 2)
            actions, properties = actions[:length], actions[length:]
            for what, content in _properties(properties):
                if what == 0 and len(content) >= 2:
                    (weight,) = struct.unpack_from("!H", content)
                elif what == 1 and len(content) >= 4:
                    (port,) = struct.unpack_from("!I", content)
                elif what == 2 and len(content) >= 4:
                    (group,) = struct.unpack_from("!I", content)
        else:
            weight, port, group = struct.unpack_from("!HII", bucket, 2)
        watches = port != _NOBODY or group != _NOBODY
        yield Bucket(decode_actions(version, actions), watches, weight)


def _properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    pos = 0
    while len(data) - pos >= 4:
        kind, size = struct.unpack_from("!HH", data, pos)
        if size < 4:
            return
        yield kind, data[pos + 4 : pos + size]
        pos += (size + 7) // 8 * 8
