# SPDX-License-Identifier: Apache-2.0
"""What the fuzzers begin with: a few inputs each, that reach what matters at once.

A C fuzzer's input is a list of commands; the bytes are explained where the fuzzer reads them. The
Python fuzzers have their seeds beside them.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def _frames() -> Iterable[bytes]:
    """Frames of each kind, whole and in small pieces, parsed to each depth."""
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
    from scapy.layers.l2 import ARP, Dot1Q, Ether
    from scapy.layers.sctp import SCTP

    ip, ip6 = IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd::1", dst="fd::2")
    for packet in (
        Ether() / ip / UDP() / bytes(30),
        Ether() / ip / TCP(options=[("MSS", 1460)]),
        Ether() / ip / ICMP(),
        Ether() / ip / SCTP(),
        Ether() / IP(frag=4) / UDP(),
        Ether() / ip6 / TCP(),
        Ether() / ip6 / ICMPv6EchoRequest(),
        Ether() / ip6 / IPv6ExtHdrFragment() / UDP(),
        Ether() / Dot1Q(vlan=5) / ip / UDP(),
        Ether(type=0x88A8) / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ip,
        Ether() / ARP(),
    ):
        raw = bytes(packet)
        for segment, depth in ((79, 2), (79, 1), (13, 2), (0, 0)):
            yield bytes([segment, depth]) + raw


def _descriptors() -> list[bytes]:
    """Packets, marks, what lies outside, what is too long; as `fuzz_ring_scribble` reads them."""
    return [
        bytes([0x60, 0x00, 0x01]),
        bytes([0x00, 0x0C, 0x02, 4]),
        bytes([0x00, 0x2C, 0x02, 5]),
        bytes([0x00, 0x01, 0xF0, 0xFF, 0xFF, 0xFF]),
        bytes([0x00, 0x02, 0x00, 0xFF, 0xFF]),
        bytes([0xFF, 0x90]),
        bytes([0xFE, 0x80]),
    ]


def _consumer() -> Iterable[bytes]:
    for descriptor in _descriptors():
        for how in (0xB0, 0xB1, 0xB2, 0xB4):
            yield bytes([0, *descriptor, how, 40, 0x88, 0xA0, 0])
    # More frames in buffers than there are.
    many = b"".join(bytes([0, 0xC0 + first, 0x40, 1]) for first in (0, 7, 14))
    yield many + bytes([0xB8, 40, 0xB8, 40])


def _producer() -> Iterable[bytes]:
    puts = [bytes([0x30 + how, 100, 0, 39, how % 3]) for how in range(16)]
    take = bytes([0x80, 63])
    yield b"".join(put + bytes([0xD0]) + take for put in puts)
    yield b"".join(puts) + bytes([0xD0])
    yield bytes([0xB0, 0xD0, 0x80, 63]) * 8
    # Attached anew behind frames in buffers, with all of the data taken.
    yield bytes.fromhex("606060600260ca0e00026060ff0900ff6060004602803f")
    for descriptor in _descriptors():
        yield puts[0] + bytes([0xD0, 0, *descriptor, 0xE8]) + puts[1] + bytes([0xF8]) + puts[2]


def _region() -> Iterable[bytes]:
    for how in (0, 1, 6, 7):
        yield bytes([how, 16, 0, 0])
        for field in range(15):
            yield bytes([how, 16, 0, 0, 16, field, 0xF8, *[0xFF] * 8])
            yield bytes([how, 16, 0, 0, 16, field, 0x79])


def _message() -> Iterable[bytes]:
    yield bytes([1, 2, 3, 0, *[0x06] * 30])
    yield bytes([1, 0x90, *range(17), 2, 0, *[0x01] * 40])
    yield bytes([0xC9, *range(10), 1, 0x21, 5, 0, *[0xC9] * 20])


def _account() -> Iterable[bytes]:
    counts = bytes([0x00, 5, 0x02, 9, 0x01, 7])
    yield counts + bytes([0x98, 0x99, 0xB0, 0x90]) + counts + bytes([0xB0, 0x80, 0xC0])
    yield bytes([0xF0, *counts, 0x90, 0xC0, 0xC0, 0xB0])
    yield bytes([0x30, 0xFF, *[0xFF] * 8, 0xFF, *[0xFF] * 8, 0xB0])


def _rules() -> Iterable[bytes]:
    rule = bytes([0, 0, 0, 1])
    deep = bytes([0, 1, 0x20, 2, 0x18, *range(16)])
    yield rule + bytes([0xEC, 0, 1, 2])
    yield rule + deep + bytes([0x80, 0, 0, 1, 0xC2, 0xC3, 0xEC, 0x10, 0x10, 0x14])
    yield b"".join(bytes([0, slot, 0x20, slot + 1, slot << 4 | 8, *[0] * 16]) for slot in range(8))


def _switch() -> Iterable[bytes]:
    enter, leave = bytes([0x68, 7, 0]), bytes([0x60, 9, 0])
    receive, transmit, tick = bytes([0x80, 31]), bytes([0xA1, 0, 0]), bytes([0xC0, 0xC1])
    yield enter + receive + tick + receive + transmit + leave + receive + receive + transmit
    for descriptor in _descriptors():
        yield bytes([0, 0, *descriptor]) + receive * 2 + transmit + tick
        yield bytes([1, 1, *descriptor]) + transmit * 3
    hear = bytes([0x7C, 0x08, 0x79, 0x79]) + bytes([0x78, 0, 0x7A, 0x7A])
    yield (hear + tick) * 6
    yield bytes([0x7C, 1, 0x80, 0x90, 0xE0, 0, 0xE0, 8, 0xF0]) + tick


def _vnf() -> Iterable[bytes]:
    rule = bytes([0x50, 0x40, 0, 0, 1])
    transmit, receive, tick = bytes([0xA8, 0, 0, 0]), bytes([0x80, 63]), bytes([0xD0])
    remove, add = bytes([0xF0]), bytes([0xE8, 0])
    yield b"\0" + rule + tick + transmit + receive + remove + tick * 3 + add + transmit
    yield b"\0" + bytes([0x48, 4, 9, 0, 0, 0]) + receive + bytes([0x48, 0, 0, 9, 0, 0]) + receive
    for descriptor in _descriptors():
        for ring in (0x00, 0x01, 0x41, 0xC1, 0x40):
            yield b"\0" + rule + tick + bytes([0, ring, *descriptor]) + receive * 2 + transmit
    # A link that cannot be attached to all queues comes again.
    spoil, mend = bytes([0, 0x82, 0xFE, 0x79]), bytes([0, 0x82, 0xFE, 0x77])
    yield bytes([0x0C]) + spoil + add + mend + rule + add + tick + transmit * 2
    # One that was taken back while the port was stopped.
    yield b"\0" + rule + bytes([0xFA]) + remove + tick * 3 + add + bytes([0xFB]) + tick + transmit
    yield b"\0" + bytes([0xFE]) + tick + remove + tick * 4 + bytes([0xFA, 0xF8, 0xFB]) + receive


_C: Final = {
    "account": _account,
    "consumer": _consumer,
    "frame": _frames,
    "message": _message,
    "producer": _producer,
    "region": _region,
    "rules": _rules,
    "switch": _switch,
    "vnf": _vnf,
}
C_NAMES: Final = tuple(_C)


def write(name: str, folder: Path) -> None:
    """Write a fuzzer's seeds into a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    make = _C.get(name) or importlib.import_module(f"tests.fuzz.python.{name}").seeds
    for number, seed in enumerate(make()):
        (folder / f"{number:03}").write_bytes(seed)
