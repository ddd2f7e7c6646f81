# SPDX-License-Identifier: Apache-2.0
"""What is plugged into one VM, who in it may have it mapped, and what to do next; without I/O.

The rule that everything here serves: a device is taken out only when nobody in the VM can have its
memory mapped any more. A stale mapping would reach whatever is plugged into that slot next.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import VmError
from ovs_highway.hypervisor import DeviceId, Kind

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from ovs_highway.hypervisor import Bus

BAR_SPACE: Final = 1536 << 20
"""Bytes of device memory that a VM of machine type `pc` has addresses for, with some to spare."""

UNPLUG_AGAIN: Final = 2.0
"""Seconds after which a guest that has not let go of a device is asked again."""


class State(enum.Enum):
    """Where a device stands."""

    PLUGGING = "being plugged"
    PLUGGED = "plugged"
    UNPLUGGING = "being unplugged"


@dataclass(slots=True)
class Device:
    """One device of ours.

    Attributes:
        region_id: of the region that is its memory; 0 if that is not known.
        users: ports of the VM that may have it mapped.
        asked: ports and sessions that were asked to let go of it.
        asked_at: when the guest was last asked to let go of the device.
    """

    ident: DeviceId
    size: int
    bus: str | None = None
    state: State = State.PLUGGING
    region_id: int = 0
    users: set[str] = field(default_factory=set)
    asked: set[tuple[str, int]] = field(default_factory=set)
    asked_at: float = 0.0

    @property
    def link_id(self) -> int:
        """The link whose memory it is, 0 for a port's."""
        return int(self.ident.key, 16) if self.ident.kind is Kind.LINK else 0


class Books:
    """All devices of one VM, and what room is left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._buses: dict[str, int] = {}
        self._chosen_for_us = False
        self._devices: dict[DeviceId, Device] = {}

    def __iter__(self) -> Iterator[Device]:
        return iter(list(self._devices.values()))

    def start(self, buses: Sequence[Bus], found: Iterable[Device]) -> None:
        """Begin with what is plugged already, which is not in the buses' free slots."""
        self._buses = {bus.name: bus.free for bus in buses}
        self._chosen_for_us = not buses
        self._devices = {device.ident: device for device in found}

    def clear(self) -> None:
        """The VM is gone, with all that was plugged."""
        self._devices.clear()

    def link(self, link_id: int) -> Device | None:
        """Return the device of a link."""
        return next((one for one in self._devices.values() if one.link_id == link_id), None)

    def port(self, name: str) -> Device | None:
        """Return the device of a port."""
        return next(
            (
                one
                for one in self._devices.values()
                if one.ident.kind is Kind.PORT and one.ident.key == name
            ),
            None,
        )

    def why_full(self, size: int) -> str | None:
        """Return why no device of `size` bytes can be plugged, None if one can."""
        if self._chosen_for_us:
            return None
        if not any(self._room().values()):
            return (
                f"VM {self._name} has no free PCI slot: start it with a bridge more"
                " (docs/virtual-machines.md)"
            )
        used = sum(one.size for one in self._devices.values())
        if used + size > BAR_SPACE:
            return (
                f"VM {self._name} has no addresses for {size >> 20} MiB more of device memory:"
                f" {used >> 20} of {BAR_SPACE >> 20} MiB are in use"
            )
        return None

    def _room(self) -> dict[str, int]:
        room = dict(self._buses)
        for one in self._devices.values():
            if one.bus is not None:
                room[one.bus] -= 1
        return room

    def book(self, ident: DeviceId, size: int, *, region_id: int) -> Device:
        """Note that a device is being plugged, with a place for it.

        Raises:
            VmError: there is no room.
        """
        if (full := self.why_full(size)) is not None:
            raise VmError(full)
        device = Device(ident, size, region_id=region_id)
        device.bus = next((name for name, free in self._room().items() if free > 0), None)
        self._devices[ident] = device
        return device

    def gone(self, ident: DeviceId) -> Device | None:
        """The device is not there (any more)."""
        return self._devices.pop(ident, None)

    def released(self, port: str, *, link_id: int | None = None) -> None:
        """A port has nothing mapped of a link, or of anything if `link_id` is None."""
        for one in self._devices.values():
            if link_id is None or one.link_id == link_id:
                one.users.discard(port)

    def no_program(self) -> None:
        """Nobody in the VM has anything mapped."""
        for one in self._devices.values():
            one.users.clear()

    def to_unplug(self, ports: Mapping[str, int], now: float) -> list[Device]:
        """Return the devices that can and should go now, and note that they are asked to.

        Of links those that nobody uses: a link that ended at a port does not come back.

        Args:
            ports: region ids of the ports that this VM is to have.
            now: for asking again.
        """
        found = []
        for one in self._devices.values():
            if one.users or one.state is State.PLUGGING:
                continue
            wanted = one.ident.kind is Kind.PORT and one.ident.key in ports
            if wanted and one.region_id in (0, ports[one.ident.key]):
                continue
            if one.state is State.UNPLUGGING and now - one.asked_at < UNPLUG_AGAIN:
                continue
            one.state, one.asked_at = State.UNPLUGGING, now
            found.append(one)
        return found

    def to_ask(self, known: Container[int], sessions: Mapping[str, int]) -> list[tuple[str, int]]:
        """Return ports, and links not `known` that they have to let go of, once per session.

        Those are links of an earlier highwayd, or such as were not answered for in time.
        """
        found = []
        for one in self._devices.values():
            if one.ident.kind is not Kind.LINK or one.link_id in known:
                continue
            for port in one.users & sessions.keys():
                if (port, sessions[port]) not in one.asked:
                    one.asked.add((port, sessions[port]))
                    found.append((port, one.link_id))
        return found
