# SPDX-License-Identifier: Apache-2.0
"""The page: `docs/benchmarks.md`, made from one file of results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ovs_highway.bench.report.sections import SECTIONS
from ovs_highway.bench.suite import SUITE
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ovs_highway.bench.report.sections import Section


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
        section = make(found[name])
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
        "| machine | results |",
        "|---|---|",
        f"| {results['machine_name']} | below |",
        "| a large one, with KVM and network cards | nobody has run it there yet:"
        " [how to](performance.md#on-a-larger-machine) |",
        "",
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
