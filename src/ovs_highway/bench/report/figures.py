# SPDX-License-Identifier: Apache-2.0
"""The figures: functions from a benchmark's result to axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench.report.interval import estimate
from ovs_highway.bench.report.style import COLOURS, MARKS, NAMES, new, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PAPER_MS: Final = 100
_LINES: Final = {1: ":", 2: "-.", 3: "--", 4: (0, (1, 3))}
_BELOW: Final = {"loc": "outside lower center", "fontsize": 8}
_SIZES: Final = 0.8  # of the room that the bars of one size take


def lengths(result: Mapping[str, Any], base: Path) -> list[Path]:
    """Draw rates by the number of VNFs on a logarithmic axis, and a model beside them."""
    modelled = {way: found for way, found in result.get("model", {}).items() if found.get("mpps")}
    figure, axes = new(2 if modelled else 1, width=11 if modelled else 7, height=4)
    _measured(axes[0], result)
    if modelled:
        _pinned(axes[1], modelled)
        axes[1].set_title("modelled: a core for every VNF", fontsize=10)
        axes[0].set_title("measured: one core for all VNFs", fontsize=10)
    if line_rate := result.get("line_rate_mpps"):
        axes[0].axhline(2 * line_rate, color=COLOURS["limit"], linewidth=1, linestyle="--")
        axes[0].annotate(
            "2 x 10 GbE", (1, 2 * line_rate), fontsize=8, va="bottom", color=COLOURS["limit"]
        )
    return save(figure, base)


def _measured(axis: Any, result: Mapping[str, Any]) -> None:  # noqa: ANN401
    for way, found in result["ways"].items():
        by_n = {int(n): estimate(each["mpps"]["values"]) for n, each in found["lengths"].items()}
        axis.errorbar(
            list(by_n),
            [each.mean for each in by_n.values()],
            yerr=[each.half or 0.0 for each in by_n.values()],
            marker=MARKS[found["label"]],
            markersize=4,
            capsize=3,
            color=COLOURS[way],
            label=f"{NAMES[way]} ({found['label']})",
        )
    axis.set_yscale("log")
    axis.set_xlabel("VNFs")
    axis.set_xticks([int(n) for n in next(iter(result["ways"].values()))["lengths"]])
    axis.set_ylabel("Mpps, both directions")
    axis.legend(frameon=False, fontsize=8)


def _pinned(axis: Any, modelled: Mapping[str, Any]) -> None:  # noqa: ANN401
    for way, found in modelled.items():
        seen: list[list[float]] = []
        for cores, by_n in found["mpps"].items():
            values = list(by_n.values())
            if values in seen:
                continue  # the switch has nothing to do with it
            seen.append(values)
            only = all(
                each == values for each in (list(m.values()) for m in found["mpps"].values())
            )
            label = NAMES[way] if only else f"{NAMES[way]}, {cores} cores for it"
            style = "-" if only else _LINES[int(cores)]
            axis.plot(
                [int(n) for n in by_n], values, color=COLOURS[way], linestyle=style, label=label
            )
    axis.set_yscale("log")
    axis.set_xlabel("VNFs")
    axis.legend(frameon=False, fontsize=7)


def latency(result: Mapping[str, Any], base: Path) -> list[Path]:
    """Draw the percentiles of the pinned hop by load, and the medians of shared chains."""
    figure, axes = new(2, width=11, height=4)
    loads = ["10 %", "50 %", "90 %", "common"]
    for offset, (way, found) in enumerate(result["ways"].items()):
        hop = found["pinned"]["one_way"]
        places = [index + (offset - 1) * 0.22 for index in range(len(loads))]
        middle = [hop[load]["p50_ns"] / 1000 for load in loads]
        top = [hop[load]["p99.9_ns"] / 1000 for load in loads]
        axes[0].vlines(places, middle, top, color=COLOURS[way], linewidth=2, alpha=0.5)
        axes[0].scatter(places, middle, color=COLOURS[way], s=28, label=NAMES[way])
        axes[0].scatter(places, top, color=COLOURS[way], s=14, marker="_")
        by_n = {int(n): each["one_way"]["p50_ns"] for n, each in found["shared"].items()}
        axes[1].plot(
            list(by_n),
            [value / 1000 for value in by_n.values()],
            marker="o",
            markersize=4,
            color=COLOURS[way],
        )
    axes[0].set_xticks(range(len(loads)), [*loads[:-1], f"{result['common_rate'] / 1e6:g} Mpps"])
    axes[0].set_xlabel("share of what the way can carry; one rate for all")
    axes[0].set_title("one hop, one VNF with its own core: p50 to p99.9", fontsize=10)
    axes[1].set_title("chains on one core: p50", fontsize=10)
    axes[1].set_xlabel("VNFs")
    for axis in axes:
        axis.set_yscale("log")
        axis.set_ylabel("one way, µs")
    axes[0].legend(frameon=False, fontsize=8)
    return save(figure, base)


def setup(result: Mapping[str, Any], base: Path, vm: Mapping[str, Any] | None = None) -> list[Path]:
    """Draw how set-up and withdrawal times are distributed, with the paper's 100 ms.

    Args:
        vm: the result of the benchmark of that name, if its links are to be drawn too.
    """
    figure, axes = new(2, width=9)
    sides = {"with the detector": result, "without": result["without_detector"]}
    colours = {"with the detector": COLOURS["highway"], "without": COLOURS["normal"]}
    titles = {"setup_ms": "flowmod to first packet", "withdraw_ms": "flowmod to last packet"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for label, side in sides.items():
            _distribution(axis, side[key], label, colours[label])
        axis.set_title(f"{title} over the bypass", fontsize=10)
        axis.set_xlabel("ms")
        axis.set_ylim(0, 1.02)
    if vm is not None:
        label = f"two VMs, from the decision ({vm['label'].split(':')[0]})"
        _distribution(axes[0], vm["set_up"]["first_packet_ms"]["values"], label, COLOURS["limit"])
    axes[0].axvline(_PAPER_MS, color=COLOURS["limit"], linewidth=1, linestyle="--")
    axes[0].annotate(" the paper", (_PAPER_MS, 0.05), ha="left", fontsize=8, color=COLOURS["limit"])
    axes[0].set_ylabel("share of tries")
    for axis in axes:
        axis.set_xlim(left=0)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=3, **_BELOW)
    return save(figure, base)


def _distribution(axis: Any, times: Sequence[float], label: str, colour: str) -> None:  # noqa: ANN401
    values = sorted(times)
    shares = [(number + 1) / len(values) for number in range(len(values))]
    axis.step(values, shares, where="post", label=label, color=colour)


def peers(result: Mapping[str, Any], base: Path) -> list[Path]:
    """Draw one hop's rates beside the peers', by frame size; on top what the machine allows."""
    wanted = {
        "bypass": (COLOURS["highway"], "bypass"),
        "memif": (COLOURS["memif"], "net_memif"),
        "memif_zc_tx": ("#7fa878", "net_memif, zero-copy sender"),
        "memif_zc_rx": ("#a9c7a3", "net_memif, zero-copy receiver"),
        "normal": (COLOURS["normal"], "switch, our ports"),
        "vhostuser": (COLOURS["vhostuser"], "switch, vhost-user"),
        "ovs_memif": ("#d9b44a", "switch, net_memif"),
    }
    found = {n: each for n, each in result["alternatives"].items() if n in wanted}
    figure, (axis,) = new(width=9, height=4)
    sizes = [str(size) for size in result["sizes"]]
    width = _SIZES / len(found)
    for offset, (name, each) in enumerate(found.items()):
        places, means, halves = [], [], []
        for index, size in enumerate(sizes):
            if (mpps := each["sizes"][size]["mpps"]) is not None:
                value = estimate(mpps["values"])
                places.append(index + (offset - (len(found) - 1) / 2) * width)
                means.append(value.mean)
                halves.append(value.half or 0.0)
        colour, label = wanted[name]
        axis.bar(places, means, width, yerr=halves, color=colour, label=label, ecolor="#333333")
    limits = result["alternatives"].get("limit_mbufs")
    if limits is not None:
        for index, size in enumerate(sizes):
            mpps = limits["sizes"][size]["mpps"]
            if mpps is not None:
                axis.hlines(
                    mpps["median"],
                    index - _SIZES / 2,
                    index + _SIZES / 2,
                    color=COLOURS["limit"],
                    linestyle="--",
                    label="bare loop with mbufs" if index == 0 else None,
                )
    axis.set_xticks(range(len(sizes)), [f"{size} B" for size in sizes])
    axis.set_yscale("log")
    axis.set_ylabel("Mpps")
    axis.legend(frameon=False, fontsize=7, ncols=2)
    return save(figure, base)
