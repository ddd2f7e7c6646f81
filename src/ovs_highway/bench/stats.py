# SPDX-License-Identifier: Apache-2.0
"""Medians and spread of repeated measurements."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The middle and the spread of some values, in their unit; `values` in the order measured."""

    median: float
    q1: float
    q3: float
    low: float
    high: float
    values: tuple[float, ...]

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a share of the median; 0 if that is 0."""
        return (self.q3 - self.q1) / self.median if self.median else 0.0


def summarize(values: Sequence[float]) -> Summary:
    """Summarize values; quartiles are interpolated, as the whole population's.

    Raises:
        ValueError: there is none, or one is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"no summary of {list(values)}")
    if len(values) == 1:
        q1 = median = q3 = values[0]
    else:
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(
        median=median, q1=q1, q3=q3, low=min(values), high=max(values), values=tuple(values)
    )


def ratio(first: float, second: float) -> float | None:
    """Return how many times `second` the first value is, None if `second` is 0."""
    return first / second if second else None


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile, the next measured value above it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]
