# SPDX-License-Identifier: Apache-2.0
"""Drive `latency` (tests/apps/latency), which measures how long frames are under way.

It is the first and the last of a chain, so that one clock and one thread see both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ovs_highway import paths
from ovs_highway.errors import SandboxError
from ovs_highway.lab.commanded import CommandedProgram
from ovs_highway.lab.dpdk import COMMAND_TIMEOUT, lcores_of
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long frames were under way, in ns, and what became of those that were due.

    Attributes:
        refused: not taken by tx_burst.
        missed: due, but the sender did not get to them.
        rate: frames per second that arrived.
        bins: the least time of a bin and how many frames it has, in order; a bin is at most a 64th
            of its least time wide.
    """

    sent: int
    received: int
    refused: int
    missed: int
    foreign: int
    rate: float
    bins: tuple[tuple[int, int], ...]

    def percentile(self, percent: float) -> int | None:
        """Return the least time of the bin that has a percentile; None if nothing arrived."""
        left = self.received * percent / 100
        for least, count in self.bins:
            left -= count
            if left <= 0:
                return least
        return None


def read_run(answer: Mapping[str, Any]) -> Times:
    """Return what the program answers to `run`."""
    bins = tuple((int(least), int(count)) for least, count in answer["bins"])
    return Times(**{**answer, "bins": bins})


class Latency(CommandedProgram):
    """A running `latency`: `with Latency("l", vdevs=[…, …], core=0, env=sandbox.env) as probe:`.

    Raises:
        SetupError: on entering: the program is not built.
        SandboxError: on entering: it did not come up; the message has the end of its log.
    """

    KIND = "latency"

    def __init__(
        self,
        name: str,
        *,
        vdevs: Sequence[str],
        core: int,
        eal_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            name,
            paths.latency(),
            vdevs=vdevs,
            lcores=lcores_of(core, [core]),
            eal_args=eal_args,
            app_args=[],
            env=env,
            plugin="auto",
            log=None,
        )

    def run(
        self, *, rate: float = 1000, seconds: float = 1.0, size: int = 64, echo: bool = False
    ) -> Times:
        """Send from port 0 to port 1, and with `echo` back again.

        Args:
            rate: frames per second; 0: as many as go.
            size: of frames, in bytes without the frame check sequence.
        """
        command = f"run rate={rate} seconds={seconds} size={size} echo={int(echo)}"
        return read_run(self.command(command, timeout=seconds + COMMAND_TIMEOUT))

    def wait_link_up(self, port: int = 0, *, timeout: float = 15.0) -> None:
        """Wait until the link of a port is up.

        Raises:
            SandboxError: it is not within `timeout` seconds.
        """
        up = wait_until(lambda: bool(self.command(f"link {port}")["link_up"]), timeout)
        if not up:
            raise SandboxError(
                f"latency {self.name}: the link of port {port} not up in {timeout:.0f} s;"
                f" see {self.log}"
            )


__all__ = ["Latency", "Times", "read_run"]
