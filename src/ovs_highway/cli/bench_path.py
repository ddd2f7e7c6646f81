# SPDX-License-Identifier: Apache-2.0
"""`highway bench cycles`, `rules`, `links`, `queues`: what the hot path costs, in cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ovs_highway.bench import cycles as crossing
from ovs_highway.bench import links as peers
from ovs_highway.bench import queues as lanes
from ovs_highway.bench import rules as classes
from ovs_highway.cli.bench_files import check, json_file, keep, rounds_option, seconds_option
from ovs_highway.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ovs_highway.bench.path import PathSample
    from ovs_highway.bench.schedule import Turn

_SECONDS: Final = 0.5


def _options(command: Callable[..., None]) -> Callable[..., None]:
    return json_file(rounds_option()(seconds_option(_SECONDS, least=0.1)(command)))


@click.command()
@_options
def cycles(path: Path | None, rounds: int, seconds: float) -> None:
    """What a packet costs in the driver, sent and received: 64 and 1500 bytes, from core to core.

    Takes a private switch, as 'highway sandbox' does, and a minute. Needs a source tree with what
    'make build' builds.
    """
    _measure(crossing.run, path, rounds, seconds)


@click.command()
@_options
def rules(path: Path | None, rounds: int, seconds: float) -> None:
    """What a packet costs with 0 to 1,000 rules of 1 to 8 masks.

    Takes a private switch, as 'highway sandbox' does, and about ten minutes. Needs a source tree
    with what 'make build' builds.
    """
    _measure(classes.run, path, rounds, seconds)


@click.command()
@_options
def links(path: Path | None, rounds: int, seconds: float) -> None:
    """What a packet costs at a receiver with 1 to 64 links, of which one carries all packets.

    Takes a private switch, as 'highway sandbox' does, and about five minutes. Needs a source tree
    with what 'make build' builds.
    """
    _measure(peers.run, path, rounds, seconds)


@click.command()
@_options
def queues(path: Path | None, rounds: int, seconds: float) -> None:
    """What a packet costs where one core serves 1 to 4 queues.

    Takes a private switch, as 'highway sandbox' does, and two minutes. Needs a source tree with
    what 'make build' builds.
    """
    _measure(lanes.run, path, rounds, seconds)


def _measure(
    run: Callable[..., dict[str, Any]], path: Path | None, rounds: int, seconds: float
) -> None:
    check(path)
    result = run(rounds=rounds, seconds=seconds, tell=_tell)
    _print(result)
    keep(path, result)


def _tell(turn: Turn, found: PathSample) -> None:
    trip = "" if found.round_trip_ns is None else f", round trip {found.round_trip_ns:.0f} ns"
    click.echo(
        f"round {turn.round}: {turn.name}: {found.tx:.1f} cycles to send, {found.rx:.1f} to"
        f" receive, {found.mpps:.2f} Mpps{trip}",
        err=True,
    )


def _print(result: dict[str, Any]) -> None:
    rows = []
    for name, found in result["alternatives"].items():
        cycles_of = found["cycles_per_packet"]
        rows.append(
            [
                name,
                *(_cell(cycles_of[side]) for side in ("tx", "rx", "rx_tx")),
                _cell(found["mpps"], digits=2),
            ]
        )
    print_table(["cycles per packet, quartiles", "tx", "rx", "rx + tx", "Mpps"], rows)
    figures = result[result["benchmark"]]
    trip = figures["round_trip_ns"]
    cores = f"{figures['topology']}" + ("" if trip is None else f", round trip {trip:.0f} ns")
    for name, value in figures.items():
        if isinstance(value, float) and name != "round_trip_ns":
            click.echo(f"{name}: {value:.2f} ({cores})")
    for note in result["notes"]:
        click.echo(f"note: {note}")


def _cell(found: dict[str, Any], digits: int = 1) -> str:
    median, first, third = (f"{found[key]:.{digits}f}" for key in ("median", "q1", "q3"))
    return f"{median} ({first} to {third})"
