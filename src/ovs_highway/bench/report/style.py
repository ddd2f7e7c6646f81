# SPDX-License-Identifier: Apache-2.0
"""What all figures look like, and how they are written; needs matplotlib."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KINDS: Final = ("svg", "png")
COLOURS: Final = {
    "highway": "#1f6f8b",
    "normal": "#c8553d",
    "vhostuser": "#8d6a9f",
    "memif": "#588157",
    "limit": "#6c757d",
}
NAMES: Final = {
    "highway": "direct (ovs-highway)",
    "normal": "through the switch, our ports",
    "vhostuser": "through the switch, vhost-user",
}
MARKS: Final = {"measured": "o", "functional": "s", "modelled": ""}


def new(columns: int = 1, *, width: float = 7.0, height: float = 3.6) -> tuple[Any, Sequence[Any]]:
    """Return a figure and its axes, side by side.

    Raises:
        SetupError: matplotlib is missing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SetupError(
            "figures need matplotlib; install it with: pip install matplotlib"
        ) from error
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "ovs-highway"
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, base: Path) -> list[Path]:  # noqa: ANN401 - of a library that is optional
    """Write a figure as `base`.svg and so on; return the files."""
    found = []
    for kind in KINDS:
        path = base.with_suffix(f".{kind}")
        figure.savefig(path, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        found.append(path)
    return found
