# SPDX-License-Identifier: Apache-2.0
"""Means of repeated measurements with their 95 % confidence intervals."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean, in the values' unit, and half of the width of its interval; None: one value only."""

    mean: float
    half: float | None
    n: int

    def text(self, digits: int = 2) -> str:
        """Return `1.23 ± 0.04`."""
        middle = f"{self.mean:.{digits}f}"
        return middle if self.half is None else f"{middle} ± {self.half:.{digits}f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval, by Student's t, of independent measurements.

    Raises:
        ValueError: there is none.
        SetupError: scipy is missing.
    """
    if not values:
        raise ValueError("no mean of nothing")
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Estimate(mean=mean, half=None, n=1)
    try:
        from scipy.stats import t
    except ImportError as error:
        raise SetupError("reports need scipy; install it with: pip install scipy") from error
    error_of_mean = statistics.stdev(values) / n**0.5
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error_of_mean
    return Estimate(mean=mean, half=half, n=n)
