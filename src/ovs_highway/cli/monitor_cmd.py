# SPDX-License-Identifier: Apache-2.0
"""`highway monitor`: the life of links as it happens.

It reads the record of `highway events`, where these events stand among others, and names the stage
that each means for a link.
"""

from __future__ import annotations

import datetime
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from ovs_highway import events as record
from ovs_highway import paths
from ovs_highway.cli.options import output_format, run_directory
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from ovs_highway.events import Event

STAGES: Final = (
    "proven",
    "disproved",
    "requested",
    "plugged",
    "active",
    "withdrawn",
    "unplugged",
)
_LINK_STAGES: Final = {"region made": "requested", "active": "plugged", "removed": "unplugged"}


def register(group: click.Group) -> None:
    """Add the command to `highway`."""
    group.add_command(monitor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step in the life of a link: of a direction if `directed`, else of the pair."""

    time: float
    stage: str
    ports: tuple[str, ...]
    directed: bool
    cause: str

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "time": round(self.time, 6),
            "stage": self.stage,
            "ports": [*self.ports],
            "directed": self.directed,
            "cause": self.cause,
        }

    def line(self) -> str:
        """Return it as a line for people."""
        when = datetime.datetime.fromtimestamp(self.time).astimezone()
        between = " to " if self.directed else " - "
        stamp = when.isoformat(sep=" ", timespec="milliseconds")
        return f"{stamp}  {self.stage:<9}  {between.join(self.ports)}: {self.cause}"


class Steps:
    """Tells which step an event is; it remembers which directions are active."""

    def __init__(self) -> None:
        self._active: set[tuple[str, ...]] = set()

    def step(self, event: Event) -> Step | None:
        """Return the step that an event is, None if it is none."""
        cause = event.text.partition(": ")[2]
        stage = self._stage(event)
        if stage is None:
            return None
        reason = event.details.get("reason")
        return Step(
            time=event.time,
            stage=stage,
            ports=event.ports,
            directed=event.kind != "link",
            cause=str(reason or cause),
        )

    def _stage(self, event: Event) -> str | None:
        state = event.details.get("state")
        if event.kind == "link":
            return _LINK_STAGES.get(str(event.details.get("phase")))
        if event.kind == "p2p":
            return str(state) if state in STAGES else None
        if event.kind != "path":
            return None
        before = event.ports in self._active
        if state == "bypass":
            self._active.add(event.ports)
            return None if before else "active"
        self._active.discard(event.ports)
        return "withdrawn" if before else None


@click.command()
@click.argument("port", required=False)
@click.option("--past", is_flag=True, help="First what is in the record of events already.")
@output_format("json: an object per line.")
@run_directory
def monitor(port: str | None, past: bool, output: str, rundir: Path | None) -> None:
    """Show links come and go, with time and cause; of PORT only, if named.

    proven, disproved: all that a port sends goes to one other, or no longer does. requested: the
    link's memory is made. plugged: both VNFs have it. active: a direction is used. withdrawn: it no
    longer is. unplugged: the link is gone.
    """
    path = paths.events_file(rundir)
    steps = Steps()
    began = time.time()
    try:
        for event in record.follow(path, history=True):
            step = steps.step(event)
            wanted = step is not None and (port is None or port in step.ports)
            if step is not None and wanted and (past or step.time >= began):
                click.echo(json.dumps(step.json()) if output == "json" else step.line())
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
