# SPDX-License-Identifier: Apache-2.0
"""The order of measurements: every alternative once per round.

A machine drifts (clock, temperature, neighbours); alternatives that take turns drift together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

MIN_ROUNDS: Final = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One measurement to be made: `name` of the alternative in `round`, counted from 1."""

    round: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside(Generic[T]):
    """A result that does not count, and why."""

    turn: Turn
    result: T
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results(Generic[T]):
    """What was measured, by name and in the order of rounds; and what does not count.

    `flaws` says of each kept result what is wrong with it: '' for nothing.
    """

    kept: dict[str, list[T]]
    flaws: dict[str, list[str]]
    set_aside: tuple[SetAside[T], ...]


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
    flaw: Callable[[T, Collection[T]], str] = lambda result, others: "",
    most: int = 0,
    only_lacking: bool = False,
    tell: Callable[[Turn, T], None] = lambda turn, result: None,
) -> Results[T]:
    """Measure every alternative once per round; what a measurement raises ends it all.

    `flaw` judges a result beside all results so far ('' for nothing wrong); it must not look at
    how good a result is. Rounds go on, up to `most`, until every alternative has as many sound
    results as `rounds`; with `only_lacking` those that have do not take part any more. `tell` gets
    each result as it comes.
    """
    taken: list[tuple[Turn, T]] = []
    lacking = set(alternatives)
    for turn in interleave(list(alternatives), max(rounds, most)):
        if turn.round > rounds and turn.name == next(iter(alternatives)):
            sound = _sound(taken, flaw)
            lacking = {name for name in alternatives if len(sound.get(name, ())) < rounds}
            if not lacking:
                break
        if only_lacking and turn.name not in lacking:
            continue
        result = alternatives[turn.name]()
        taken.append((turn, result))
        tell(turn, result)
    return select(taken, list(alternatives), rounds, flaw)


def select(
    taken: Sequence[tuple[Turn, T]],
    names: Sequence[str],
    rounds: int,
    flaw: Callable[[T, Collection[T]], str],
) -> Results[T]:
    """Keep the sound results, and flawed ones only where there are not `rounds` sound ones."""
    everything = [result for _, result in taken]
    judged = [(turn, result, flaw(result, everything)) for turn, result in taken]
    kept: dict[str, list[T]] = {}
    flaws: dict[str, list[str]] = {}
    aside: list[SetAside[T]] = []
    for name in names:
        mine = [each for each in judged if each[0].name == name]
        needed = max(0, rounds - sum(not reason for _, _, reason in mine))
        kept[name], flaws[name] = [], []
        for turn, result, reason in mine:
            if reason and needed == 0:
                aside.append(SetAside(turn=turn, result=result, reason=reason))
                continue
            needed -= bool(reason)
            kept[name].append(result)
            flaws[name].append(reason)
    return Results(kept=kept, flaws=flaws, set_aside=tuple(aside))


def _sound(
    taken: Sequence[tuple[Turn, T]], flaw: Callable[[T, Collection[T]], str]
) -> dict[str, list[T]]:
    everything = [result for _, result in taken]
    found: dict[str, list[T]] = {}
    for turn, result in taken:
        if not flaw(result, everything):
            found.setdefault(turn.name, []).append(result)
    return found
