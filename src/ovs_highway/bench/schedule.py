# SPDX-License-Identifier: Apache-2.0
"""The order of measurements: every alternative once per round.

A machine drifts (clock, temperature, neighbours); alternatives that take turns drift together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MIN_ROUNDS: Final = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One measurement to be made: `name` of the alternative in `round`, counted from 1."""

    round: int
    name: str


def interleave(names: Sequence[str], rounds: int) -> Iterator[Turn]:
    """Yield A B C A B C ….

    Raises:
        ValueError: no alternatives, one of them twice, or less than one round.
    """
    if not names or len(set(names)) != len(names) or rounds < 1:
        raise ValueError(f"cannot take turns among {list(names)} for {rounds} rounds")
    for number in range(1, rounds + 1):
        for name in names:
            yield Turn(round=number, name=name)


def measure(
    alternatives: Mapping[str, Callable[[], T]],
    rounds: int,
    *,
    tell: Callable[[Turn, T], None] = lambda turn, result: None,
) -> dict[str, list[T]]:
    """Measure every alternative once per round; return the results by name, in order of rounds.

    `tell` gets each result as it comes. What a measurement raises ends it all.
    """
    results: dict[str, list[T]] = {name: [] for name in alternatives}
    for turn in interleave(list(alternatives), rounds):
        result = alternatives[turn.name]()
        results[turn.name].append(result)
        tell(turn, result)
    return results
