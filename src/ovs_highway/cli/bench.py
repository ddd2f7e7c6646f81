# SPDX-License-Identifier: Apache-2.0
"""`highway bench`: measure the highway and its peers on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ovs_highway.bench import detector as detecting
from ovs_highway.bench import quick as suite
from ovs_highway.bench import setup as setting_up
from ovs_highway.bench import soak as soaking
from ovs_highway.bench import switchover as changes
from ovs_highway.bench import vm as virtual
from ovs_highway.bench.report import figures
from ovs_highway.bench.schedule import MIN_ROUNDS
from ovs_highway.cli.bench_all import everything, report
from ovs_highway.cli.bench_chain import chain, latency, nic
from ovs_highway.cli.bench_files import check, json_file, keep, rounds_option, seconds_option
from ovs_highway.cli.bench_path import cycles, links, queues, rules
from ovs_highway.cli.bench_peers import peers
from ovs_highway.cli.table import print_table
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from ovs_highway.bench.sample import Sample
    from ovs_highway.bench.schedule import Turn

_SECONDS: Final = 2.0
_LONG: Final = 10


@click.group()
def bench() -> None:
    """Measure the highway and its peers, side by side."""


@bench.command()
@json_file
@rounds_option()
@seconds_option(_SECONDS, least=0.5)
def quick(path: Path | None, rounds: int, seconds: float) -> None:
    """Bypass beside memif, normal channel beside vhost-user: 64-byte packets, stock testpmd.

    Takes a private switch, as 'highway sandbox' does, and a few minutes. Rates are medians of
    what receivers counted, in million packets per second.
    """
    check(path)

    def tell(turn: Turn, sample: Sample) -> None:
        line = f"round {turn.round}: {turn.name} {sample.mpps:.2f} Mpps"
        click.echo(line, err=True)

    result = suite.run(rounds=rounds, seconds=seconds, tell=tell)
    _print(result)
    keep(path, result)


@bench.command()
@json_file
@click.option(
    "--packets",
    type=click.IntRange(min=1),
    default=100_000_000,
    show_default=True,
    help="Packets at least.",
)
@click.option(
    "--switchovers",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Changes of channel of each kind at least.",
)
@click.option("--long", is_flag=True, help="Ten times as much.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of changes and frame sizes.")
def switchover(path: Path | None, packets: int, switchovers: int, long: bool, seed: int) -> None:
    """Whether changes of channel lose, double or reorder packets, under full load.

    Takes a private switch, as 'highway sandbox' does, and some minutes. A tenth of it is repeated
    with the order switched off ("naive"), where the test has to find packets that were overtaken.
    Needs a source tree with what 'make build' builds. Fails if packets were lost, doubled or
    reordered, or if the naive run shows nothing.
    """
    check(path)
    factor = _LONG if long else 1
    result = changes.run(
        packets=packets * factor,
        switchovers=switchovers * factor,
        seed=seed,
        tell=lambda text: click.echo(text, err=True),
    )
    names = ("switchovers", "packets", "lost", "doubled", "reordered", "refused", "longest_gap_us")
    rows = [
        [label, *(run[name] for name in names)]
        for label, run in (("ordered", result), ("naive", result["naive"]))
    ]
    print_table(["", *(name.replace("_", " ") for name in names)], rows)
    keep(path, result)
    if found := changes.faults(result):
        raise CommandError(f"{'; '.join(found)}; see the notes in the JSON file, and run it again")


@bench.command()
@json_file
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="How long.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of what happens.")
def soak(path: Path | None, minutes: float, seed: int) -> None:
    """Whether all stays well while flows, VNFs, ports, MTU and policy change all the time.

    Takes a private switch, as 'highway sandbox' does. Needs a source tree with what 'make build'
    builds. Fails if anything was violated.
    """
    check(path)
    result = soaking.run(minutes=minutes, seed=seed, tell=lambda text: click.echo(text, err=True))
    for key in ("minutes", "events", "packets", "violations"):
        click.echo(f"{key}: {result[key]}")
    keep(path, result)
    if result["violations"]:
        first = result["violations_text"][0]
        raise CommandError(f"{result['violations']} violations; the first: {first}")


@bench.command()
@json_file
@click.option(
    "--links",
    type=click.IntRange(min=virtual.MIN_LINKS),
    default=virtual.MIN_LINKS,
    show_default=True,
    help="How often a link is made.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=600),
    default=_SECONDS,
    show_default=True,
    help="How long each rate is measured.",
)
def vm(path: Path | None, links: int, seconds: float) -> None:
    """How long a link between two virtual machines takes to make, and what it carries.

    Takes a private switch, as 'highway sandbox' does, and two guests of 'make guest-image'.
    """
    check(path)
    result = virtual.run(
        links=links,
        seconds=seconds,
        rounds=MIN_ROUNDS,
        tell=lambda text: click.echo(text, err=True),
    )
    rows = [[name, found["p50"], found["p99"]] for name, found in result["set_up"].items()]
    print_table(["set-up of a link", "p50", "p99"], rows)
    for name, found in result["mpps"].items():
        click.echo(f"{name}: {found['median']:.3f} Mpps ({result['label']})")
    keep(path, result)


@bench.command()
@json_file
@click.option(
    "--flows",
    type=click.IntRange(min=1000),
    default=detecting.FLOWS,
    show_default=True,
    help="How large the flow table is.",
)
@click.option(
    "--runs", type=click.IntRange(min=1), default=3, show_default=True, help="How often each."
)
def detector(path: Path | None, flows: int, runs: int) -> None:
    """How fast the p-2-p detector reads large flow tables and follows their changes.

    Takes a private switch, as 'highway sandbox' does, and a minute or two.
    """
    check(path)
    result = detecting.run(flows=flows, runs=runs, tell=lambda text: click.echo(text, err=True))
    for key in (
        "sync_100k_s",
        "sync_100k_mib",
        "flowmods_per_s",
        "decision_p50_ms",
        "decision_p99_ms",
        "flowmod_to_decision_p99_ms",
    ):
        click.echo(f"{key}: {result[key]}")
    keep(path, result)


@bench.command()
@json_file
@click.option(
    "--plot",
    "base",
    type=click.Path(path_type=Path),
    help="Write plots to this name with .svg and .png; needs matplotlib.",
)
@click.option(
    "--tries",
    type=click.IntRange(min=setting_up.MIN_TRIES),
    default=setting_up.MIN_TRIES,
    show_default=True,
    help="How often, with and without the detector each.",
)
def setup(path: Path | None, base: Path | None, tries: int) -> None:
    """How long after a flowmod the bypass is used, and left, with and without the detector.

    Takes a private switch, as 'highway sandbox' does, and some minutes. Needs a source tree with
    what 'make build' builds.
    """
    check(path, base)
    result = setting_up.run(tries=tries, tell=lambda text: click.echo(text, err=True))
    names = ("setup_p50_ms", "setup_p99_ms", "withdraw_p50_ms", "withdraw_p99_ms")
    rows = [
        [label, *(side[name] for name in names)]
        for label, side in (
            ("with the detector", result),
            ("without", result["without_detector"]),
        )
    ]
    print_table(["", *(name.replace("_", " ") for name in names)], rows)
    keep(path, result)
    if base is not None:
        for file in figures.setup(result, base):
            click.echo(f"plot: {file}", err=True)


def _print(result: dict[str, Any]) -> None:
    rows = []
    for name, found in result["alternatives"].items():
        mpps = found["mpps"]
        rows.append(
            [
                name,
                f"{mpps['median']:.2f}",
                f"{mpps['q1']:.2f} to {mpps['q3']:.2f}",
                f"{mpps['low']:.2f} to {mpps['high']:.2f}",
                found["what"],
            ]
        )
    print_table(["", "Mpps", "quartiles", "range", "what"], rows)
    for first, second in (("bypass", "memif"), ("normal", "vhostuser")):
        ratio = result[f"ratio_{first}_{second}"]
        click.echo(f"{first} / {second}: " + ("-" if ratio is None else f"{ratio:.2f}"))
    for note in result["notes"]:
        click.echo(f"note: {note}")


for command in (everything, report, chain, nic, latency, peers, cycles, rules, links, queues):
    bench.add_command(command)


def register(group: click.Group) -> None:
    """Add the command to a group."""
    group.add_command(bench)
