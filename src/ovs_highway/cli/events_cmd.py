# SPDX-License-Identifier: Apache-2.0
"""`highway events`: what happened to ports, links and paths, when, and why."""

from __future__ import annotations

import datetime
import json
import re
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import click

from ovs_highway import events as record
from ovs_highway import paths
from ovs_highway.cli.options import output_format, run_directory
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovs_highway.events import Event

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
KINDS: Final = ("path", "p2p", "link", "port", "vnf", "vm", "policy", "operator", "highwayd")


def register(group: click.Group) -> None:
    """Add the command to `highway`."""
    group.add_command(events)


@click.command()
@click.argument("port", required=False)
@click.option("-n", "--lines", type=click.IntRange(min=1), help="Only the last so many.")
@click.option(
    "--since", metavar="TIME", help="As in `90s`, `10m`, `2h`, `3d`, or an ISO 8601 time."
)
@click.option(
    "--kind", type=click.Choice(KINDS), multiple=True, help="Only these; may be repeated."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@output_format("json: an object per line.")
@run_directory
def events(
    port: str | None,
    lines: int | None,
    since: str | None,
    kind: tuple[str, ...],
    follow: bool,
    output: str,
    rundir: Path | None,
) -> None:
    """Show every change of path, link and port, with its time and cause; of PORT only, if named.

    Works while highwayd is away; what happened while it was is not recorded, but for what the
    operator did.
    """
    path = paths.events_file(rundir)
    earliest = _instant(since) if since else 0.0

    def chosen(event: Event) -> bool:
        named = port is None or port in event.ports
        return named and event.time >= earliest and (not kind or event.kind in kind)

    try:
        found: Iterator[Event] = filter(chosen, record.read(path))
        for event in deque(found, maxlen=lines) if lines else found:
            _show(event, output)
        if follow:
            for event in filter(chosen, record.follow(path)):
                _show(event, output)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


def _show(event: Event, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(event.json()))
        return
    when = datetime.datetime.fromtimestamp(event.time).astimezone()
    click.echo(f"{when.isoformat(sep=' ', timespec='milliseconds')}  {event.kind:<8}  {event.text}")


def _instant(text: str) -> float:
    """Return seconds since the epoch.

    Raises:
        CommandError: it is neither an age nor a time.
    """
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return time.time() - float(match[1]) * _UNITS[match[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise CommandError(
            f"{text} is no time; give an age such as 10m, or a time such as 2026-01-31T12:00"
        ) from error
