# SPDX-License-Identifier: Apache-2.0
"""A bridge with VNFs in VMs and in processes: the scene of the system tests, and guests.

VNFs in guests sleep when there is nothing to do, since more of them run here than there are cores.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.system.scene import Scene, Vnf, becomes, eventually

from ovs_highway import vms
from ovs_highway.lab.vm import GuestTestPmd, Vm, vm_options

if TYPE_CHECKING:
    from collections.abc import Sequence

IDLE: Final = "idle=sleep"


class GuestVnf(GuestTestPmd, Vnf):
    """A testpmd in a guest that receives all the time."""


class VmWorld(Scene):
    """Bridge `br0`; VMs with their VNFs, all gone again at the end."""

    def vm(
        self,
        number: int,
        *more: int,
        options: Sequence[str] = (),
        machine: str = "pc",
        kernel: str = "",
    ) -> Vm:
        """Start the VM `vm<number>`, whose ports are `p<number>` and more if named."""
        name = f"vm{number}"
        self._stack.callback(vms.forget, name, self.sandbox.rundir)
        words = vm_options(self.sandbox, name, *(f"p{n}" for n in (number, *more)))
        vm = Vm(
            name,
            options=[*words, *options],
            directory=self.sandbox.rundir,
            machine=machine,
            kernel=kernel,
            env=self.sandbox.env,
        )
        return self.use(vm)

    def guest(
        self,
        vm: Vm,
        *,
        devargs: str = IDLE,
        vdevs: Sequence[str] = (),
        app_args: Sequence[str] = (),
        ports: int = 1,
    ) -> GuestVnf:
        """Start a testpmd in a VM that receives at the ports it finds."""
        vnf = GuestVnf(
            vm,
            env=self.sandbox.env,
            devargs="" if vdevs else devargs,
            vdevs=vdevs,
            forward="rxonly",
            app_args=app_args,
        )
        vnf.launch()
        self._stack.callback(vnf.close)
        for port in range(ports):
            vnf.wait_link_up(port)
        vnf.start()
        return vnf

    def pair(self) -> tuple[Vm, Vm, GuestVnf, GuestVnf]:
        """Start two VMs at p1 and p2, each the other's only peer; both ways are one flow."""
        self.ports(2)
        one, two = self.vm(1), self.vm(2)
        first, second = self.guest(one), self.guest(two)
        self.add_flow("cookie=1,in_port=1,actions=2")
        self.add_flow("cookie=2,in_port=2,actions=1")
        return one, two, first, second

    # what highwayd says ------------------------------------------------------------------------

    def vms(self) -> dict[str, dict[str, Any]]:
        """Return what `highway vm list` shows, by VM."""
        text = self.highway("vm", "list", "--format", "json")
        return {one["name"]: one for one in json.loads(text)}

    def devices(self, vm: Vm, kind: str = "link") -> list[str]:
        """Return our devices of a VM, as highwayd has them."""
        found = self.vms()[vm.name]["devices"]
        return sorted(one["key"] for one in found if one["kind"] == kind)

    def link_reason(self, one: int, other: int) -> str:
        """Return why there is no link from `p<one>` to `p<other>`."""
        text = self.highway("links", "--format", "json")
        for link in json.loads(text)["links"]:
            if (link["from"], link["to"]) == (f"p{one}", f"p{other}"):
                return str(link["reason"] or "")
        return "no such link"

    def trust(self, number: int, label: str) -> None:
        """Give a port a trust label, and have nothing but labels decide about links."""
        self.sandbox.vsctl(
            *("set", "Interface", f"p{number}", f"external_ids:highway-trust={label}", "--"),
            *("set", "Open_vSwitch", ".", "external_ids:highway-detector=off"),
        )

    def is_unplugged(self, *vms: Vm) -> None:
        """Wait until VMs have no device of a link, as highwayd and as the guest sees it."""
        for vm in vms:
            becomes(lambda vm=vm: self.devices(vm), [], f"links of {vm.name}")  # type: ignore[misc]
            ports = len(self.vms()[vm.name]["ports"])
            becomes(lambda vm=vm: len(vm.ports()), ports, f"devices in {vm.name}")  # type: ignore[misc]

    def no_regions(self) -> None:
        """Wait until there is no link's region."""
        eventually(lambda: not self.region_files("link-"), "all links' regions are gone")
