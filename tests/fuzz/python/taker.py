# SPDX-License-Identifier: Apache-2.0
"""The input of a fuzzer, taken piece by piece."""

from __future__ import annotations


class Taker:
    """What is left of the input; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def bytes(self, count: int) -> bytes:
        """Take bytes, fewer if there are no more."""
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def number(self, width: int = 1) -> int:
        """Take a number of so many bytes."""
        return int.from_bytes(self.bytes(width), "little")

    def near(self, value: int, width: int) -> int:
        """Take a number that is near another one, or any, of so many bytes."""
        how = self.number()
        other = value + how - 0x78 if how < 0xF0 else self.number(width)
        return other % (1 << 8 * width)
