# SPDX-License-Identifier: Apache-2.0
"""All virtual machines of one run directory, as their files say."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import vms
from ovs_highway.agent.breakpoint import Breakpoint
from ovs_highway.agent.vm.channel import PortChannel
from ovs_highway.agent.vm.machine import Host, Machine
from ovs_highway.hypervisor.libvirt import LibvirtDomain
from ovs_highway.hypervisor.qemu import Qemu
from ovs_highway.region import SHM_DIR, LinkRegion

if TYPE_CHECKING:
    from ovs_highway.agent.ports import Port
    from ovs_highway.hypervisor import Hypervisor
    from ovs_highway.vms import VmConfig

log = logging.getLogger(__name__)

_LOOK: Final = 0.3


class Machines:
    """Follows the VMs' files and has a `Machine` for each."""

    def __init__(self, rundir: Path, host: Host) -> None:
        self._rundir = rundir
        self._host = host
        self._running: dict[str, tuple[Machine, asyncio.Task[None]]] = {}
        self._problems: set[str] = set()

    async def run(self) -> None:
        """Follow the files until cancelled; VMs and what is plugged in them stay."""
        async with asyncio.TaskGroup() as group:
            seen: object = None
            while True:
                stamp = vms.stamp(self._rundir)
                if stamp != seen:
                    seen = stamp
                    await self._follow(group)
                await asyncio.sleep(_LOOK)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        configs, problems = vms.load_all(self._rundir)
        for problem in {str(error) for error in problems} - self._problems:
            log.warning("%s", problem)
        self._problems = {str(error) for error in problems}
        for name, (machine, task) in list(self._running.items()):
            config = configs.get(name)
            if config is not None and _same_place(config, machine.config):
                machine.config = config
                continue
            await machine.retire()
            task.cancel()
            await asyncio.wait([task])
            del self._running[name]
        for name, config in configs.items():
            if name not in self._running:
                machine = Machine(config, hypervisor_of(config), self._host)
                task = group.create_task(machine.run(), name=f"VM {name}")
                self._running[name] = machine, task
        self._host.news()

    def of_port(self, port: str) -> Machine | None:
        """Return the VM that a port belongs to, None if it belongs to none."""
        return next(
            (machine for machine, _ in self._running.values() if port in machine.config.ports), None
        )

    def limits(self, port: Port) -> tuple[str | None, str | None]:
        """Return why a port may have no links now, and why it can have no further one."""
        machine = self.of_port(port.name)
        if machine is None or port.vnf is None or not isinstance(port.vnf.channel, PortChannel):
            return None, None
        if not machine.config.attached:
            return f"VM {machine.config.name} is being detached", None
        size = LinkRegion.size_of((port.region.n_queues,) * 2, port.region.rings.size)
        return None, machine.why_no_link(size)

    def region_dirs(self, pair: tuple[str, str]) -> list[Path] | None:
        """Return where the region of a link has to lie, None if anywhere."""
        for name in pair:
            machine = self.of_port(name)
            if machine is not None and machine.config.domain is not None:
                return [SHM_DIR]
        return None

    def describe(self) -> list[dict[str, Any]]:
        """Return what is known of all VMs, for people."""
        return [machine.describe() for _, (machine, _) in sorted(self._running.items())]


def _same_place(one: VmConfig, other: VmConfig) -> bool:
    return (one.control, one.qmp, one.domain, one.uri) == (
        other.control,
        other.qmp,
        other.domain,
        other.uri,
    )


def hypervisor_of(config: VmConfig) -> Hypervisor:
    """Return who runs a VM."""
    if config.domain is not None:
        return LibvirtDomain(config.name, config.domain, config.uri)
    stop = Breakpoint()
    return Qemu(config.name, Path(config.qmp or ""), lambda step: stop.reach(step, config.name))
