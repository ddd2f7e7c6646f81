# SPDX-License-Identifier: Apache-2.0
"""Values of match fields, as ovs-fields(7) writes them: text and width in bits to mask and value.

All raise a ValueError that says what to write.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, TypeAlias

Bits: TypeAlias = tuple[int, int]
"""Mask and value, of one field or of all."""


def number(text: str, width: int) -> Bits:
    """Read a number, or one with a mask: `0x50/0xf0`."""
    shown, _, mask = text.partition("/")
    try:
        found = int(mask, 0) if mask else (1 << width) - 1, int(shown, 0)
    except ValueError as error:
        raise ValueError(f"'{text}' is no number") from error
    if any(part < 0 or part >> width for part in found):
        raise ValueError(f"'{text}' does not fit into {width} bits")
    return found


def mac(text: str, _width: int) -> Bits:
    """Read a MAC address, or one with a mask."""
    parts = text.split("/")
    if len(parts) > 2 or not all(
        re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", p) for p in parts
    ):
        raise ValueError("give a MAC address, such as 02:00:00:00:00:01")
    value, mask = (int(part.replace(":", ""), 16) for part in [*parts, "ff:ff:ff:ff:ff:ff"][:2])
    return mask, value


def address(text: str, width: int) -> Bits:
    """Read an address, a prefix, or an address with a mask."""
    kind = ipaddress.IPv4Address if width == 32 else ipaddress.IPv6Address
    shown, slash, mask = text.partition("/")
    ones = (1 << width) - 1
    try:
        value = int(kind(shown))
        if not slash:
            return ones, value
        if not mask.isdecimal():
            return int(kind(mask)), value
    except ValueError as error:
        raise ValueError(f"give an IPv{4 if width == 32 else 6} address, or a prefix") from error
    if int(mask) > width:
        raise ValueError(f"a prefix has at most {width} bits")
    return ones ^ (ones >> int(mask)), value


_FRAGMENTS: Final = {
    "no": (3, 0),
    "yes": (1, 1),
    "first": (3, 1),
    "later": (2, 2),
    "not_later": (2, 0),
}
_TCP_FLAGS: Final = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns")


def fragment(text: str, _width: int) -> Bits:
    """Read what `nw_frag` may be."""
    if text not in _FRAGMENTS:
        raise ValueError(f"give one of {', '.join(_FRAGMENTS)}")
    return _FRAGMENTS[text]


def flags(text: str, width: int) -> Bits:
    """Read `+syn-ack` (those two), `syn|ack` (these and no others), or a number."""
    if text[:1].isdigit():
        return number(text, width)
    words = re.findall(r"([+-])([a-z]+)", text)
    if len({word for _, word in words}) < len(words):
        raise ValueError("a flag stands twice; keep one")
    if words and "".join(map("".join, words)) == text:
        set_ = sum(_flag(word) for sign, word in words if sign == "+")
        return set_ | sum(_flag(word) for sign, word in words if sign == "-"), set_
    value = 0
    for word in text.split("|"):
        bits = re.fullmatch(r"\[([0-9a-f]+)\]", word)
        value |= int(bits[1], 16) if bits else _flag(word)
    return number(hex(value), width)


def _flag(word: str) -> int:
    if word not in _TCP_FLAGS:
        raise ValueError(f"'{word}' is no flag; known: {', '.join(_TCP_FLAGS)}")
    return 1 << _TCP_FLAGS.index(word)
