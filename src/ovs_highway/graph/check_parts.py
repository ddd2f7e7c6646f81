# SPDX-License-Identifier: Apache-2.0
"""Whether each VNF and each end-point makes sense by itself."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.graph import templates
from ovs_highway.graph.marks import Path, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.graph.model import EndPoint, Graph, Port, Vnf

LONGEST: Final = 15
"""Characters of a port's name that OpenFlow tells (OFP_MAX_PORT_NAME_LEN, with its NUL)."""
LETTERS: Final = "give letters, digits, '_' and '-'"
_MIN_MEMORY: Final = 16 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def check_vnf(vnf: Vnf) -> Iterator[Problem]:
    """Return what is wrong with a VNF."""
    path: Path = ("vnfs", vnf.name)
    if not _NAME.fullmatch(vnf.name):
        yield Problem(path, f"'{vnf.name}' is no name; {LETTERS}")
    if not vnf.ports:
        yield Problem(path, "has no ports; add ports: [in, out], or take it out")
    yield from _program(vnf, path)
    yield from _resources(vnf, path)
    for port in vnf.ports:
        yield from _port(vnf, port, (*path, "ports", port.name))
    for name, count in Counter(port.name for port in vnf.ports).items():
        if count > 1:
            yield Problem((*path, "ports"), f"'{name}' stands twice; keep one")


def _program(vnf: Vnf, path: Path) -> Iterator[Problem]:
    """What it runs, by its kind."""
    program = [name for name in ("template", "command") if getattr(vnf, name)]
    root = [name for name in ("image", "rootfs", "domain") if getattr(vnf, name)]
    if vnf.kind == "vm":
        if len(root) != 1 or root == ["rootfs"]:
            yield Problem(path, "is a VM; give either its image or its libvirt domain")
        for name in (*program, *(name for name in ("user", "environment") if getattr(vnf, name))):
            yield Problem((*path, name), "has no meaning for a VM; set it in the image")
        return
    if len(program) != 1:
        yield Problem(path, "give either a template or a command")
    if vnf.kind == "container" and (len(root) != 1 or root == ["domain"]):
        yield Problem(path, "is a container; give either its image or its rootfs")
    if vnf.kind == "process" and root:
        yield Problem((*path, root[0]), "has no meaning for a process; take it out, or give a kind")
    if vnf.template:
        for field, text in templates.problems(vnf):
            yield Problem((*path, *field), text)
    else:
        yield from _command(vnf, path)


def _command(vnf: Vnf, path: Path) -> Iterator[Problem]:
    try:
        if isinstance(vnf.command, str):
            shlex.split(vnf.command)
    except ValueError as error:
        yield Problem((*path, "command"), f"{str(error).lower()}; close the quotes, or give words")
    if vnf.options:
        yield Problem((*path, "options"), "are a template's; write them into the command")


def _resources(vnf: Vnf, path: Path) -> Iterator[Problem]:
    cores = vnf.cores
    if isinstance(cores, int) and cores < 1:
        yield Problem((*path, "cores"), f"is {cores}; give at least 1, or shared")
    if isinstance(cores, tuple) and (len({*cores}) < max(1, len(cores)) or min(cores) < 0):
        yield Problem((*path, "cores"), "give numbers of cores, each once")
    if vnf.memory < _MIN_MEMORY:
        yield Problem(
            (*path, "memory"),
            f"is {vnf.memory} bytes; give at least {_MIN_MEMORY >> 20}M, as in 512M",
        )
    if vnf.rootfs and not vnf.rootfs.startswith("/"):
        yield Problem((*path, "rootfs"), f"'{vnf.rootfs}' is relative; give an absolute path")
    for key in vnf.environment or {}:
        if not key or "=" in key or "\0" in key:
            yield Problem((*path, "environment", key), "is no name of a variable; take '=' out")


def _port(vnf: Vnf, port: Port, path: Path) -> Iterator[Problem]:
    if not _NAME.fullmatch(port.name):
        yield Problem(path, f"'{port.name}' is no name; {LETTERS}")
    yield from _ovs_name(vnf.ovs_port(port), path, "give it a shorter one as ovs-port")
    if not 1 <= port.queues <= shm.MAX_QUEUES:
        yield Problem((*path, "queues"), f"is {port.queues}; give 1 to {shm.MAX_QUEUES}")
    size = port.ring_size
    if not shm.MIN_RING_SIZE <= size <= shm.MAX_RING_SIZE or not shm.power_of_two(size):
        limits = f"{shm.MIN_RING_SIZE} to {shm.MAX_RING_SIZE}"
        yield Problem((*path, "ring-size"), f"is {size}; give a power of two, {limits}")


def _ovs_name(name: str, path: Path, advice: str) -> Iterator[Problem]:
    if len(name) > LONGEST:
        yield Problem(
            path,
            f"its name in OVS, '{name}', has {len(name)} characters, and OpenFlow tells"
            f" {LONGEST}; {advice}",
        )
    elif not shm.valid_port_name(name):
        yield Problem(path, f"its name in OVS, '{name}', is none; {advice}")


def check_endpoint(graph: Graph, point: EndPoint) -> Iterator[Problem]:
    """Return what is wrong with an end-point."""
    path: Path = ("end-points", point.name)
    if not _NAME.fullmatch(point.name):
        yield Problem(path, f"'{point.name}' is no name; {LETTERS}")
    if len(point.devices) != 1:
        yield Problem(path, "give exactly one of port, bridge, nic, kernel and tap")
        return
    kind, device = point.devices[0]
    if kind == "nic" and not _PCI.fullmatch(device):
        yield Problem((*path, kind), f"'{device}' is no PCI address; write it as 0000:01:00.0")
    elif kind in ("kernel", "tap"):
        yield from _ovs_name(device, (*path, kind), f"interfaces have at most {LONGEST}")
    elif kind == "bridge" and device == graph.bridge:
        yield Problem((*path, kind), "is the graph's own bridge; name another one, or a port")
    if kind in ("nic", "kernel", "bridge"):
        # A patch port's peer has two characters more.
        name = point.name + "-p" * (kind == "bridge")
        yield from _ovs_name(name, path, "give the end-point a shorter name")
    if point.vlan is not None and not 1 <= point.vlan <= 4094:
        yield Problem((*path, "vlan"), f"is {point.vlan}; give 1 to 4094")
