# SPDX-License-Identifier: Apache-2.0
"""Drive `gauge` (tests/apps/gauge), which measures what a driver's bursts cost.

One core sends on a port, another receives on a port, of one process. Cycles are those of the
time-stamp counter, in burst calls only, without those of reading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.errors import SandboxError
from ovs_highway.lab.commanded import CommandedProgram
from ovs_highway.lab.dpdk import COMMAND_TIMEOUT, lcores_of
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NOWHERE: Final = -1
"""The port at which nobody receives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Burst calls of one kind, what they moved, and their cycles."""

    calls: int
    packets: int
    cycles: int

    @property
    def per_packet(self) -> float:
        """Cycles per packet; 0 if there was none."""
        return self.cycles / self.packets if self.packets else 0.0

    @property
    def per_call(self) -> float:
        """Cycles per call; 0 if there was none."""
        return self.cycles / self.calls if self.calls else 0.0

    @property
    def burst(self) -> float:
        """Packets per call; 0 if there was none."""
        return self.packets / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TxGauge:
    """The sender: calls that took all they were offered, and those that took less.

    `interrupted` are calls of ten times the mean of the warm-up's; they are in neither of the
    others.
    """

    seconds: float
    whole: Calls
    part: Calls
    interrupted: Calls


@dataclass(frozen=True, slots=True, kw_only=True)
class RxGauge:
    """The receiver: calls that found packets, and those that found none."""

    seconds: float
    found: Calls
    empty: Calls
    interrupted: Calls

    @property
    def packets(self) -> int:
        """Packets received while it counted."""
        return self.found.packets + self.interrupted.packets


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one `run` has found.

    `sent` and `received` are all packets, those before and after the counting too;
    `rdtsc_cycles` is what was taken off each call, `round_trip_ns` the time that a cache line took
    from core to core and back, before or after it, whichever was more.
    """

    tsc_hz: int
    rdtsc_cycles: int
    round_trip_ns: float
    sent: int
    received: int
    tx: TxGauge
    rx: RxGauge

    @property
    def mpps(self) -> float:
        """Million packets per second that were received."""
        return self.rx.packets / self.rx.seconds / 1e6 if self.rx.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What the machine itself can do; see `limit.h`.

    `ahead` is how many slots ahead the sender fetched what it was to write: the better of two ways.
    """

    tsc_hz: int
    ahead: int
    sent: int
    received: int
    isa: str
    round_trip_ns: float
    seconds: float
    mpps: float
    cycles_per_packet: float


def read_run(answer: Mapping[str, Any]) -> Measured:
    """Return what the program answers to `run`."""
    sides = {name: dict(answer[name]) for name in ("tx", "rx")}
    for side in sides.values():
        side |= {name: Calls(**calls) for name, calls in side.items() if name != "seconds"}
    return Measured(**{**answer, "tx": TxGauge(**sides["tx"]), "rx": RxGauge(**sides["rx"])})


class Gauge(CommandedProgram):
    """A running `gauge`: `with Gauge("g", ["p1", "p2"], cores=(0, 1), env=sandbox.env) as gauge:`.

    `ports` are port names of the switch; the first one is port 0. The first of the two `cores`
    sends, the second one receives.

    Raises:
        SetupError: on entering: the program is not built.
        SandboxError: on entering: it did not come up; the message has the end of its log.
    """

    KIND = "gauge"

    def __init__(
        self,
        name: str,
        ports: Sequence[str] = (),
        *,
        cores: tuple[int, int],
        main_core: int | None = None,
        queues: int = 1,
        devargs: str = "",
        eal_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        plugin: Path | str | None = "auto",
        log: Path | None = None,
    ) -> None:
        extra = f",{devargs}" if devargs else ""
        self.ports = tuple(ports)
        super().__init__(
            name,
            paths.gauge(),
            vdevs=[f"net_highway{index},port={port}{extra}" for index, port in enumerate(ports)],
            lcores=lcores_of(cores[1] if main_core is None else main_core, cores),
            eal_args=eal_args,
            app_args=[f"--queues={queues}"],
            env=env,
            plugin=plugin,
            log=log,
        )

    def run(
        self,
        *,
        port: int = 0,
        to: int = 1,
        seconds: float = 1.0,
        size: int = 64,
        classes: int = 1,
        queues: int = 1,
    ) -> Measured:
        """Send from one port to another, or `NOWHERE`, as fast as it goes; `size` is in bytes."""
        words = f"port={port} to={to} seconds={seconds} size={size} classes={classes}"
        command = f"run {words} queues={queues}"
        return read_run(self.command(command, timeout=seconds + COMMAND_TIMEOUT))

    def limit(
        self, *, seconds: float = 1.0, size: int = 64, mbufs: bool = False, isa: str = ""
    ) -> Limit:
        """Move packets through a bare ring between the two cores."""
        command = f"limit seconds={seconds} size={size} mbufs={int(mbufs)}"
        if isa:
            command += f" isa={isa}"
        return Limit(**self.command(command, timeout=seconds + COMMAND_TIMEOUT))

    def round_trip(self) -> float:
        """Return the time in ns that a cache line takes between the two cores now."""
        found: float = self.command("round-trip")["round_trip_ns"]
        return found

    def wait_link_up(self, *, timeout: float = 15.0) -> None:
        """Wait until the links of all ports are up.

        Raises:
            SandboxError: they are not within `timeout` seconds.
        """

        def up() -> bool:
            return all(self.command(f"link {port}")["link_up"] for port in range(len(self.ports)))

        if not wait_until(up, timeout, interval=0.05):
            raise SandboxError(
                f"gauge {self.name}: links not up in {timeout:.0f} s; see {self.log}"
            )


__all__ = ["NOWHERE", "Calls", "Gauge", "Limit", "Measured", "RxGauge", "TxGauge", "read_run"]
