# SPDX-License-Identifier: Apache-2.0
"""What a chain of VNFs can carry, from the cycles that each part of it spends on a packet.

A core carries as many packets per second as its frequency divided by the cycles that everything on
it spends on one; the slowest core is the limit. Nothing else is modelled: no caches that get
cooler, no drops after work was done, no waiting for a turn on a shared core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CLOSE: Final = 0.15
"""A model is printed if it is so near to what was measured, as a share of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Cycles per 64-byte packet.

    Attributes:
        end: to make one and take another, at one end of a chain.
        middle: to take one from one port and send it on the other.
        switch: of the switch, per hop; 0 where packets pass it by.
        hz: of the clock.
    """

    end: float
    middle: float
    switch: float = 0.0
    hz: float


def vnfs(costs: Costs, length: int) -> float:
    """Return the cycles that all VNFs of a chain spend on a packet.

    Raises:
        ValueError: a chain has two ends at least.
    """
    if length < 2:
        raise ValueError(f"a chain of {length} has no two ends")
    # A packet is made at one end and taken at the other.
    return costs.end + (length - 2) * costs.middle


def shared(costs: Costs, length: int) -> float:
    """Return the packets per second, of both directions, if all VNFs share one core.

    The switch has another.

    Raises:
        ValueError: `length` is less than 2.
    """
    return costs.hz / max(vnfs(costs, length), (length - 1) * costs.switch)


def pinned(costs: Costs, length: int, *, switch_cores: int) -> float:
    """Return the packets per second, of both directions, if each VNF has a core of its own.

    The hops are spread over the switch's cores as evenly as they can be; a hop is not divided.

    Raises:
        ValueError: `length` is less than 2, or there is no core for the switch.
    """
    if length < 2 or switch_cores < 1:
        raise ValueError(f"no chain of {length} with {switch_cores} cores for the switch")
    # Each end makes half of all packets and takes the other half.
    busiest = max(costs.end / 2, costs.middle if length > 2 else 0.0)
    most_hops = -(-(length - 1) // switch_cores)
    return costs.hz / max(busiest, most_hops * costs.switch)


def close(predicted: float, measured: float) -> bool:
    """Tell whether a prediction is near enough to what was measured."""
    return abs(predicted - measured) <= CLOSE * measured
