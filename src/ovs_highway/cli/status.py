# SPDX-License-Identifier: Apache-2.0
"""`highway show`, `links`, `rules`, `off` and `on`.

They work on the regions directly, so they work while highwayd is away.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, Final

import click

from ovs_highway import paths
from ovs_highway.cli.match import format_match
from ovs_highway.cli.model import Source
from ovs_highway.cli.options import output_format, run_directory
from ovs_highway.cli.table import print_table, rate
from ovs_highway.errors import CommandError
from ovs_highway.events import Event, EventLog
from ovs_highway.shm import Off
from ovs_highway.view import SUPPRESSED, Direction, PortView, View, off_reasons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., object])

_INDENT: Final = "    "


def register(group: click.Group) -> None:
    """Add the commands of this module to `highway`."""
    for command in (show, links, rules, off, on):
        group.add_command(command)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _agent_json(view: View) -> dict[str, Any]:
    agent = view.agent
    return {"running": agent.running, "pid": agent.pid, "ovsdb": agent.ovsdb}


def _agent_line(view: View) -> str:
    agent = view.agent
    if not agent.running:
        return "highwayd: not running"
    database = "" if agent.ovsdb else ", without the OVS database"
    return f"highwayd: running, pid {agent.pid}{database}"


# show ------------------------------------------------------------------------------------------


@click.command()
@output_format()
@run_directory
def show(output: str, rundir: Path | None) -> None:
    """Show ports, who is attached to them, and their links."""
    with Source(rundir) as source:
        view = source.view()
    directions = view.directions()
    if output == "json":
        ports = [_port_json(view, port, directions) for port in view.ports.values()]
        _print_json({"highwayd": _agent_json(view), "ports": ports})
        return
    click.echo(_agent_line(view))
    bridges: dict[str, list[PortView]] = {}
    for port in view.ports.values():
        bridges.setdefault(_agent_port(view, port).get("bridge") or "", []).append(port)
    for bridge, members in sorted(bridges.items()):
        click.echo(f"Bridge {bridge}" if bridge else "Bridge not known")
        for port in members:
            for line in _port_lines(view, port, directions):
                click.echo(f"{_INDENT}{line}")


def _agent_port(view: View, port: PortView) -> dict[str, Any]:
    return dict(view.agent.ports.get(port.name, {}))


def _port_json(view: View, port: PortView, directions: list[Direction]) -> dict[str, Any]:
    told = _agent_port(view, port)
    return {
        "name": port.name,
        "bridge": told.get("bridge"),
        "interface": told.get("interface"),
        "ofport": told.get("ofport"),
        "region_id": f"{port.region_id:016x}",
        "queues": port.n_queues,
        "mode": "off" if off_reasons(port) else told.get("mode"),
        "trust": told.get("trust"),
        "stats": told.get("stats"),
        "reasons": off_reasons(port),
        "switch": {
            "attached": port.switch.attached,
            "pid": port.switch.pid,
            "link_up": port.switch.link_up,
            "max_frame": port.switch.max_frame,
            "rules_live": port.switch.rules_live,
            "rules_inert": port.switch.rules_inert,
            "rules_refused": port.switch.rules_refused,
            "rx_packets": port.switch.rx_packets,
            "rx_bytes": port.switch.rx_bytes,
            "tx_packets": port.switch.tx_packets,
            "tx_bytes": port.switch.tx_bytes,
            "bypass_rx_packets": port.switch.bypass_rx_packets,
            "bypass_rx_bytes": port.switch.bypass_rx_bytes,
            "bypass_tx_packets": port.switch.bypass_tx_packets,
            "bypass_tx_bytes": port.switch.bypass_tx_bytes,
            "unclaimed_packets": port.switch.unclaimed_packets,
            "errors": port.switch.errors,
        },
        "vnf": {
            "attached": port.vnf.attached,
            "started": port.vnf.started,
            "pid": told.get("vnf_pid") or port.vnf.pid,
            "driver": port.vnf.driver,
            "rxq": port.vnf.n_rxq,
            "txq": port.vnf.n_txq,
            "errors": port.vnf.errors,
        },
        "links": [
            {
                "to": way.receiver,
                "state": way.state,
                "checked": way.checked,
                "counted": way.counted,
                "reason": way.reason,
            }
            for way in directions
            if way.sender == port.name
        ],
    }


def _port_lines(view: View, port: PortView, directions: list[Direction]) -> Iterator[str]:
    told = _agent_port(view, port)
    notes = [f"ofport {told['ofport']}"] if told.get("ofport") is not None else []
    if told.get("interface") not in (None, port.name):
        notes.append(f"interface {told['interface']}")
    yield f"Port {port.name}" + (f" ({', '.join(notes)})" if notes else "")
    switch, vnf = port.switch, port.vnf
    if switch.attached:
        state = "up" if switch.link_up else "down"
        counts = f"{switch.rules_live} rules in force, {switch.rules_inert} inert"
        yield f"{_INDENT}switch: pid {switch.pid}, {state}, {counts}"
    else:
        yield f"{_INDENT}switch: no ovs-vswitchd attached"
    if vnf.attached:
        pid = told.get("vnf_pid") or vnf.pid
        state = f"started, {vnf.n_rxq} rxq, {vnf.n_txq} txq" if vnf.started else "not started"
        yield f"{_INDENT}VNF: pid {pid}, {state}, {vnf.driver or 'driver not named'}"
    else:
        yield f"{_INDENT}VNF: none attached"
    reasons = off_reasons(port)
    yield f"{_INDENT}mode: " + (f"off ({'; '.join(reasons)})" if reasons else _mode(told))
    for way in directions:
        if way.sender == port.name:
            reason = f" ({way.reason})" if way.reason else ""
            yield f"{_INDENT}link to {way.receiver}: {_state(way)}{reason}"


def _mode(told: dict[str, Any]) -> str:
    if not told.get("mode"):
        return "not known"
    label = f"trust label {told['trust']}" if told.get("trust") else "no trust label"
    stats = ", counts what is sent to it" if told.get("stats") == "receiver" else ""
    return f"{told['mode']}, {label}{stats}"


def _state(way: Direction) -> str:
    checked = ", checked and counted" if way.counted else ", checked" if way.checked else ""
    return f"{way.state}{checked}"


# links -----------------------------------------------------------------------------------------


@click.command()
@output_format()
@click.option(
    "--interval",
    type=click.FloatRange(min=0.0, max=60.0),
    default=0.5,
    show_default=True,
    help="Seconds between the two samples of rates; 0: no rates.",
)
@run_directory
def links(output: str, interval: float, rundir: Path | None) -> None:
    """Show the links, one line per direction: counts, rates, and why a link is off.

    Packets and bytes are what the receiver took from the bypass since the link was made.
    """
    with Source(rundir) as source:
        began = time.monotonic()
        before = source.received() if interval else {}
        if before:
            time.sleep(interval)
        view = source.view()
        seconds = time.monotonic() - began
    rows = []
    for way in view.directions():
        pps, bps = 0.0, 0.0
        if way.link_id in before:
            old = before[way.link_id][0 if way.receiver < way.sender else 1]
            pps = max(0.0, (way.packets - old[0]) / seconds)
            bps = max(0.0, (way.bytes - old[1]) * 8 / seconds)
        rows.append((way, pps, bps))
    if output == "json":
        found = [
            {
                "from": way.sender,
                "to": way.receiver,
                "state": way.state,
                "rules": way.rules,
                "packets": way.packets,
                "bytes": way.bytes,
                "pps": round(pps, 1),
                "bps": round(bps, 1),
                "reason": way.reason,
                "checked": way.checked,
                "counted": way.counted,
                "link_id": None if way.link_id is None else f"{way.link_id:016x}",
            }
            for way, pps, bps in rows
        ]
        _print_json({"highwayd": _agent_json(view), "links": found})
        return
    if not view.agent.running:
        click.echo(_agent_line(view))
    if not rows:
        click.echo("there are no links, and no rule asks for one")
        return
    print_table(
        ["from", "to", "state", "rules", "packets", "bytes", "packet rate", "bit rate", "reason"],
        [
            [
                way.sender,
                way.receiver,
                _state(way),
                way.rules,
                way.packets,
                way.bytes,
                rate(pps, "pps"),
                rate(bps, "bit/s"),
                way.reason,
            ]
            for way, pps, bps in rows
        ],
    )


# rules -----------------------------------------------------------------------------------------


@click.command()
@click.argument("port")
@output_format()
@click.option("--all", "ended", is_flag=True, help="Also rules that were withdrawn.")
@run_directory
def rules(port: str, output: str, ended: bool, rundir: Path | None) -> None:
    """Show the bypass rules of PORT: what goes directly to which peer.

    A rule in force is `live` when the link to its peer is used, and `waiting` while the traffic
    it matches takes the normal channel.
    """
    with Source(rundir) as source:
        region = source.port(port)
        view = source.view()
        found = region.rules(ended=ended)
    ways = {way.receiver: way for way in view.directions() if way.sender == port}
    names = {other.region_id: other.name for other in view.ports.values()}
    rows = []
    for rule in found:
        peer = names.get(rule.peer_id, rule.peer_name)
        way = ways.get(peer) if rule.peer_id in names else None
        reason = way.reason if way else f"port {peer} was deleted"
        if rule.suppressed:
            reason = reason or SUPPRESSED
        state = "ended" if not rule.live else "waiting" if reason else "live"
        match = format_match(rule.key, rule.mask)
        rows.append((rule, peer, state, match, reason if state == "waiting" else ""))
    switch = view.ports[port].switch
    if output == "json":
        table = [
            {
                "slot": rule.slot,
                "match": match,
                "peer": peer,
                "packets": rule.packets,
                "bytes": rule.bytes,
                "state": state,
                "reason": reason,
                "max_frame": rule.max_frame,
            }
            for rule, peer, state, match, reason in rows
        ]
        counts = {"inert": switch.rules_inert, "refused": switch.rules_refused}
        _print_json({"port": port, "rules": table, **counts})
        return
    if rows:
        print_table(
            ["slot", "match", "peer", "packets", "bytes", "state", "reason"],
            [
                [rule.slot, match, peer, rule.packets, rule.bytes, state, reason]
                for rule, peer, state, match, reason in rows
            ],
        )
    in_force = sum(rule.live and not rule.suppressed for rule in found)
    click.echo(
        f"{in_force} rules in force, {switch.rules_inert} inert, {switch.rules_refused} refused"
    )


# off and on ------------------------------------------------------------------------------------


def _switch_command(name: str, text: str) -> Callable[[F], click.Command]:
    def wrap(function: F) -> click.Command:
        function.__doc__ = text
        command = click.command(name)(run_directory(function))
        command.params.insert(0, click.Option(["--all", "every"], is_flag=True, help="All ports."))
        command.params.insert(0, click.Argument(["port"], required=False))
        return command

    return wrap


@_switch_command(
    "off",
    """Take what PORT, or every port, sends off the bypass, within milliseconds.

    Traffic goes on over the normal channel. With --all, ports to come are off too. Works with and
    without highwayd, and stays until `highway on`.
    """,
)
def off(port: str | None, every: bool, rundir: Path | None) -> None:
    _kill_switch(port, every=every, rundir=rundir, turn_off=True)


@_switch_command(
    "on",
    """Take back `highway off` for PORT, or with --all for every port.

    `highway on --all` takes back both `off --all` and every `off PORT`.
    """,
)
def on(port: str | None, every: bool, rundir: Path | None) -> None:
    _kill_switch(port, every=every, rundir=rundir, turn_off=False)


def _kill_switch(port: str | None, *, every: bool, rundir: Path | None, turn_off: bool) -> None:
    if (port is None) == (not every):
        raise CommandError("name one PORT, or say --all")
    with Source(rundir, writable=True) as source:
        if port is not None:
            region = source.port(port)
            region.set_operator(Off.OPERATOR, off=turn_off)
            state = "off" if turn_off else "on"
            others = off_reasons_left(region.gate().off_operator) if not turn_off else ""
            click.echo(f"port {port}: bypass {state}{others}")
            _record(source, f"operator: highway {state} {port}", port)
            return
        flag = source.rundir / "off-all"
        try:
            if turn_off:
                flag.touch()
            else:
                flag.unlink(missing_ok=True)
        except OSError as error:
            raise CommandError(f"cannot change {flag}: {error.strerror}; run as root") from error
        bits = Off.ALL if turn_off else Off.ALL | Off.OPERATOR
        for region in source.ports.values():
            with contextlib.suppress(ValueError):
                region.set_operator(bits, off=turn_off)
        count = len(source.ports)
        click.echo(f"bypass {'off' if turn_off else 'on'} for all ports ({count} now)")
        _record(source, f"operator: highway {'off' if turn_off else 'on'} --all", *source.ports)


def _record(source: Source, text: str, *ports: str) -> None:
    event = Event(time=time.time(), kind="operator", ports=ports, text=text)
    EventLog(paths.events_file(source.rundir)).append(event)


def off_reasons_left(bits: Off) -> str:
    """Return what still holds a port off after `highway on PORT`."""
    return ", but `highway off --all` still holds" if bits & Off.ALL else ""
