# SPDX-License-Identifier: Apache-2.0
"""What sFlow, IPFIX and NetFlow datagrams say of packets; only as far as OVS uses them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IPFIX_HEADER: Final = 16
_PACKET_DELTA: Final = 2
_FLOW_DIRECTION: Final = 61
_ENTERPRISE: Final = 0x8000


def sflow_packets(datagram: bytes) -> int:
    """Return the packets that the flow samples of a datagram stand for (sFlow version 5)."""
    version, family = struct.unpack_from(">II", datagram)
    assert (version, family) == (5, 1)
    (samples,) = struct.unpack_from(">I", datagram, 24)
    offset, total = 28, 0
    for _ in range(samples):
        kind, length = struct.unpack_from(">II", datagram, offset)
        if kind == 1:
            (rate,) = struct.unpack_from(">I", datagram, offset + 16)
            total += rate
        offset += 8 + length
    assert offset == len(datagram)
    return total


def netflow_packets(datagrams: Iterable[bytes]) -> int:
    """Return the packets of all records (NetFlow version 5)."""
    total = 0
    for datagram in datagrams:
        version, records = struct.unpack_from(">HH", datagram)
        assert version == 5
        assert len(datagram) == 24 + 48 * records
        total += sum(
            struct.unpack_from(">I", datagram, 24 + 48 * number + 16)[0]
            for number in range(records)
        )
    return total


def ipfix_packets(datagrams: Iterable[bytes]) -> int:
    """Return the packets that came in, by all records (RFC 7011)."""
    templates: dict[int, list[tuple[int, int]]] = {}
    total = 0
    for datagram in datagrams:
        for number, body in _sets(datagram):
            if number == 2:
                templates.update(_templates(body))
            elif number in templates:
                total += _ingress_packets(templates[number], body)
    return total


def _sets(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    version, length = struct.unpack_from(">HH", datagram)
    assert (version, length) == (10, len(datagram))
    offset = _IPFIX_HEADER
    while offset < length:
        number, size = struct.unpack_from(">HH", datagram, offset)
        yield number, datagram[offset + 4 : offset + size]
        offset += size


def _templates(body: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    offset = 0
    while offset + 4 <= len(body):
        number, count = struct.unpack_from(">HH", body, offset)
        offset += 4
        fields = []
        for _ in range(count):
            element, size = struct.unpack_from(">HH", body, offset)
            fields.append((element, size))
            offset += 8 if element & _ENTERPRISE else 4
        yield number, fields


def _ingress_packets(fields: list[tuple[int, int]], body: bytes) -> int:
    offset, total = 0, 0
    shortest = sum(1 if size == 0xFFFF else size for _, size in fields)
    while offset + shortest <= len(body):
        values: dict[int, int] = {}
        for element, size in fields:
            if size == 0xFFFF:
                size, offset = body[offset], offset + 1
            values[element] = int.from_bytes(body[offset : offset + size])
            offset += size
        if values.get(_FLOW_DIRECTION, 0) == 0:
            total += values.get(_PACKET_DELTA, 0)
    return total
