# SPDX-License-Identifier: Apache-2.0
"""Command lines of templates, and of commands with words to be filled in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from ovs_highway.graph.model import Port, Vnf
from ovs_highway.graph.templates import TEMPLATES, TESTPMD, Place, command_line

ALONE: Final = Place(cores=(2, 3), shared=False, prefix="g-fw")
PORTS: Final = (Port(name="in"), Port(name="out", idle="yield"))


def test_a_template_with_cores_and_ports() -> None:
    vnf = Vnf(name="fw", template="forward", ports=PORTS, options={"burst": 64}, memory=256 << 20)
    assert command_line(vnf, ALONE) == (
        *("dpdk-testpmd", "--no-pci", "--in-memory", "--no-telemetry", "--file-prefix", "g-fw"),
        *("--lcores", "0@2,1@2,2@3", "-m", "256"),
        *("--vdev", "net_highway0,port=fw-in,idle=poll"),
        *("--vdev", "net_highway1,port=fw-out,idle=yield"),
        "--",
        *("--forward-mode=io", "--nb-cores=2", "--rxq=1", "--txq=1", "--burst=64"),
        *("--total-num-mbufs=16384", "--stats-period=60", "--no-mlockall"),
    )


def test_ports_sleep_on_shared_cores_and_have_the_queues_that_all_have() -> None:
    ports = (Port(name="in", queues=4), Port(name="out", queues=2))
    vnf = Vnf(name="fw", template="source", ports=ports, options={"size": 1500})
    words = command_line(vnf, Place(cores=(1,), shared=True, prefix="p"))
    assert "net_highway0,port=fw-in,idle=sleep" in words
    assert {"--rxq=2", "--txq=2", "--txpkts=1500", "--forward-mode=txonly"} <= {*words}


@pytest.mark.parametrize(
    "command", ["vnf -l {lcores} '-m={memory}' {vdevs} --id={prefix} '{x}'", None]
)
def test_a_command_is_filled_in(command: str | None) -> None:
    words = ("vnf", "-l", "{lcores}", "-m={memory}", "{vdevs}", "--id={prefix}", "{x}")
    vnf = Vnf(name="fw", command=command or words, ports=PORTS)
    assert command_line(vnf, ALONE) == (
        *("vnf", "-l", "0@2,1@2,2@3", "-m=128"),
        *("--vdev", "net_highway0,port=fw-in,idle=poll"),
        *("--vdev", "net_highway1,port=fw-out,idle=yield"),
        *("--id=g-fw", "{x}"),
    )


def test_a_vm_has_no_command() -> None:
    assert command_line(Vnf(name="fw", kind="vm", image="x", ports=PORTS), ALONE) == ()


@pytest.mark.skipif(shutil.which(TESTPMD) is None, reason="dpdk-testpmd is not installed")
def test_testpmd_knows_all_modes_and_options() -> None:
    program = Path(shutil.which(TESTPMD) or "").read_bytes()
    for name, template in TEMPLATES.items():
        words = command_line(Vnf(name="v", template=name, ports=PORTS), ALONE)
        options = [word[2:].partition("=")[0] for word in words[words.index("--") + 1 :]]
        for text in (template.mode, *options):
            assert f"{text}\0".encode() in program
