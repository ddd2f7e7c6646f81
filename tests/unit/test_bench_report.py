# SPDX-License-Identifier: Apache-2.0
"""The report: intervals, the page and its figures, and files that are no results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ovs_highway.bench import lengths, machine, nic, suite
from ovs_highway.bench.machine import Placement
from ovs_highway.bench.report.interval import estimate
from ovs_highway.bench.report.sections import SECTIONS
from ovs_highway.bench.sample import Sample
from ovs_highway.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def result(*, coincide: bool = True) -> dict[str, Any]:
    """Return the result of `nic` on made-up samples."""
    rates = {"highway": 4.0, "normal": 4.1 if coincide else 9.0, "vhostuser": 2.0}
    samples: lengths.Samples = {
        way: {
            n: [
                Sample(packets=round((mpps + wobble) * 1e6 / n), seconds=1.0, disturbance=0.0)
                for wobble in (0.0, 0.2, 0.1)
            ]
            for n in (1, 2)
        }
        for way, mpps in rates.items()
    }
    return nic.report(
        samples=samples,
        facts=machine.gather(),
        placement=Placement(first=0, second=1, switch=1),
        seconds=1.0,
        rounds=3,
    )


def test_an_interval_is_as_in_the_tables() -> None:
    found = estimate([1, 2, 3, 4, 5])
    assert found.mean == 3
    # t for four degrees of freedom, 97.5 %: 2.776.
    assert found.half == pytest.approx(2.776 * 1.5811 / 5**0.5, rel=1e-3)
    assert found.text(1) == "3.0 ± 2.0"
    assert estimate([7]).text(1) == "7.0"
    with pytest.raises(ValueError, match="nothing"):
        estimate([])


def test_the_page_has_each_benchmark_or_how_to_run_it(tmp_path: Path) -> None:
    file, page, figures = tmp_path / "r.json", tmp_path / "b.md", tmp_path / "figures"
    file.write_text(
        json.dumps({"date": "2026-01-01", "machine_name": "m-2c", "benchmarks": {"nic": result()}})
    )
    words = ["bench", "report", str(file), "--page", str(page), "--figures", str(figures)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    text = page.read_text()
    for name in SECTIONS:
        assert text.count(f"`{suite.SUITE[name].command}`") == 1
    assert "coincide within their spread" in text
    assert "4.100 ± 0.248" in text
    assert "(figures/nic.svg)" in text
    assert {path.name for path in figures.iterdir()} == {"nic.svg", "nic.png"}
    assert "through the switch, vhost-user" in (figures / "nic.svg").read_text()
    assert (figures / "nic.png").stat().st_size > 10_000


def test_a_difference_with_one_vnf_is_told(tmp_path: Path) -> None:
    section = SECTIONS["nic"](result(coincide=False), {})
    assert any("do not coincide" in line for line in section.lines)


def test_all_benchmarks_have_a_section() -> None:
    assert list(SECTIONS) == list(suite.SUITE)


@pytest.mark.parametrize("text", ["", "[]", '{"benchmarks": 1}', '{"benchmarks": {"x": {}}}'])
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file, page = tmp_path / "r.json", tmp_path / "b.md"
    file.write_text(text)
    words = ["bench", "report", str(file), "--page", str(page), "--figures", str(tmp_path / "f")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code != 0
    assert not page.exists()
    assert file.read_text() == text


def test_a_result_of_another_benchmark_is_not_taken(tmp_path: Path) -> None:
    other = tmp_path / "nic.json"
    other.write_text(json.dumps(result()))
    words = ["bench", "report", str(tmp_path / "r.json"), "--take", "chain", str(other)]
    done = CliRunner().invoke(main, [*words, "--page", str(tmp_path / "b.md")])
    assert done.exit_code != 0
    assert not (tmp_path / "r.json").exists()
