# SPDX-License-Identifier: Apache-2.0
"""What benchmarks of rates and cycles begin with: the machine, and a switch with a bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from ovs_highway.bench import machine
from ovs_highway.errors import SetupError
from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovs_highway.bench.machine import Machine, Placement

BRIDGE: Final = "br0"
SLEEP_US: Final = 500


LARGE: Final = {"vnfs": 8, "switches": 2}
"""Cores that a large machine has to have, and one more."""


def begin_large() -> tuple[Machine, Placement]:
    """Return the machine's facts and which core does what, with one for each VNF.

    Raises:
        SetupError: there are not enough.
    """
    facts = machine.gather()
    placement = machine.place_large(facts.cores, **LARGE)
    if placement is None:
        whole = len({core.siblings for core in facts.cores})
        raise SetupError(
            f"a large machine has {sum(LARGE.values()) + 1} cores or more: {LARGE['vnfs']} for"
            f" VNFs, {LARGE['switches']} for the switch, 1 for the rest; this one gives {whole};"
            " leave --host big out"
        )
    return facts, placement


def begin() -> tuple[Machine, Placement]:
    """Return the machine's facts and which core does what.

    Raises:
        SetupError: there are not two cores.
    """
    facts = machine.gather()
    placement = machine.place(facts.cores)
    if placement is None:
        raise SetupError("this benchmark needs two cores; run it where there are that many")
    return facts, placement


def sleeping(placement: Placement) -> str:
    """Return how the switch runs beside what it does not carry, for the notes of results."""
    shared = " on the sender's core" if placement.switch == placement.second else ""
    return f"its polling thread sleeping up to {SLEEP_US} us{shared} (pmd-maxsleep)"


class Testbed:
    """A switch with a bridge, as a context manager; its polling thread sleeps when it can.

    `pci` are the addresses of network cards that it takes.
    """

    def __init__(self, placement: Placement, *, pci: Sequence[str] = (), **config: str) -> None:
        self.cores = placement
        self.sandbox = Sandbox(
            pmd_cpu_mask=placement.pmd_mask,
            pci=pci,
            other_config={"pmd-maxsleep": str(SLEEP_US), **config},
        )

    def __enter__(self) -> Self:
        self.sandbox.__enter__()
        try:
            self.sandbox.add_bridge(BRIDGE)
        except BaseException:
            self.sandbox.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.sandbox.close()

    def versions(self) -> dict[str, str]:
        """Return the versions of Open vSwitch and DPDK, as the switch tells them."""
        get = self.sandbox.vsctl("get", "Open_vSwitch", ".", "ovs_version", "dpdk_version")
        ovs, dpdk = (line.strip('"') for line in get.split("\n")[:2])
        return {"open_vswitch": ovs, "dpdk": dpdk.removeprefix("DPDK ").strip()}
