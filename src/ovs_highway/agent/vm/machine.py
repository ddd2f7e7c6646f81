# SPDX-License-Identifier: Apache-2.0
"""One virtual machine: follows it, serves its ports, plugs regions in and out.

Three things run side by side: the control channel, the hypervisor, and a round that compares what
is plugged with what should be. A VM that is slow or silent delays itself only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from ovs_highway import protocol
from ovs_highway.agent.vm.books import Books, Device, State
from ovs_highway.agent.vm.channel import PortChannel, VmChannel
from ovs_highway.errors import HighwayError, VmError
from ovs_highway.events import about
from ovs_highway.hypervisor import DeviceId, Hypervisor, Kind
from ovs_highway.log import LogLimit
from ovs_highway.shm import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ovs_highway.protocol import Hello, LinkAdd, Message
    from ovs_highway.region import LinkRegion
    from ovs_highway.vms import VmConfig

log = logging.getLogger(__name__)

_RETRY: Final = 0.2
_RETRY_PORT: Final = 2.0
_ROUND: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFile:
    """A region as a hypervisor is given it; `size` in bytes."""

    region_id: int
    path: Path
    size: int


class Host(Protocol):
    """What a VM needs of highwayd."""

    async def serve(self, name: str, channel: PortChannel) -> None:
        """Serve the VNF at a port for its life."""

    def port_id(self, name: str) -> int | None:
        """Return the id of a port's region, None if there is no such port now."""

    def port_file(self, name: str) -> RegionFile | None:
        """Return the same region as a file, which takes a look into all places of regions."""

    def link_ids(self) -> Collection[int]:
        """Return the links that are not over yet."""

    def link_ends(self, link_id: int) -> Collection[str]:
        """Return the ports of a link, nothing if there is no such link."""

    def link_failed(self, channel: PortChannel, link_id: int, reason: str) -> None:
        """A link's region could not be plugged in for this VNF."""

    def news(self) -> None:
        """Something changed that links may depend on."""


class Machine:
    """One VM; `run` is its life, as long as its file says the same."""

    def __init__(self, config: VmConfig, hypervisor: Hypervisor, host: Host) -> None:
        self.config = config
        self._hypervisor = hypervisor
        self._host = host
        self._channel = VmChannel(config.name)
        self._books = Books(config.name)
        self._sessions: dict[str, PortChannel] = {}
        self._names: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._told: dict[int, list[PortChannel]] = {}
        self._gone_said: set[int] = set()
        self._retry: dict[str, float] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._retired = False
        self._prepared: dict[str, int] = {}
        self._followed = False
        self._program = False
        self._problem = ""
        self._blockers: list[str] | None = None
        self._limit = LogLimit(per_second=0.5)
        self._dirty = asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Look after the VM until cancelled; what is plugged stays plugged."""
        try:
            async with self._group as group:
                group.create_task(self._control(), name=f"control of VM {self.config.name}")
                group.create_task(self._follow(), name=f"VM {self.config.name}")
                group.create_task(self._rounds(), name=f"devices of VM {self.config.name}")
        finally:
            self._channel.close()
            with contextlib.suppress(Exception):
                await self._hypervisor.close()

    async def retire(self) -> None:
        """Let go of the ports, before `run` is cancelled since the VM is looked after no more."""
        self._retired = True
        self._close_sessions()
        if self._serving:
            await asyncio.wait(self._serving)

    def describe(self) -> dict[str, Any]:
        """Return what is known of the VM, for people."""
        return {
            "name": self.config.name,
            "ports": list(self.config.ports),
            "domain": self.config.domain,
            "attached": self.config.attached,
            "running": self._followed,
            "program": self._program,
            "problem": self._problem,
            "migration_blockers": self._blockers,
            "devices": [
                {
                    "id": str(one.ident),
                    "kind": one.ident.kind.value,
                    "key": one.ident.key,
                    "bytes": one.size,
                    "bus": one.bus,
                    "state": one.state.value,
                    "users": sorted(one.users),
                }
                for one in self._books
            ],
        }

    def why_no_link(self, size: int) -> str | None:
        """Return why no link's region of `size` bytes can be plugged, None if one can."""
        if not self._followed:
            return self._problem or f"VM {self.config.name}: its hypervisor does not answer yet"
        return self._books.why_full(size)

    # The hypervisor ----------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                await self._prepare()
                await self._hypervisor.connect()
                await self._take_stock()
                self._note("")
                log.info("VM %s: found", self.config.name, extra=about("vm"))
                self._followed = True
                self._wake()
                await self._hypervisor.follow(self)
                log.info("VM %s: gone", self.config.name, extra=about("vm"))
            except VmError as error:
                self._note(str(error))
            finally:
                self._followed = False
                await self._hypervisor.close()
            # The VNFs' sessions hang on the control channel, which ends if the VM has.
            self._books.clear()
            self._told.clear()
            self._wake()
            await asyncio.sleep(_RETRY)

    async def _prepare(self) -> None:
        """Have the VM able to open its ports' regions when it is started."""
        for name in self.config.ports:
            region_id = self._host.port_id(name)
            if region_id is None or self._prepared.get(name) == region_id:
                continue
            if (file := self._host.port_file(name)) is not None:
                await self._hypervisor.prepare(file.path)
                self._prepared[name] = file.region_id

    def _note(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            if problem and self._limit():
                log.info("%s", problem)

    async def _take_stock(self) -> None:
        """See what is plugged, by us in an earlier life or when the VM was started."""
        present = await self._hypervisor.program_present()
        found = []
        for ident in await self._hypervisor.devices():
            device = Device(ident, 0, state=State.PLUGGED)
            if ident.kind is Kind.PORT:
                users: Collection[str] = {ident.key}
                file = self._host.port_file(ident.key)
                if file is not None:
                    device.size, device.region_id = file.size, file.region_id
            else:
                users = self._host.link_ends(device.link_id) or self.config.ports
            if present:
                device.users = set(users) & set(self.config.ports)
            found.append(device)
        self._books.start(await self._hypervisor.buses(), found)
        self._program = present

    def program(self, present: bool) -> None:
        """The guest's end of the control channel was opened or closed."""
        self._program = present
        if present:
            return
        self._close_sessions()
        self._books.no_program()
        self._wake()

    def _close_sessions(self) -> None:
        for channel in self._sessions.values():
            channel.close()
        self._sessions.clear()

    def reset(self) -> None:
        """Nothing runs in the VM any more; what is plugged stays plugged."""
        log.info("VM %s: reset", self.config.name, extra=about("vm"))
        self.program(False)

    def unplugged(self, device: DeviceId) -> None:
        """The guest has let go of a device."""
        if self._books.gone(device) is not None:
            self._tell("unplugged", device)
        self._wake()

    def _tell(self, what: str, device: DeviceId, **details: object) -> None:
        log.info(
            "VM %s: %s %s",
            self.config.name,
            device,
            what,
            extra=about("vm", vm=self.config.name, device=str(device), what=what, **details),
        )

    # The control channel -----------------------------------------------------------------------

    async def _control(self) -> None:
        while True:
            with contextlib.suppress(VmError):
                path = self.config.control or await self._hypervisor.control_path()
                await self._channel.run(path or "", self._take)
                self._program = False
                self._close_sessions()
            await asyncio.sleep(_RETRY)

    def _take(self, message: Message) -> None:
        if isinstance(message, protocol.Hello):
            self._greeted(message)
            return
        name = self._names.get(message.port_id)
        if name is None:
            return
        match message:
            case protocol.LinkRemoved(link_id=link_id):
                self._books.released(name, link_id=link_id)
            case protocol.LinkAdded(link_id=link_id, status=status) if status is not Status.OK:
                self._books.released(name, link_id=link_id)
            case protocol.PortReleased():
                self._books.released(name)
                if (channel := self._sessions.pop(name, None)) is not None:
                    channel.close()
                self._wake()
                return
        channel = self._sessions.get(name)
        if channel is not None and not channel.closed:
            channel.deliver(message)
        self._wake()

    def _greeted(self, hello: Hello) -> None:
        """A port of this VM is there, as far as the guest says the truth."""
        region_id = self._host.port_id(hello.name)
        self._program = True
        if self._retired:
            return
        if hello.name not in self.config.ports or region_id is None:
            what = (
                "has no such port"
                if region_id is not None
                else "is to have it, but it is not there"
            )
            text = f"VM {self.config.name} {what}: {hello.name}"
            answer = protocol.Welcome(port_id=hello.port_id, status=Status.LATER, text=text)
            self._channel.send(answer)
            return
        self._names = {ident: name for ident, name in self._names.items() if name != hello.name}
        self._names[hello.port_id] = hello.name
        device = self._books.port(hello.name)
        if device is not None:
            device.region_id = hello.port_id
            device.users.add(hello.name)
        if hello.port_id != region_id or not self.config.attached:
            gone = protocol.PortGone(port_id=hello.port_id, region_id=hello.port_id)
            self._channel.send(gone)
            return
        channel = self._sessions.get(hello.name)
        if channel is not None and not channel.closed:
            if channel.epoch == hello.epoch:
                channel.deliver(hello)
                return
            # Its program has died without our noticing, and with it all that it had mapped.
            channel.close()
            self._books.released(hello.name)
            if device is not None:
                device.users.add(hello.name)
        self._numbers[hello.name] = self._numbers.get(hello.name, 0) + 1
        channel = PortChannel(hello, self._channel.pace, self._channel.send, self._plug_link)
        self._sessions[hello.name] = channel
        task = self._group.create_task(self._serve(channel), name=f"VNF at {hello.name}")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._wake()

    async def _serve(self, channel: PortChannel) -> None:
        try:
            await self._host.serve(channel.name, channel)
        except HighwayError as error:
            if self._limit():
                log.warning("VM %s: %s", self.config.name, error)
        finally:
            channel.close()
            if self._sessions.get(channel.name) is channel:
                del self._sessions[channel.name]
            self._wake()

    # Devices -----------------------------------------------------------------------------------

    def _plug_link(self, message: LinkAdd, link: LinkRegion) -> None:
        """Plug a link's region in unless it is there, and tell the port of it.

        The guest is told at once: it looks for the device while QEMU still plugs it.
        """
        name = self._names.get(message.port_id)
        channel = self._sessions.get(name or "")
        if name is None or channel is None:
            return
        device = self._books.link(message.link_id)
        try:
            if device is None:
                ident = DeviceId.fresh(Kind.LINK, f"{message.link_id:016x}")
                device = self._books.book(ident, link.size, region_id=message.link_id)
                file = RegionFile(region_id=message.link_id, path=link.path, size=link.size)
                self._group.create_task(self._plug(device, file), name=f"plug {ident}")
        except VmError as error:
            self._host.link_failed(channel, message.link_id, str(error))
            return
        device.users.add(name)
        channel.send(message)
        if device.state is not State.PLUGGED:
            self._told.setdefault(message.link_id, []).append(channel)

    async def _plug(self, device: Device, file: RegionFile) -> None:
        problem = ""
        began = time.monotonic()
        try:
            await self._hypervisor.plug(device.ident, file.path, file.size, device.bus)
            self._tell("plugged", device.ident, took_ms=(time.monotonic() - began) * 1000)
        except VmError as error:
            problem = str(error)
            if device.ident.kind is Kind.PORT:
                self._books.gone(device.ident)
                self._retry[device.ident.key] = time.monotonic() + _RETRY_PORT
            if self._limit():
                log.warning("%s", problem)
        # After a failure too: a hypervisor that did not answer in time may have it all the same.
        device.state = State.PLUGGED
        told = self._told.pop(device.link_id, [])
        for channel in told if problem else ():
            # It looks for the device in vain.
            ident = channel.region_id
            channel.send(protocol.LinkRemove(port_id=ident, link_id=device.link_id, text=problem))
            self._host.link_failed(channel, device.link_id, problem)
        self._wake()

    async def _unplug(self, device: Device) -> None:
        try:
            if await self._hypervisor.unplug(device.ident):
                self.unplugged(device.ident)
        except VmError as error:
            if self._limit():
                log.warning("%s", error)

    def _wake(self) -> None:
        self._dirty.set()
        self._host.news()

    async def _rounds(self) -> None:
        now: Callable[[], float] = asyncio.get_running_loop().time
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ROUND):
                    await self._dirty.wait()
            self._dirty.clear()
            if self._followed:
                self._round(now())

    def _round(self, now: float) -> None:
        ids = {name: self._host.port_id(name) for name in self.config.ports}
        wanted = {name: ident for name, ident in ids.items() if ident is not None}
        if not self.config.attached:
            wanted = {}
        numbers = {name: self._numbers[name] for name in self._sessions}
        for name, link_id in self._books.to_ask(self._host.link_ids(), numbers):
            channel = self._sessions[name]
            text = "highwayd does not know this link"
            channel.send(protocol.LinkRemove(port_id=channel.region_id, link_id=link_id, text=text))
        for name, channel in self._sessions.items():
            if self._to_take_back(name, channel, wanted):
                self._gone_said.add(id(channel))
                ident = channel.region_id
                channel.send(protocol.PortGone(port_id=ident, region_id=ident))
        self._gone_said &= {id(channel) for channel in self._sessions.values()}
        for device in self._books.to_unplug(wanted, now):
            self._group.create_task(self._unplug(device), name=f"unplug {device.ident}")
        for name in wanted:
            if self._books.port(name) is None and time.monotonic() >= self._retry.get(name, 0):
                self._plug_port(name)
        if self.config.attached or any(self._books):
            self._blockers = None
        elif self._blockers is None:
            self._blockers = []
            self._group.create_task(self._ask_for_blockers(), name="migration")

    async def _ask_for_blockers(self) -> None:
        """With no device of ours left: can the VM be migrated now?"""
        with contextlib.suppress(VmError):
            self._blockers = await self._hypervisor.migration_blockers()

    def _to_take_back(self, name: str, channel: PortChannel, wanted: dict[str, int]) -> bool:
        """Tell whether a port's region has to go, its links having gone."""
        if id(channel) in self._gone_said or any(
            one.link_id and name in one.users for one in self._books
        ):
            return False
        return wanted.get(name) != channel.region_id

    def _plug_port(self, name: str) -> None:
        if (file := self._host.port_file(name)) is None:
            return
        ident = DeviceId.fresh(Kind.PORT, name)
        try:
            device = self._books.book(ident, file.size, region_id=file.region_id)
        except VmError as error:
            self._note(str(error))
            return
        self._group.create_task(self._plug(device, file), name=f"plug {ident}")
