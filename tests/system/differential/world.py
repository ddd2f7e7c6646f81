# SPDX-License-Identifier: Apache-2.0
"""The few values that tables and frames of one seed have in common, so that they often meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

PORTS: Final = (1, 2, 3, 4)
SPECIAL_MACS: Final = ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:05", "33:33:00:00:00:01")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Pools of values; `own_macs` are the sources that a port uses in tables with NORMAL."""

    macs: tuple[str, ...]
    own_macs: dict[int, tuple[str, ...]]
    vlans: tuple[int, ...]
    ips: tuple[str, ...]
    ip6s: tuple[str, ...]
    l4_ports: tuple[int, ...]
    ttls: tuple[int, ...]
    toses: tuple[int, ...]
    ether_types: tuple[int, ...]
    protos: tuple[int, ...]

    @classmethod
    def make(cls, rng: Random) -> World:
        """Draw the pools."""
        net, net6 = rng.randrange(1, 224), rng.randrange(1, 0xFFFF)
        own = {
            port: tuple(f"02:00:00:{rng.randrange(256):02x}:{port:02x}:{n:02x}" for n in range(2))
            for port in PORTS
        }
        return cls(
            macs=(*(mac for macs in own.values() for mac in macs), *SPECIAL_MACS),
            own_macs=own,
            vlans=tuple(rng.sample((0, 1, 5, 6, 100, 101, 2048, 4095), 4)),
            ips=tuple(f"{net}.{rng.choice((0, 1, 128))}.{rng.randrange(3)}.{n}" for n in range(6)),
            ip6s=tuple(f"{net6:x}:{rng.randrange(3)}::{n + 1:x}" for n in range(5)),
            l4_ports=(*(rng.randrange(65536) for _ in range(4)), 80, 4789),
            ttls=(1, 2, 64, 255),
            toses=(0, 1, 0x10, 0xB8),
            ether_types=(0x88CC, 0x8906, 0x9000, 0x8847, 0x8848, 0x894F, 0x22EB),
            protos=(0, 4, 41, 47, 50, 51, 58, 89, 103, 132, 253),
        )
