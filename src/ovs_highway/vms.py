# SPDX-License-Identifier: Apache-2.0
"""Which virtual machines have highway ports: one folder each, with a file that describes it.

`RUNDIR/vms/<name>/vm.json` is written by `highway vm args` and `highway vm attach` and followed by
highwayd. QEMU's sockets lie beside it unless the file names others.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from ovs_highway import paths, shm
from ovs_highway.errors import VmError

if TYPE_CHECKING:
    from pathlib import Path

SERIAL_NAME: Final = "org.highway.0"
"""Of the virtio-serial port that is a VM's control channel."""

LIBVIRT_URI: Final = "qemu:///system"
_FILE: Final = "vm.json"


class VmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One virtual machine.

    Attributes:
        name: of the VM: what a port's name may be.
        ports: what it has, in the order of its devices.
        control: socket of the chardev behind the virtio-serial port; None: libvirt knows it.
        qmp: QEMU's monitor socket, for highwayd alone; None for a libvirt domain.
        domain: libvirt's name of it; None if QEMU is spoken to.
        uri: of that libvirt.
        attached: it is to have its ports; else highwayd takes all highway devices out of it.
    """

    name: str
    ports: tuple[str, ...]
    control: str | None = None
    qmp: str | None = None
    domain: str | None = None
    uri: str = LIBVIRT_URI
    attached: bool = True

    def check(self) -> None:
        """Check what the types do not tell.

        Raises:
            VmError: something cannot be.
        """
        for what in (self.name, *self.ports):
            if not shm.valid_port_name(what):
                raise VmError(
                    f"'{what}' is no name; give letters, digits, '_', '-' and '.', at most 63"
                )
        if len(set(self.ports)) != len(self.ports):
            raise VmError(f"VM {self.name}: a port stands twice; name each once")
        if (self.qmp is None) == (self.domain is None):
            raise VmError(f"VM {self.name}: give either QEMU's QMP socket or a libvirt domain")
        if self.qmp is not None and self.control is None:
            raise VmError(f"VM {self.name}: give the socket of its control channel too")


def folder(name: str, base: Path | None = None) -> Path:
    """Return the folder of one VM."""
    return paths.vms_dir(base) / name


def default_config(name: str, ports: tuple[str, ...], base: Path | None = None) -> VmConfig:
    """Return what a VM is whose sockets lie where highway puts them."""
    here = folder(name, base)
    return VmConfig(name=name, ports=ports, control=str(here / "control"), qmp=str(here / "qmp"))


def save(config: VmConfig, base: Path | None = None) -> None:
    """Write a VM down, for highwayd to follow.

    Raises:
        VmError: it cannot be, or cannot be written.
    """
    config.check()
    target = folder(config.name, base) / _FILE
    fresh = target.with_suffix(".new")
    try:
        # Who can connect to a VM's monitor can do anything with it.
        paths.make_dir(paths.vms_dir(base), 0o700)
        paths.make_dir(target.parent, 0o700)
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(config)) + b"\n")
        os.replace(fresh, target)
    except OSError as error:
        raise VmError(f"cannot write {target}: {error.strerror}; run as root") from error


def load(name: str, base: Path | None = None) -> VmConfig:
    """Read a VM.

    Raises:
        VmError: there is none of that name, or its file makes no sense.
    """
    path = folder(name, base) / _FILE
    try:
        config = msgspec.json.decode(path.read_bytes(), type=VmConfig)
    except FileNotFoundError as error:
        known = ", ".join(sorted(load_all(base)[0])) or "none at all"
        raise VmError(f"there is no VM {name}; known: {known}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise VmError(f"{path} cannot be read: {error}; write it anew") from error
    config.check()
    if config.name != name:
        raise VmError(f"{path} describes VM {config.name}; its folder has to have that name")
    return config


def load_all(base: Path | None = None) -> tuple[dict[str, VmConfig], list[VmError]]:
    """Read all VMs; return them by name, and what is wrong with the others."""
    found, problems = {}, []
    for path in sorted(paths.vms_dir(base).glob(f"*/{_FILE}")):
        try:
            found[path.parent.name] = load(path.parent.name, base)
        except VmError as error:
            problems.append(error)
    return found, problems


def stamp(base: Path | None = None) -> tuple[tuple[str, int], ...]:
    """Return something that is another when a VM's file has changed."""
    found = []
    for path in sorted(paths.vms_dir(base).glob(f"*/{_FILE}")):
        try:
            found.append((path.parent.name, path.stat().st_mtime_ns))
        except OSError:
            continue
    return tuple(found)


def forget(name: str, base: Path | None = None) -> None:
    """Remove a VM's file; its folder stays while somebody uses the sockets in it."""
    (folder(name, base) / _FILE).unlink(missing_ok=True)
