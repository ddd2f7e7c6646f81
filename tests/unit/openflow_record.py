# SPDX-License-Identifier: Apache-2.0
"""Recorded connections to ovs-vswitchd 3.1.0, in `data/openflow/<version>.txt`.

Each line is a message of the switch (`<`), or what a `Session` sent (`>`), in hexadecimal. Before
the connection, some fifty flows and group 5 were there; then port 1 was shut down, group 6 was
added, changed and deleted (1.5: group 5 got a bucket), a flow was added, changed and deleted, and
fragments were set to be dropped before the second of two polls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data/openflow"
VERSIONS: Final = {"1.0": 1, "1.3": 4, "1.4": 5, "1.5": 6}


@dataclass(frozen=True, slots=True)
class Line:
    """What one side sent."""

    ours: bool
    data: bytes


def recorded(version: str) -> list[Line]:
    """Return what was sent in a connection."""
    lines = (DATA / f"{version}.txt").read_text().splitlines()
    return [Line(line[0] == ">", bytes.fromhex(line[2:])) for line in lines]
