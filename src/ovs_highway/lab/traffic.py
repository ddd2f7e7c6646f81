# SPDX-License-Identifier: Apache-2.0
"""Drive `traffic` (tests/apps/traffic), which sends numbered packets and checks what it receives.

It is an ordinary DPDK application, one process with one port or several. Each line to it is a
command, and each answer a line of JSON; command.c lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ovs_highway import paths
from ovs_highway.errors import SandboxError
from ovs_highway.lab.commanded import CommandedProgram
from ovs_highway.lab.dpdk import COMMAND_TIMEOUT, lcores_of
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


Stream = tuple[int, int, int]
"""Source, class and sender queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What arrived of one stream at one port, in packets; `received` is without doubles."""

    received: int
    bytes: int
    doubled: int
    reordered: int
    misdirected: int
    next: int
    longest_gap_us: float
    longest_gap_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPort:
    """The counts of one port, in packets.

    `refused` is what tx_burst did not take, each time that it was offered; `written_off` what the
    window does not wait for any more. `shapes` are the distinct mbufs met, apart from their data.
    """

    sent: dict[Stream, int]
    sent_bytes: int
    refused: int
    nombuf: int
    pending: int
    written_off: int
    packets: int
    corrupt: int
    foreign: int
    bad_mbuf: int
    multi_segment: int
    forwarded: int
    forward_pending: int
    streams: dict[Stream, Received]
    shapes: tuple[dict[str, int], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficStats:
    """Everything that one program has counted; `notes` are the first faults, for people."""

    ports: tuple[TrafficPort, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all programs of a test have sent and received, in packets.

    A stream's numbers have no gaps at the sender, so `lost` is what was taken by tx_burst and has
    not arrived anywhere.
    """

    packets: int
    received: int
    lost: int
    doubled: int
    reordered: int
    misdirected: int
    corrupt: int
    foreign: int
    bad_mbuf: int
    refused: int
    longest_gap_us: float

    @property
    def faults(self) -> dict[str, int]:
        """Return what must not be, by name; empty if all is well."""
        names = "lost", "doubled", "reordered", "misdirected", "corrupt", "foreign", "bad_mbuf"
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def read_stats(answer: dict[str, Any]) -> TrafficStats:
    """Return what the program answers to `stats`."""
    return TrafficStats(
        ports=tuple(_port(port) for port in answer["ports"]), notes=tuple(answer["notes"])
    )


def judge(programs: Iterable[TrafficStats]) -> Verdict:
    """Compare what programs have sent with what they have received."""
    ports = [port for program in programs for port in program.ports]
    streams = [stream for port in ports for stream in port.streams.values()]
    sent = sum(sum(port.sent.values()) for port in ports)
    received = sum(stream.received for stream in streams)
    return Verdict(
        packets=sent,
        received=received,
        lost=sent - received,
        doubled=sum(stream.doubled for stream in streams),
        reordered=sum(stream.reordered for stream in streams),
        misdirected=sum(stream.misdirected for stream in streams),
        corrupt=sum(port.corrupt for port in ports),
        foreign=sum(port.foreign for port in ports),
        bad_mbuf=sum(port.bad_mbuf for port in ports),
        refused=sum(port.refused for port in ports),
        longest_gap_us=max((stream.longest_gap_us for stream in streams), default=0.0),
    )


def match(spec: str) -> str:
    """Return the OpenFlow match of a class of traffic, such as `vlan=5+udp=1000`.

    Of two tags OpenFlow 1.0 and OVS by default see the outer one only.
    """
    words = dict(word.split("=", 1) for word in spec.split("+"))
    found = []
    tag = words.get("qinq", words.get("vlan"))
    found.append(f"dl_vlan={tag}" if tag is not None else "vlan_tci=0/0x1000")
    six = "udp6" in words or "tcp6" in words
    for name in ("udp", "tcp", "udp6", "tcp6"):
        if name in words:
            found.append(f"{name},tp_dst={words[name]}")
    if "ether" in words:
        found.append(f"dl_type={words['ether']}")
    if "proto" in words:
        found.append(f"ip,nw_proto={words['proto']}")
    if "tos" in words:
        found.append(f"nw_tos={words['tos']}")
    if "address" in words:
        number = int(words["address"])
        found.append(f"ipv6_dst=2001:db8::{number:x}" if six else f"nw_dst=198.51.100.{number}")
    return ",".join(found)


class Traffic(CommandedProgram):
    """A running `traffic`: `with Traffic("t", ["p1", "p2"], env=sandbox.env) as traffic:`.

    `ports` are port names of the switch; the first one is port 0. Queue *q* of each port belongs
    to worker *q* mod n, where n is the number of `cores`. `queues` is how many receive and
    transmit queues a port has, by port; the last one holds for the rest.

    Raises:
        SetupError: on entering: the program is not built.
        SandboxError: on entering: it did not come up; the message has the end of its log.
    """

    KIND = "traffic"

    def __init__(
        self,
        name: str,
        ports: Sequence[str],
        *,
        queues: Sequence[tuple[int, int]] = ((1, 1),),
        cores: Sequence[int] = (0,),
        main_core: int = 0,
        devargs: str = "idle=yield",
        vdevs: Sequence[str] | None = None,
        app_args: Sequence[str] = (),
        eal_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        plugin: Path | str | None = "auto",
        log: Path | None = None,
    ) -> None:
        self.n_ports = len(vdevs if vdevs is not None else ports)
        extra = f",{devargs}" if devargs else ""
        if vdevs is None:
            vdevs = [f"net_highway{index},port={port}{extra}" for index, port in enumerate(ports)]
        super().__init__(
            name,
            paths.traffic(),
            vdevs=vdevs,
            lcores=lcores_of(main_core, cores),
            eal_args=eal_args,
            app_args=[f"--queues={','.join(f'{rx}:{tx}' for rx, tx in queues)}", *app_args],
            env=env,
            plugin=plugin,
            log=log,
        )
        self.classes: dict[int, str] = {}

    def _await_start(self) -> None:
        super()._await_start()
        for number, spec in self.classes.items():
            self.command(f"class {number} {spec}")

    # its commands ------------------------------------------------------------------------------

    def define(self, *specs: str) -> None:
        """Define classes 0 and so on; every program that sends or receives them has to know."""
        for number, spec in enumerate(specs):
            self.command(f"class {number} {spec}")
            self.classes[number] = spec

    def send(self, port: int = 0, **plan: object) -> None:
        """Begin to send; the keys of `plan` are those of the command, lists are joined.

        `window=N`: no more than N packets of a queue are under way to ports of this very program.
        """
        words = [f"{key}={_joined(value)}" for key, value in plan.items()]
        self.command(" ".join(["send", str(port), *words]))

    def stop(self, port: int = 0) -> None:
        """Make no new packets, and wait until tx_burst has taken what it had refused."""
        self.command(f"stop {port}")
        if not wait_until(lambda: self.stats().ports[port].pending == 0, COMMAND_TIMEOUT):
            raise SandboxError(f"traffic {self.name}: port {port} takes no packets; see {self.log}")

    def resume(self, port: int = 0) -> None:
        """Go on sending after `stop`."""
        self.command(f"resume {port}")

    def forward(self, port: int, to: int) -> None:
        """Send what one port receives on another one, on the queue of the same number."""
        self.command(f"forward {port} {to}")

    def hold(self, mbufs: int) -> None:
        """Keep the last `mbufs` of each receive queue, and check them again before freeing them."""
        self.command(f"hold {mbufs}")

    def stats(self) -> TrafficStats:
        """Return everything that is counted."""
        return read_stats(self.command("stats"))

    def link_status(self, port: int = 0) -> bool:
        """Tell whether a port's link is up."""
        return bool(self.command(f"port {port}")["link_up"])

    def wait_link_up(self, *, timeout: float = 15.0) -> None:
        """Wait until the links of all ports are up.

        Raises:
            SandboxError: they are not within `timeout` seconds.
        """
        every = range(self.n_ports)
        if not wait_until(lambda: all(map(self.link_status, every)), timeout, interval=0.05):
            raise SandboxError(
                f"traffic {self.name}: links not up in {timeout:.0f} s; see {self.log}"
            )


def _joined(value: object) -> str:
    if isinstance(value, list | tuple | range):
        return ",".join(map(str, value))
    return str(int(value) if isinstance(value, bool) else value)


def _stream(raw: dict[str, Any]) -> Stream:
    return raw.pop("source"), raw.pop("class"), raw.pop("queue")


def _port(raw: dict[str, Any]) -> TrafficPort:
    tx, rx = raw["tx"], raw["rx"]
    return TrafficPort(
        sent={_stream(stream): stream["sent"] for stream in tx["streams"]},
        sent_bytes=tx["bytes"],
        refused=tx["refused"],
        nombuf=tx["nombuf"],
        pending=tx["pending"],
        written_off=tx["written_off"],
        packets=rx["received"],
        corrupt=rx["corrupt"],
        foreign=rx["foreign"],
        bad_mbuf=rx["bad_mbuf"],
        multi_segment=rx["multi_segment"],
        forwarded=rx["forwarded"],
        forward_pending=rx["pending"],
        streams={_stream(stream): Received(**stream) for stream in rx["streams"]},
        shapes=tuple(rx["shapes"]),
    )


__all__ = [
    "Received",
    "Stream",
    "Traffic",
    "TrafficPort",
    "TrafficStats",
    "Verdict",
    "judge",
    "match",
    "read_stats",
]
