# SPDX-License-Identifier: Apache-2.0
"""Medians, turns, and what of the results counts."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.bench.schedule import Turn, interleave, measure
from ovs_highway.bench.stats import ratio, summarize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

FINITE = st.floats(min_value=0, max_value=1e9)


def test_the_median_and_the_quartiles_are_interpolated() -> None:
    found = summarize([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.low, found.q1, found.median, found.q3, found.high) == (1, 2, 3, 4, 5)
    assert found.values == (4, 1, 3, 2, 5)
    assert found.spread == pytest.approx(2 / 3)


def test_a_single_value_is_its_own_median() -> None:
    found = summarize([7.5])
    assert (found.low, found.q1, found.median, found.q3, found.high) == (7.5,) * 5
    assert found.spread == 0


@given(st.lists(FINITE, min_size=1, max_size=30))
def test_summaries_are_in_order(values: list[float]) -> None:
    found = summarize(values)
    assert found.low <= found.q1 <= found.median <= found.q3 <= found.high or math.isclose(
        found.low, found.high
    )
    assert found.median == pytest.approx(statistics.median(values))


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_is_no_number_is_not_summarized(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no summary"):
        summarize(values)


def test_a_ratio_with_nothing_is_none() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None


def test_alternatives_take_turns() -> None:
    assert [(turn.round, turn.name) for turn in interleave("ABC", 2)] == [
        *((1, "A"), (1, "B"), (1, "C")),
        *((2, "A"), (2, "B"), (2, "C")),
    ]


@pytest.mark.parametrize(("names", "rounds"), [("", 1), ("AA", 1), ("A", 0)])
def test_turns_need_different_names_and_a_round(names: str, rounds: int) -> None:
    with pytest.raises(ValueError, match="cannot take turns"):
        list(interleave(names, rounds))


def of(values: Iterator[int]) -> int:
    return next(values)


def test_results_come_by_name_and_in_order() -> None:
    a, b = iter(range(100)), iter(range(100, 200))
    told: list[tuple[Turn, int]] = []
    found = measure(
        {"A": lambda: of(a), "B": lambda: of(b)}, 3, tell=lambda turn, n: told.append((turn, n))
    )
    assert found.kept == {"A": [0, 1, 2], "B": [100, 101, 102]}
    assert found.flaws == {"A": [""] * 3, "B": [""] * 3}
    assert found.set_aside == ()
    assert [(turn.name, number) for turn, number in told][:3] == [("A", 0), ("B", 100), ("A", 1)]


def odd(result: int, others: Collection[int]) -> str:
    return "odd" if result % 2 else ""


def test_flawed_results_are_set_aside_and_all_go_on_until_there_are_enough() -> None:
    a, b = iter([1, 2, 4, 6, 8]), iter([10, 20, 30, 40, 50])
    found = measure({"A": lambda: of(a), "B": lambda: of(b)}, 2, flaw=odd, most=10)
    assert found.kept == {"A": [2, 4], "B": [10, 20, 30]}
    assert [(aside.turn.round, aside.result, aside.reason) for aside in found.set_aside] == [
        (1, 1, "odd")
    ]


def test_flawed_results_count_where_there_are_no_better_ones() -> None:
    a = iter([1, 3, 4, 5])
    found = measure({"A": lambda: of(a)}, 3, flaw=odd, most=4)
    assert found.kept == {"A": [1, 3, 4]}
    assert found.flaws == {"A": ["odd", "odd", ""]}
    assert [aside.result for aside in found.set_aside] == [5]


def test_a_result_is_judged_beside_all_others_later_ones_too() -> None:
    a = iter([5, 5, 2, 2, 2])

    def far(result: int, others: Collection[int]) -> str:
        return "far" if result > 2 * min(others) else ""

    found = measure({"A": lambda: of(a)}, 3, flaw=far, most=9)
    assert found.kept == {"A": [2, 2, 2]}
    assert [aside.result for aside in found.set_aside] == [5, 5]


def test_an_error_ends_the_measuring() -> None:
    def fail() -> int:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure({"A": fail}, 2)
