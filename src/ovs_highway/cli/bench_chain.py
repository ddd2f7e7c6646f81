# SPDX-License-Identifier: Apache-2.0
"""`highway bench chain`, `nic` and `latency`: chains of VNFs, direct and through the switch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ovs_highway.bench import chain as chains
from ovs_highway.bench import chain_vm
from ovs_highway.bench import latency as latencies
from ovs_highway.bench import nic as between_nics
from ovs_highway.cli.bench_files import (
    Option,
    check,
    host_option,
    json_file,
    keep,
    nic_option,
    rounds_option,
    seconds_option,
)
from ovs_highway.cli.table import print_table
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SECONDS: Final = 2.0


def _lengths_option(lengths: Sequence[int]) -> Option:
    return click.option(
        "--lengths",
        type=click.IntRange(min=lengths[0], max=lengths[-1]),
        multiple=True,
        default=lengths,
        show_default=True,
        help="How many VNFs; may be given several times.",
    )


@click.command()
@json_file
@_lengths_option(chains.LENGTHS)
@rounds_option("How often each way has its turn at each length.", least=1)
@seconds_option(_SECONDS, least=0.5)
@host_option
@click.option(
    "--vnf",
    type=click.Choice(["process", "vm"]),
    default="process",
    show_default=True,
    help="vm: as many guests of 'make guest-image' as the greatest length says, direct only:"
    " whether all links are direct, and all counters exact.",
)
def chain(
    path: Path | None,
    lengths: Sequence[int],
    rounds: int,
    seconds: float,
    host: str,
    vnf: str,
) -> None:
    """Chains of VNFs, memory only, both directions at once: direct, and through the switch.

    The paper's figure 3(a). All VNFs share one core, the switch has another. Takes private
    switches, as 'highway sandbox' does, and for all lengths some 5 minutes a round.
    """
    check(path)
    if vnf == "vm":
        _chain_of_vms(path, max(lengths), seconds)
        return
    result = chains.run(
        lengths=sorted(set(lengths)),
        rounds=rounds,
        seconds=seconds,
        tell=_tell,
        large=host == "big",
    )
    _print(result, "bound")
    for way, model in result["model"].items():
        errors = ", ".join(f"{error:+.0%} at {n}" for n, error in model["errors"].items())
        click.echo(f"model of {way}: {errors}: " + ("holds" if model["holds"] else "not printed"))
    keep(path, result)


def _chain_of_vms(path: Path | None, length: int, seconds: float) -> None:
    result = chain_vm.run(length=length, seconds=seconds, tell=_tell)
    rows = [
        [f"{one['from']} to {one['to']}", one["sent"], one["received"], one["flow"]]
        for one in result["counts"]
    ]
    print_table(["hop", "sent", "received", "flow"], rows)
    click.echo(f"{result['mpps']:.3f} Mpps ({result['label']})")
    keep(path, result)
    if not (result["exact"] and result["direct"]):
        what = "not all counts are exact" if result["direct"] else "frames passed the switch"
        raise CommandError(f"{what}; see the table above, and run it again")


@click.command()
@json_file
@_lengths_option(between_nics.LENGTHS)
@rounds_option("How often each way has its turn at each length.", least=1)
@seconds_option(_SECONDS, least=0.5)
@host_option
@nic_option
def nic(
    path: Path | None,
    lengths: Sequence[int],
    rounds: int,
    seconds: float,
    host: str,
    cards: tuple[str, ...],
) -> None:
    """Chains of VNFs between two ports that stand in for 10 GbE.

    The paper's figure 3(b). All VNFs share one core, the switch has another. Takes private
    switches, as 'highway sandbox' does, and for all lengths some 5 minutes a round.
    """
    check(path)
    result = between_nics.run(
        lengths=sorted(set(lengths)),
        rounds=rounds,
        seconds=seconds,
        tell=_tell,
        large=host == "big",
        cards=cards,
    )
    _print(result)
    if result["coincide"] is not None:
        verdict = "coincide" if result["coincide"] else "do NOT coincide"
        click.echo(f"with one VNF, direct and normal {verdict} within their spread")
    keep(path, result)


@click.command()
@json_file
@_lengths_option(latencies.LENGTHS)
@rounds_option("How often each way has its turn at each length.", least=1)
@seconds_option(_SECONDS, least=0.5)
def latency(path: Path | None, lengths: Sequence[int], rounds: int, seconds: float) -> None:
    """How long frames are under way: one hop of a pinned VNF, and chains on one core.

    Takes private switches, as 'highway sandbox' does, and for all lengths some 5 minutes a round.
    Needs a source tree with what 'make build' builds.
    """
    check(path)
    result = latencies.run(lengths=sorted(set(lengths)), rounds=rounds, seconds=seconds, tell=_tell)
    rows = [
        [f"{way}, {path_name.replace('_', ' ')}", load, f"{found['rate'] / 1e6:.2f}"]
        + [found[f"p{percent:g}_ns"] for percent in latencies.PERCENTILES]
        for way, each in result["ways"].items()
        for path_name in latencies.PATHS
        for load, found in each["pinned"][path_name].items()
        if load != "most"
    ]
    names = [f"p{percent:g}, ns" for percent in latencies.PERCENTILES]
    print_table(["pinned", "load", "Mpps", *names], rows)
    for note in result["notes"]:
        click.echo(f"note: {note}")
    keep(path, result)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _print(result: Mapping[str, Any], *more: str) -> None:
    lengths = list(next(iter(result["ways"].values()))["lengths"])
    rows = [
        [
            n,
            *(f"{way['lengths'][n]['mpps']['median']:.3f}" for way in result["ways"].values()),
            *(_ratio(result[f"{key}_{n}"]) for key in ("ratio", *more)),
        ]
        for n in lengths
    ]
    print_table(["VNFs", *(f"{way}, Mpps" for way in result["ways"]), "ratio", *more], rows)
    for note in result["notes"]:
        click.echo(f"note: {note}")


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
