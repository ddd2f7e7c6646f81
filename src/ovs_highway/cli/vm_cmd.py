# SPDX-License-Identifier: Apache-2.0
"""`highway vm`: give virtual machines their ports, take them away, and see what is plugged."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from ovs_highway import paths, region, unixctl, vms
from ovs_highway.cli.model import Source
from ovs_highway.cli.options import output_format, run_directory
from ovs_highway.cli.table import print_table
from ovs_highway.errors import CommandError
from ovs_highway.hypervisor import DeviceId
from ovs_highway.hypervisor.libvirt import LibvirtDomain, channel_xml, shmem_xml
from ovs_highway.vms import SERIAL_NAME, VmConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_POLL: Final = 0.1
_ATTACH: Final = 15.0
_DETACH: Final = 30.0


def register(group: click.Group) -> None:
    """Add the commands to `highway`."""
    group.add_command(vm)


@click.group()
def vm() -> None:
    """Virtual machines with highway ports."""


@vm.command()
@click.argument("ports", nargs=-1, required=True)
@click.option("--name", help="Of the VM; default: that of its first port.")
@click.option("--libvirt", is_flag=True, help="Print XML for the domain NAME.")
@click.option("--uri", default=vms.LIBVIRT_URI, show_default=True, help="Of that libvirt.")
@run_directory
def args(
    ports: tuple[str, ...], name: str | None, libvirt: bool, uri: str, rundir: Path | None
) -> None:
    """Print what gives a VM its PORTS: options for QEMU, or XML for libvirt.

    The ports have to exist. The VM is written down too, so that highwayd looks after it.
    """
    name = name or ports[0]
    config = vms.default_config(name, ports, rundir)
    if libvirt:
        config = VmConfig(name=name, ports=ports, domain=name, uri=uri)
    config.check()
    with Source(rundir) as source:
        found = [(port, _file(source, port), source.port(port).size) for port in ports]
    if libvirt:
        for port, path, _ in found:
            if path.parent != region.SHM_DIR:
                raise CommandError(
                    f"port {port} lies in huge pages, and libvirt takes {region.SHM_DIR} only;"
                    f" add it with options:dpdk-devargs=net_highway_{port},role=switch,memory=shm"
                )
    _free(config, rundir)
    vms.save(config, rundir)
    if libvirt:
        for _, path, _ in found:
            asyncio.run(LibvirtDomain(name, name, uri).prepare(path))
        click.echo(channel_xml())
        for port, path, size in found:
            click.echo(shmem_xml(DeviceId.first(port), path.name, size))
        return
    click.echo(shlex.join(qemu_options(config, found)))


def qemu_options(config: VmConfig, ports: list[tuple[str, Path, int]]) -> list[str]:
    """Return QEMU's options for a VM: monitor, control channel, and a device per port."""
    options = [
        *("-qmp", f"unix:{config.qmp},server=on,wait=off"),
        *("-chardev", f"socket,id=hw-control,path={config.control},server=on,wait=off"),
        *("-device", "virtio-serial-pci,id=hw-serial"),
        *("-device", f"virtserialport,id=hw-port,chardev=hw-control,name={SERIAL_NAME}"),
    ]
    for port, path, size in ports:
        device = DeviceId.first(port)
        memory = f"memory-backend-file,id={device}-mem,mem-path={path},size={size},share=on"
        options += ["-object", memory]
        options += ["-device", f"ivshmem-plain,id={device},memdev={device}-mem"]
    return options


def _file(source: Source, port: str) -> Path:
    path = region.file_of(source.port(port))
    if path is None:
        raise CommandError(
            f"the region of port {port} has no file any more; delete and add the port"
        )
    return path


def _free(config: VmConfig, rundir: Path | None) -> None:
    """Check that no other VM has one of the ports.

    Raises:
        CommandError: one has.
    """
    for other in vms.load_all(rundir)[0].values():
        both = set(other.ports) & set(config.ports)
        if other.name != config.name and both:
            raise CommandError(
                f"port {min(both)} is VM {other.name}'s;"
                f" 'highway vm detach {other.name} --forget' takes it away"
            )


@vm.command()
@click.argument("name")
@click.argument("ports", nargs=-1)
@click.option("--qmp", help="Socket of a QMP monitor that nobody else uses.")
@click.option("--control", help=f"Socket of the chardev behind {SERIAL_NAME}.")
@click.option("--domain", help="A libvirt domain, in place of these.")
@click.option("--uri", default=vms.LIBVIRT_URI, show_default=True, help="Of that libvirt.")
@run_directory
def attach(
    name: str,
    ports: tuple[str, ...],
    qmp: str | None,
    control: str | None,
    domain: str | None,
    uri: str,
    rundir: Path | None,
) -> None:
    """Give the running VM NAME its ports, and PORTS in addition.

    A VM that highway does not know yet is named by its sockets or by its libvirt domain.
    """
    if domain is not None or qmp is not None:
        here = str(vms.folder(name, rundir) / "control") if domain is None else None
        config = VmConfig(
            name=name, ports=ports, control=control or here, qmp=qmp, domain=domain, uri=uri
        )
    else:
        old = vms.load(name, rundir)
        added = tuple(port for port in ports if port not in old.ports)
        config = msgspec.structs.replace(old, ports=old.ports + added, attached=True)
    if not config.ports:
        raise CommandError(f"VM {name} is to have no port; name one that exists")
    with Source(rundir) as source:
        for port in config.ports:
            source.port(port)
    _free(config, rundir)
    vms.save(config, rundir)

    def plugged(found: dict[str, Any]) -> str | None:
        here = {one["key"] for one in found["devices"] if one["state"] == "plugged"}
        missing = set(config.ports) - here
        if found["problem"]:
            return str(found["problem"])
        return f"not plugged yet: {', '.join(sorted(missing))}" if missing else None

    _wait(name, rundir, plugged, _ATTACH, f"VM {name} is written down, but not attached")
    click.echo(f"VM {name} has {', '.join(config.ports)}")


@vm.command()
@click.argument("name")
@click.option("--forget", is_flag=True, help="Do not look after the VM any more.")
@run_directory
def detach(name: str, forget: bool, rundir: Path | None) -> None:
    """Take all highway devices out of the VM NAME, so that it can be migrated.

    Its ports have no VNF then, until it is attached again.
    """
    config = vms.load(name, rundir)
    vms.save(msgspec.structs.replace(config, attached=False), rundir)

    def empty(found: dict[str, Any]) -> str | None:
        if not found["running"]:
            return None
        left = [f"{one['id']} ({one['state']})" for one in found["devices"]]
        return f"still there: {', '.join(left)}" if left else None

    found = _wait(name, rundir, empty, _DETACH, f"VM {name} is not detached")
    if forget:
        vms.forget(name, rundir)
    click.echo(f"VM {name} has no highway device")
    for reason in found["migration_blockers"] or ():
        click.echo(f"it cannot be migrated all the same: {reason}")


@vm.command(name="list")
@output_format()
@run_directory
def list_vms(output: str, rundir: Path | None) -> None:
    """Show the VMs and what is plugged in them."""
    found = _ask(rundir)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    rows = []
    for one in found:
        state = "running" if one["running"] else "not running"
        links = sum(device["kind"] == "link" for device in one["devices"])
        rows.append(
            (
                one["name"],
                "libvirt" if one["domain"] else "qemu",
                state if one["attached"] else f"{state}, detached",
                "yes" if one["program"] else "no",
                ", ".join(one["ports"]),
                links,
                one["problem"] or "",
            )
        )
    print_table(("VM", "by", "state", "program", "ports", "links", "problem"), rows)


def _ask(rundir: Path | None) -> list[dict[str, Any]]:
    text = unixctl.call(paths.control_socket(rundir), "highway/vms")
    found: list[dict[str, Any]] = json.loads(text)["vms"]
    return found


def _wait(
    name: str,
    rundir: Path | None,
    check: Callable[[dict[str, Any]], str | None],
    seconds: float,
    failed: str,
) -> dict[str, Any]:
    """Wait until `check` has nothing to complain of; return the VM as it then is.

    Raises:
        CommandError: it still has after `seconds`.
    """
    attached = vms.load(name, rundir).attached
    deadline = time.monotonic() + seconds
    while True:
        found = next((one for one in _ask(rundir) if one["name"] == name), None)
        problem: str | None = "highwayd does not know it yet"
        if found is not None and found["attached"] == attached:
            problem = check(found)
            if problem is None:
                return found
        if time.monotonic() > deadline:
            raise CommandError(f"{failed}: {problem}; see 'highway vm list' and highwayd's log")
        time.sleep(_POLL)
