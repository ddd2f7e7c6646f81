# SPDX-License-Identifier: Apache-2.0
"""What highwayd needs of whoever runs a virtual machine."""

from __future__ import annotations

import enum
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

_ID: Final = re.compile(r"hw-(port|link)-(.+)-([0-9a-f]{4})")


class Kind(enum.Enum):
    """What a device's memory is."""

    PORT = "port"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class DeviceId:
    """The name of one device of ours, in its VM.

    Attributes:
        key: the port's name, or the link's id as 16 hex digits.
        nonce: no two devices of a VM's life have the same id, since QEMU aborts when a memory
            backend is used again.
    """

    kind: Kind
    key: str
    nonce: str

    @classmethod
    def fresh(cls, kind: Kind, key: str) -> DeviceId:
        """Return an id that was not used before."""
        return cls(kind, key, secrets.token_hex(2))

    @classmethod
    def first(cls, port: str) -> DeviceId:
        """Return the id of a port's device that its VM is started with."""
        return cls(Kind.PORT, port, "0000")

    @classmethod
    def parse(cls, text: str) -> DeviceId | None:
        """Return what an id stands for, None if it is not one of ours."""
        match = _ID.fullmatch(text)
        return None if match is None else cls(Kind(match[1]), match[2], match[3])

    def __str__(self) -> str:
        return f"hw-{self.kind.value}-{self.key}-{self.nonce}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """A PCI bus into which devices can be plugged.

    Attributes:
        name: as QEMU has it.
        free: slots without a device.
    """

    name: str
    free: int


class Watcher(Protocol):
    """Who is told what happens in a VM."""

    def program(self, present: bool) -> None:
        """A guest program has opened the control channel, or closed it: it has nothing mapped."""

    def reset(self) -> None:
        """The VM was reset: nothing runs in it."""

    def unplugged(self, device: DeviceId) -> None:
        """The guest has let go of a device."""


class Hypervisor(Protocol):
    """A running VM as its hypervisor shows it; methods raise VmError."""

    async def prepare(self, path: Path) -> None:
        """Let a VM that is still to be started open a region."""

    async def connect(self) -> None:
        """Begin to speak to the VM; raises VmError while it does not run."""

    async def follow(self, watcher: Watcher) -> None:
        """Tell what happens from `connect` on; return when the VM is gone."""

    async def close(self) -> None:
        """Let go of it; it runs on."""

    async def devices(self) -> list[DeviceId]:
        """Return our devices that are plugged."""

    async def buses(self) -> list[Bus]:
        """Return where a device can be plugged; empty if the hypervisor chooses by itself."""

    async def program_present(self) -> bool:
        """Tell whether a guest program has the control channel open."""

    async def control_path(self) -> str | None:
        """Return the socket of the control channel, None if only the VM's file tells."""

    async def plug(self, device: DeviceId, path: Path, size: int, bus: str | None) -> None:
        """Plug a region of `size` bytes, whose file is `path`."""

    async def unplug(self, device: DeviceId) -> bool:
        """Ask the guest to let go of a device; return True if it is not plugged any more.

        Otherwise `Watcher.unplugged` tells when.
        """

    async def migration_blockers(self) -> list[str]:
        """Return why the VM cannot be migrated, as the hypervisor says it."""
