# SPDX-License-Identifier: Apache-2.0
"""QEMU by its QMP socket: ivshmem-plain devices in and out of a running machine.

What QEMU does with ids, sizes and events: docs/virtual-machines.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate
from qemu.qmp.qmp_client import ExecuteError

from ovs_highway.errors import VmError
from ovs_highway.hypervisor.base import Bus, DeviceId, Hypervisor, Watcher
from ovs_highway.vms import SERIAL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_ANSWER: Final = 5.0
_EVENTS: Final = ("DEVICE_DELETED", "VSERPORT_CHANGE", "RESET")
_PERIPHERAL: Final = "/machine/peripheral"
_MEMORY: Final = "-mem"
_SLOTS: Final = 32
_BRIDGE: Final = (0x1B36, 0x0001)
_ROOT_PORTS: Final = ((0x1B36, 0x000C), (0x8086, 0x3420))


class Qemu(Hypervisor):
    """One QEMU.

    Args:
        reached: told of the steps of a plug and an unplug: memory, device, unplug, deleted.
    """

    def __init__(self, name: str, socket: Path, reached: Callable[[str], None]) -> None:
        self._reached = reached
        self._name = name
        self._socket = socket
        self._client = QMPClient(f"highway-{name}")
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._serial = ""

    async def prepare(self, path: Path) -> None:
        """Do nothing: whoever starts QEMU starts it as somebody who can open the region."""

    async def connect(self) -> None:
        """Speak to the monitor; raises VmError while there is none."""
        self._client = QMPClient(f"highway-{self._name}")
        logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)
        try:
            async with asyncio.timeout(_ANSWER):
                await self._client.connect(str(self._socket))
        except (QMPError, OSError, TimeoutError) as error:
            with contextlib.suppress(Exception):
                await self._client.disconnect()
            why = str(error) or "it is silent: is another program connected?"
            raise VmError(f"VM {self._name}: no QEMU answers at {self._socket}: {why}") from error
        self._events = asyncio.Queue()
        self._client.register_listener(EventListener(_EVENTS, self._queue))

    def _queue(self, event: Any) -> bool:  # noqa: ANN401 - as QMP has it
        """Take an event, and let the listener forget it: it keeps all that it accepts for ever."""
        self._events.put_nowait(event)
        return False

    async def follow(self, watcher: Watcher) -> None:
        """Tell what happens until QEMU has ended or closed the connection."""
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(watcher), name=f"events of VM {self._name}")
            while self._client.runstate is Runstate.RUNNING:
                await self._client.runstate_changed()
            pump.cancel()

    async def _pump(self, watcher: Watcher) -> None:
        while True:
            event = await self._events.get()
            data = event.get("data") or {}
            match event["event"]:
                case "DEVICE_DELETED":
                    device = DeviceId.parse(str(data.get("device", "")))
                    if device is not None:
                        self._reached("deleted")
                        with contextlib.suppress(VmError):
                            await self._run("object-del", {"id": f"{device}{_MEMORY}"})
                        watcher.unplugged(device)
                case "VSERPORT_CHANGE" if data.get("id") == self._serial:
                    watcher.program(bool(data.get("open")))
                case "RESET":
                    watcher.reset()

    async def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(Exception):
            await self._client.disconnect()

    async def _run(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - as QMP has it
        try:
            async with asyncio.timeout(_ANSWER):
                return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise VmError(f"VM {self._name}: QEMU refuses {command}: {error}") from error
        except (QMPError, OSError) as error:
            raise VmError(f"VM {self._name}: QEMU has gone ({error})") from error
        except TimeoutError as error:
            raise VmError(f"VM {self._name}: QEMU did not answer {command}") from error

    async def devices(self) -> list[DeviceId]:
        """Return what is plugged; memory whose device is gone is given back."""
        nodes = await self._run("qom-list", {"path": _PERIPHERAL})
        found = [DeviceId.parse(node["name"]) for node in nodes]
        plugged = [device for device in found if device is not None]
        here = {f"{device}{_MEMORY}" for device in plugged}
        for node in await self._run("qom-list", {"path": "/objects"}):
            name = str(node["name"])
            ours = DeviceId.parse(name.removesuffix(_MEMORY)) is not None
            if ours and name.endswith(_MEMORY) and name not in here:
                with contextlib.suppress(VmError):
                    await self._run("object-del", {"id": name})
        return plugged

    async def buses(self) -> list[Bus]:
        """Return the buses with what is free on each: of `pc` the root, of both all bridges."""
        machine = str(await self._run("qom-get", {"path": "/machine", "property": "type"}))
        found: list[Bus] = []
        for bus in await self._run("query-pci"):
            if bus["bus"] == 0:
                if "q35" not in machine:
                    used = {device["slot"] for device in bus["devices"]}
                    found.append(Bus(name="pci.0", free=_SLOTS - len(used)))
                found += _below(bus["devices"])
        return found

    async def program_present(self) -> bool:
        """Tell whether the guest has the virtio-serial port open; learn the port's id."""
        present = False
        for node in await self._run("qom-list", {"path": _PERIPHERAL}):
            if node["type"] != "child<virtserialport>":
                continue
            path = f"{_PERIPHERAL}/{node['name']}"
            name = await self._run("qom-get", {"path": path, "property": "name"})
            if name == SERIAL_NAME:
                self._serial = node["name"]
                chardev = await self._run("qom-get", {"path": path, "property": "chardev"})
                present = any(
                    one["label"] == chardev and one.get("frontend-open", False)
                    for one in await self._run("query-chardev")
                )
        return present

    async def control_path(self) -> str | None:
        """Return None: who starts QEMU chooses it."""
        return None

    async def plug(self, device: DeviceId, path: Path, size: int, bus: str | None) -> None:
        """Add the memory and the device; the memory goes again if the device is refused."""
        memory = f"{device}{_MEMORY}"
        backend = {"qom-type": "memory-backend-file", "id": memory, "mem-path": str(path)}
        driver = {"driver": "ivshmem-plain", "id": str(device), "memdev": memory}
        await self._run("object-add", {**backend, "size": size, "share": True})
        self._reached("memory")
        try:
            await self._run("device_add", {**driver, **({"bus": bus} if bus else {})})
        except VmError:
            with contextlib.suppress(VmError):
                await self._run("object-del", {"id": memory})
            raise
        self._reached("device")

    async def unplug(self, device: DeviceId) -> bool:
        """Ask the guest; one that was asked already may be asked again."""
        self._reached("unplug")
        try:
            await self._run("device_del", {"id": str(device)})
        except VmError as error:
            if "not found" in str(error):
                with contextlib.suppress(VmError):
                    await self._run("object-del", {"id": f"{device}{_MEMORY}"})
                return True
            if "in the process of unplug" not in str(error):
                raise
        return False

    async def migration_blockers(self) -> list[str]:
        """Return QEMU's reasons."""
        answer = await self._run("query-migrate")
        return [str(reason) for reason in answer.get("blocked-reasons", [])]


def _below(devices: list[dict[str, Any]]) -> list[Bus]:
    """Return the buses behind bridges that have a name."""
    found: list[Bus] = []
    for device in devices:
        ids = (device["id"]["vendor"], device["id"]["device"])
        name = device.get("qdev_id", "")
        behind = device.get("pci_bridge", {}).get("devices", [])
        if ids == _BRIDGE and name:
            # Slot 0 is the bridge's own hot-plug controller's.
            found.append(Bus(name=name, free=_SLOTS - 1 - len({one["slot"] for one in behind})))
        elif ids in _ROOT_PORTS and name:
            found.append(Bus(name=name, free=0 if behind else 1))
        found += _below(behind)
    return found
