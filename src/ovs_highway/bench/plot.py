# SPDX-License-Identifier: Apache-2.0
"""Plots of results, as SVG and PNG; needs matplotlib, which nothing else does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS: Final = ("svg", "png")
_COLOURS: Final = {"with the detector": "#1f6f8b", "without": "#c8553d"}


def setup_times(result: Mapping[str, Any], base: Path) -> list[Path]:
    """Plot how set-up and withdrawal times are distributed; return the files, `base`.svg and so on.

    Raises:
        SetupError: matplotlib is missing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SetupError(
            "plots need matplotlib; install it with: pip install matplotlib"
        ) from error
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "ovs-highway"
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    sides = {"with the detector": result, "without": result["without_detector"]}
    for axis, (key, title) in zip(
        axes,
        (("setup_ms", "flowmod to first packet"), ("withdraw_ms", "flowmod to last packet")),
        strict=True,
    ):
        for label, side in sides.items():
            values = sorted(side[key])
            shares = [(number + 1) / len(values) for number in range(len(values))]
            axis.step(values, shares, where="post", label=label, color=_COLOURS[label])
        axis.set_title(f"{title} over the bypass", fontsize=10)
        axis.set_xlabel("ms")
        axis.set_ylim(0, 1.02)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of tries")
    axes[1].legend(frameon=False, loc="lower right")
    found = []
    for kind in KINDS:
        path = base.with_suffix(f".{kind}")
        figure.savefig(path, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        found.append(path)
    return found
