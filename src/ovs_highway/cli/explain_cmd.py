# SPDX-License-Identifier: Apache-2.0
"""`highway explain`: where a port's traffic goes, why, and what would have to change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ovs_highway import paths, unixctl
from ovs_highway.cli.model import Source
from ovs_highway.cli.options import output_format, run_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovs_highway.view import Direction


def register(group: click.Group) -> None:
    """Add the command to `highway`."""
    group.add_command(explain)


@click.command()
@click.argument("port")
@click.option(
    "--packet",
    metavar="MATCH",
    help="Only packets of this kind, as in `udp,tp_dst=80`; all others are left out.",
)
@output_format()
@run_directory
def explain(port: str, packet: str | None, output: str, rundir: Path | None) -> None:
    """Tell where the traffic of PORT goes and which flows decide that.

    Whether all of it goes to one other port (p-2-p), and why not; whether it takes the bypass now,
    and what would have to change.
    """
    bits = (0, 0)
    if packet is not None:
        from ovs_highway.cli.packet import packet_bits  # slow to import

        bits = packet_bits(packet)
    rundir = rundir or paths.rundir()
    told = json.loads(
        unixctl.call(paths.control_socket(rundir), "highway/explain", port, *map(hex, bits))
    )
    with Source(rundir) as source:
        ways = [way for way in source.view().directions() if way.sender == port]
    told |= {"packet": packet, "links": [_way_json(way) for way in ways]}
    if output == "json":
        click.echo(json.dumps(told, indent=2))
        return
    for line in _lines(told, ways):
        click.echo(line)


def _way_json(way: Direction) -> dict[str, Any]:
    return {
        "to": way.receiver,
        "state": way.state,
        "rules": way.rules,
        "reason": way.reason,
        "checked": way.checked,
        "counted": way.counted,
    }


def _lines(told: dict[str, Any], ways: list[Direction]) -> Iterator[str]:
    yield f"Port {told['port']} (bridge {told['bridge']}, ofport {told['ofport']})"
    what = "all that it sends" if told["packet"] is None else f"what it sends as {told['packet']}"
    if told["peer"] is not None:
        yield f"    {what} goes to {told['peer']}, unchanged and nowhere else: p-2-p"
    else:
        yield f"    {what} is not p-2-p: {told['reason']}"
        if told["advice"]:
            yield f"    to change that: {told['advice']}"
    if told["flows"]:
        yield "    the flows that decide it:" if told["peer"] else "    flows looked at:"
        for flow in told["flows"]:
            yield f"        {flow}"
        if told["more_flows"]:
            yield f"        and {told['more_flows']} more"
    if told["policy"]:
        yield f"    its bypass is off: {told['policy']}"
    for way in ways:
        who = f"{way.receiver} checks and counts it"
        checked = f", {who}" if way.counted else ", checked" if way.checked else ""
        if way.state == "bypass":
            yield f"    bypass to {way.receiver} now: yes, rules in force: {way.rules}{checked}"
        elif way.state == "idle":
            yield f"    bypass to {way.receiver} now: ready, no traffic has asked for it yet"
        else:
            yield f"    bypass to {way.receiver} now: no: {way.reason}"
    if not ways:
        yield "    bypass now: none; no rule asks for a link"
