# SPDX-License-Identifier: Apache-2.0
"""`highway bench all` and `report`: the whole evaluation, and the page about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovs_highway.bench import machine, record, suite, testbed
from ovs_highway.bench.report import write
from ovs_highway.cli.bench_files import check, host_option, nic_option, rounds_option
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_file = click.argument("file", type=click.Path(path_type=Path))


@click.command("all")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="bench/results")
@click.option(
    "--only",
    type=click.Choice(list(suite.SUITE)),
    multiple=True,
    help="Run this benchmark; may be given several times.  [default: all]",
)
@rounds_option("How often each alternative has its turn.", least=1)
@host_option
@nic_option
def everything(
    folder: Path, only: Sequence[str], rounds: int, host: str, cards: tuple[str, ...]
) -> None:
    """Run all benchmarks; write FOLDER/<date>-<machine>.json after each of them.

    Takes private switches, as 'highway sandbox' does, and some hours. A benchmark that is run again
    on the same day takes the place of its result.
    """
    facts = machine.gather()
    path = folder / f"{facts.date[:10]}-{suite.machine_name(facts)}.json"
    check(path)
    if host == "big":
        testbed.begin_large()  # before hours of measuring
    given = suite.Settings(rounds=rounds, large=host == "big", cards=cards)
    results = suite.load(path)
    for name, benchmark in suite.SUITE.items():
        if only and name not in only:
            continue

        def tell(text: str, name: str = name) -> None:
            click.echo(f"{name}: {text}", err=True)

        results["benchmarks"][name] = benchmark.run(given, tell)
        record.write_json(path, results)
    click.echo(path)


@click.command()
@_file
@click.option(
    "--take",
    "taken",
    type=(click.Choice(list(suite.SUITE)), click.Path(path_type=Path)),
    multiple=True,
    metavar="NAME FILE",
    help="Take a benchmark's result from the file of its own run; may be given several times.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default="docs/benchmarks.md",
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    default="docs/figures",
    show_default=True,
    help="The folder for its figures.",
)
def report(file: Path, taken: Sequence[tuple[str, Path]], page: Path, figures: Path) -> None:
    """Make the page of benchmarks and its figures from FILE, which 'highway bench all' wrote.

    Needs matplotlib and scipy.
    """
    record.check_writable(page)
    if not file.exists() and not taken:
        raise CommandError(f"there is no {file}; 'highway bench all' writes such files")
    results: dict[str, Any] = suite.load(file)
    for name, path in taken:
        suite.take(results, name, path)
    if taken:
        record.write_json(file, results)
    for written in write(results, file, page, figures):
        click.echo(written)
