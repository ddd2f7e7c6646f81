# SPDX-License-Identifier: Apache-2.0
"""The page: `docs/benchmarks.md`, made from one file of results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench.report.sections import SECTIONS, table
from ovs_highway.bench.suite import SUITE
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ovs_highway.bench.report.sections import Section


HEADLINES: Final = (
    ("chain", "ratio_8", "8 VNFs on one core, direct / the better way through the switch"),
    ("chain", "bound_8", "the same, as cycles would allow"),
    ("nic", "ratio_8", "8 VNFs between two ports of 10 GbE, the same"),
    ("latency", "less_8", "latency less than through the switch, a core for every VNF (modelled)"),
    ("setup", "setup_p50_ms", "flowmod to first packet over the bypass, ms"),
    ("peers", "ratio_memif_64", "one hop of 64 bytes, bypass / net_memif"),
    ("peers", "ratio_memif_1500", "one hop of 1,500 bytes, bypass / net_memif's best mode"),
    ("peers", "ratio_normal_vhost_64", "64 bytes through the switch, our ports / vhost-user"),
    ("cycles", "rx_tx_64", "driver cycles per packet, sent and received"),
    ("rules", "ratio_1000", "cycles per packet, 1,000 rules / 1"),
    ("links", "ratio_64", "receiver's cycles per packet, 64 links / 1"),
    ("detector", "flowmods_per_s", "flowmods that the detector follows per second"),
)
"""Benchmark, key, and what that is."""


def write(results: Mapping[str, Any], source: Path, page: Path, figures: Path) -> list[Path]:
    """Write the page and its figures; return the files.

    Args:
        source: the file of results, which the page names.
        figures: a folder, made if need be.

    Raises:
        CommandError: a result is of a benchmark that is not known here.
        SetupError: matplotlib or scipy is missing.
    """
    found = results["benchmarks"]
    if unknown := set(found) - set(SECTIONS):
        raise CommandError(f"{source} has results of unknown benchmarks: {', '.join(unknown)}")
    written, lines = [], _head(results, _relative(source, page))
    figures.mkdir(parents=True, exist_ok=True)
    for name, make in SECTIONS.items():
        if name not in found:
            lines += [
                f"## {name}",
                "",
                f"Not in this file; `{SUITE[name].command}` measures it.",
                "",
            ]
            continue
        section = make(found[name], found)
        files = section.draw(figures / name) if section.draw is not None else []
        written += files
        lines += _section(section, name, found[name], [_relative(file, page) for file in files])
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return [page, *written]


def _relative(path: Path, page: Path) -> str:
    return os.path.relpath(path.resolve(), page.resolve().parent)


def _head(results: Mapping[str, Any], source: str) -> list[str]:
    return [
        "# Benchmarks",
        "",
        "<!-- Made by 'highway bench report'; do not edit. -->",
        "",
        f"From [{source.rsplit('/', 1)[-1]}]({source}), machine *{results['machine_name']}*;"
        " `make bench` measures all of it again and writes this page. Alternatives take turns in"
        " one run. Numbers with ± are means with their 95 % confidence intervals (Student's t)."
        " Every result says whether it was *measured*, is *functional* (it works and counts are"
        " exact, but its speed means nothing) or *modelled*.",
        "",
        *_headlines(results),
        "",
    ]


def _headlines(results: Mapping[str, Any]) -> list[str]:
    """Return the table of what is looked at first, with an empty column for a large machine."""
    rows = []
    for name, key, what in HEADLINES:
        result = results["benchmarks"].get(name, {})
        value = result.get(name, result).get(key)
        rows.append([what, f"`{name}.{key}`", "-" if value is None else f"{value:,.2f}", ""])
    lines = table(["measure", "key", results["machine_name"], "a large machine"], rows)
    return [
        *lines,
        "",
        "Nobody has run it on a large machine yet, one with KVM, a core for every VNF and network"
        " cards: [how to](performance.md#on-a-larger-machine).",
    ]


def _section(
    section: Section, name: str, result: Mapping[str, Any], figures: list[str]
) -> list[str]:
    lines = [f"## {section.title}", "", section.shows, ""]
    if figures:
        svg, png = figures
        lines += [f"![{section.title}]({svg})", "", f"([PNG]({png}))", ""]
    lines += [*section.lines, ""]
    lines += [f"- {note}" for note in section.notes] + ([""] if section.notes else [])
    return [*lines, f"*Repeat:* `{SUITE[name].command}`. {_facts(result)}", ""]


def _facts(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    parts = [
        machine["date"][:10],
        machine["cpu"],
        f"{len(machine['cores'])} cores",
        "virtual machine" if machine["virtual"] else "",
        f"Linux {machine['kernel']}",
        f"topology of the two cores: {result['topology']}" if "topology" in result else "",
    ]
    return "*Taken:* " + ", ".join(filter(None, parts)) + "."
