# SPDX-License-Identifier: Apache-2.0
"""What every benchmark's command takes, and does before and after it measures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ovs_highway.bench.record import check_writable, write_json
from ovs_highway.bench.schedule import MIN_ROUNDS
from ovs_highway.errors import SetupError

_DEVICES: Final = Path("/sys/bus/pci/devices")

json_file = click.option(
    "--json", "path", type=click.Path(path_type=Path), help="Write the raw results to this file."
)
"""The option that names the file of raw results."""


Option = Callable[[Callable[..., None]], Callable[..., None]]


def rounds_option(
    help: str = "How often each alternative has its turn.",
    *,
    least: int = MIN_ROUNDS,
) -> Option:
    """Return the option that says how many rounds there are at least."""
    return click.option(
        "--rounds",
        type=click.IntRange(min=least),
        default=MIN_ROUNDS,
        show_default=True,
        help=help,
    )


def seconds_option(default: float, *, least: float) -> Option:
    """Return the option that says how long one measurement takes."""
    return click.option(
        "--seconds",
        type=click.FloatRange(min=least, max=600),
        default=default,
        show_default=True,
        help="How long each measurement counts.",
    )


def host_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that says how large the machine is."""
    return click.option(
        "--host",
        type=click.Choice(["small", "big"]),
        default="small",
        show_default=True,
        help="big: a core for each VNF of a chain and two for the switch, 11 cores or more.",
    )(command)


def nic_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that names network cards."""
    return click.option(
        "--nic",
        "cards",
        multiple=True,
        callback=_two_cards,
        metavar="PCI",
        help="The PCI address of a network card, bound to vfio-pci; two, which somebody else sends"
        " to at line rate. By default other ports stand in.",
    )(command)


def _two_cards(
    _: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if len(value) not in (0, 2) or len(set(value)) != len(value):
        raise click.BadParameter("name two different network cards, or none", param=parameter)
    for address in value:
        if not (_DEVICES / address).exists():
            raise click.BadParameter(
                f"there is no PCI device {address}; 'lspci -D' shows them", param=parameter
            )
    return value


def check(*files: Path | None) -> None:
    """Check, before anything is measured, that it can be, and that results can be written.

    Raises:
        SetupError: this is not root.
        CommandError: a file cannot be written.
    """
    if os.geteuid() != 0:
        raise SetupError("a benchmark needs root, for huge pages and DPDK; run it as root")
    for file in filter(None, files):
        check_writable(file)


def keep(path: Path | None, result: dict[str, Any]) -> None:
    """Write the raw results, if they are wanted.

    Raises:
        CommandError: they cannot be written.
    """
    if path is not None:
        write_json(path, result)
        click.echo(f"raw results: {path}", err=True)
