# SPDX-License-Identifier: Apache-2.0
"""`highway bench peers`: one hop beside its peers, by frame size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ovs_highway.bench import peers as suite
from ovs_highway.bench.alternatives import ALTERNATIVES
from ovs_highway.bench.hops import LONGEST
from ovs_highway.bench.sample import Sample
from ovs_highway.cli.bench_files import check, json_file, keep, rounds_option, seconds_option
from ovs_highway.cli.table import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from ovs_highway.bench.peers import Failure
    from ovs_highway.bench.schedule import Turn

_SHORTEST: Final = 60


@click.command()
@json_file
@rounds_option("How often each alternative has its turn at each size.", least=1)
@seconds_option(suite.SECONDS, least=0.2)
@click.option(
    "--sizes",
    type=click.IntRange(min=_SHORTEST, max=LONGEST),
    multiple=True,
    default=suite.SIZES,
    show_default=True,
    help="Length of frames in bytes; may be given several times.",
)
@click.option(
    "--only",
    type=click.Choice(list(ALTERNATIVES)),
    multiple=True,
    help="Measure this alternative; may be given several times.  [default: all]",
)
def peers(
    path: Path | None,
    rounds: int,
    seconds: float,
    sizes: tuple[int, ...],
    only: tuple[str, ...],
) -> None:
    """One hop over the highway beside memif, vhost-user and the machine's own limit.

    Takes a private switch, as 'highway sandbox' does, and about 20 minutes. Rates are medians of
    what receivers counted, in million packets per second.
    """
    check(path)

    def tell(turn: Turn, outcome: Sample | Failure) -> None:
        found = f"{outcome.mpps:.2f} Mpps" if isinstance(outcome, Sample) else outcome.reason
        click.echo(f"round {turn.round}: {turn.name}: {found}", err=True)

    result = suite.run(
        names=[name for name in ALTERNATIVES if not only or name in only],
        sizes=sorted(set(sizes)),
        rounds=rounds,
        seconds=seconds,
        tell=tell,
    )
    _print(result)
    keep(path, result)


def _print(result: dict[str, Any]) -> None:
    sizes = [str(size) for size in result["sizes"]]
    alternatives = result["alternatives"]
    rows = [
        [name, *(_cell(each["sizes"][size]["mpps"]) for size in sizes), each["what"]]
        for name, each in alternatives.items()
    ]
    print_table(["Mpps, quartiles", *(f"{size} B" for size in sizes), "what"], rows)
    click.echo()
    rows = [
        [
            f"{each['first']} / {each['second']}",
            str(each["bytes"]),
            "-" if each["value"] is None else f"{each['value']:.2f}",
            each["name"],
            f"{each['topology']} (cores {', '.join(map(str, each['cores']))})",
            "-" if each["round_trip_ns"] is None else f"{each['round_trip_ns']:.0f} ns",
        ]
        for each in result["ratios"]
    ]
    print_table(["ratio", "bytes", "", "name", "cores", "round trip"], rows)
    for name, each in alternatives.items():
        for size, found in each["sizes"].items():
            if found["mpps"] is None:
                click.echo(f"{name} cannot carry {size} bytes: {found['reason']}")
    for note in result["notes"]:
        click.echo(f"note: {note}")


def _cell(mpps: dict[str, Any] | None) -> str:
    if mpps is None:
        return "-"
    return f"{mpps['median']:.2f} ({mpps['q1']:.2f} to {mpps['q3']:.2f})"
