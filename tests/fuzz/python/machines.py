# SPDX-License-Identifier: Apache-2.0
"""The control channel of a VM: its guest may send what it likes for all of the VM's ports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import protocol
from ovs_highway.agent.vm.machine import Machine, RegionFile
from ovs_highway.hypervisor import Bus, DeviceId, Kind
from ovs_highway.vms import VmConfig

from .messages import stream
from .taker import Taker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from ovs_highway.agent.vm.channel import PortChannel
    from ovs_highway.protocol import Message

_PORTS: Final = {"a": 11, "b": 12}
_LINKS: Final = (21, 22)
_FILE: Final = Path("/dev/null")


class _Pause:
    """Awaiting it goes on never."""

    def __await__(self) -> Any:  # noqa: ANN401
        yield


class _Group:
    """In place of a TaskGroup: tasks run up to where they wait, and end with `close`."""

    def __init__(self) -> None:
        self._waiting: list[Coroutine[Any, Any, None]] = []

    def create_task(self, task: Coroutine[Any, Any, None], *, name: str) -> _Group:
        try:
            task.send(None)
        except StopIteration:
            pass
        else:
            self._waiting.append(task)
        return self

    def add_done_callback(self, _call: Callable[[object], None]) -> None:
        pass

    def close(self) -> None:
        for task in self._waiting:
            task.close()


class _Hypervisor:
    """It does at once what it is asked for."""

    async def plug(self, device: DeviceId, path: Path, size: int, bus: str | None) -> None:
        pass

    async def unplug(self, device: DeviceId) -> bool:
        return True


class _Host:
    """highwayd with two ports and two links."""

    async def serve(self, name: str, channel: PortChannel) -> None:
        assert name in _PORTS
        await _Pause()

    def port_id(self, name: str) -> int | None:
        return _PORTS.get(name)

    def port_file(self, name: str) -> RegionFile | None:
        if name not in _PORTS:
            return None
        return RegionFile(region_id=_PORTS[name], path=_FILE, size=1 << 21)

    def link_ids(self) -> tuple[int, ...]:
        return _LINKS

    def link_ends(self, link_id: int) -> tuple[str, ...]:
        return tuple(_PORTS) if link_id in _LINKS else ()

    def link_failed(self, channel: PortChannel, link_id: int, reason: str) -> None:
        raise AssertionError(reason)

    def news(self) -> None:
        pass


class _Link:
    """The region of a link."""

    size: Final = 1 << 21
    path: Final = _FILE


def _check(machine: Machine) -> None:
    assert set(machine._sessions) <= set(_PORTS)
    assert set(machine._names.values()) <= set(_PORTS)
    assert len(machine._names) <= len(_PORTS)
    for device in machine._books:
        assert device.users <= set(_PORTS)
        known = _PORTS if device.ident.kind is Kind.PORT else {f"{one:016x}" for one in _LINKS}
        assert device.ident.key in known


def one_input(data: bytes) -> None:
    """Nothing raises; no port, device or link but those that exist; all that is said is sound."""
    take = Taker(data)
    host, hypervisor, group, said = _Host(), _Hypervisor(), _Group(), list[bytes]()
    config = VmConfig(name="vm", ports=tuple(_PORTS), control="c", qmp="q")
    machine = Machine(config, hypervisor, host)  # type: ignore[arg-type]
    machine._group = group  # type: ignore[assignment]

    def send(message: Message) -> None:
        said.append(protocol.encode(message))

    machine._channel.send = send  # type: ignore[method-assign]
    machine._books.start([Bus(name="pci.0", free=3)], [])
    machine._followed = True
    how = take.number()
    for message in protocol.Decoder().feed(stream(take)[0]):
        machine._take(message)
        if how & 1:
            machine._round(float(how))
        for channel in list(machine._sessions.values()):
            if how & 2:
                link = protocol.LinkAdd(port_id=channel.region_id, link_id=_LINKS[how >> 2 & 1])
                channel.hand_over(link, _Link())  # type: ignore[arg-type]
        _check(machine)
    machine._round(1e9)
    machine.program(False)
    group.close()
    _check(machine)
    decoder = protocol.Decoder()
    assert len(decoder.feed(b"".join(said))) == len(said)


def seeds() -> Iterable[bytes]:
    """A port's whole life."""
    hello, added, removed, released = 0, 6, 9, 14
    for how in range(4):
        kinds = (hello, added, removed, hello, released, hello)
        yield bytes([how, *(byte for kind in kinds for byte in (0, kind, 0))])
