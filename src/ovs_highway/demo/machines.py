# SPDX-License-Identifier: Apache-2.0
"""The chain of the VM demo: source → VNF → sink, each an unmodified testpmd in a VM of its own.

And a container's worth of a VNF, a process that is handed its port's socket only.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, Self

from ovs_highway.bench.command import highway
from ovs_highway.demo import openflow
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox, TestPmd
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.vm import GuestTestPmd, Vm, accelerator, vm_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ovs_highway.demo.screen import Screen

BRIDGE: Final = "br0"
SOURCE, IN, OUT, SINK, BOX = "source", "vnf0", "vnf1", "sink", "box"
PORTS: Final = (SOURCE, IN, OUT, SINK, BOX)
MACHINES: Final = (
    ("vm-source", "txonly", (SOURCE,)),
    ("vm-vnf", "io", (IN, OUT)),
    ("vm-sink", "rxonly", (SINK,)),
)
HOPS: Final = ((SOURCE, IN), (OUT, SINK))
PATIENCE: Final = 60.0
_SLEEP_US: Final = 500


class Machines:
    """The switch, three VMs and a process: `with Machines(screen) as machines: …`."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stack = contextlib.ExitStack()
        self.sandbox = Sandbox(other_config={"pmd-maxsleep": str(_SLEEP_US)})
        self.accelerator = accelerator()
        self._vnfs: dict[str, tuple[TestPmd, int]] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.sandbox)
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _build(self, stack: contextlib.ExitStack) -> None:
        sandbox, env, screen = self.sandbox, self.sandbox.env, self._screen
        sandbox.add_bridge(BRIDGE)
        for number, name in enumerate(PORTS, 1):
            sandbox.add_port(BRIDGE, name, number)
        for name, forward, ports in MACHINES:
            wanted = " ".join(ports)
            screen.command(f"qemu-system-x86_64 … $(highway vm args --name {name} {wanted})")
            vm = Vm(
                name,
                options=vm_options(sandbox, name, *ports),
                directory=sandbox.rundir,
                accel=self.accelerator,
                env=env,
            )
            stack.enter_context(vm)
            vnf: TestPmd = GuestTestPmd(vm, devargs="idle=sleep", forward=forward, env=env)
            stack.enter_context(vnf)
            for number, port in enumerate(ports):
                self._vnfs[port] = vnf, number
        box = TestPmd(BOX, vdevs=[f"net_highway0,port={BOX},idle=yield"], forward="rxonly", env=env)
        self._vnfs[BOX] = stack.enter_context(box), 0
        for vnf, number in self._vnfs.values():
            vnf.wait_link_up(number, timeout=PATIENCE)
        for name in (IN, SINK, BOX):
            self._vnfs[name][0].start()

    # what is done ------------------------------------------------------------------------------

    @property
    def source(self) -> TestPmd:
        """The VNF that sends."""
        return self._vnfs[SOURCE][0]

    def ofctl(self, *words: str) -> None:
        """Show and run an ovs-ofctl command."""
        shown = " ".join(f"'{word}'" if set(word) & set(" *()") else word for word in words)
        self._screen.command(f"ovs-ofctl {shown}")
        self.sandbox.ofctl(*words)

    def highway(self, *words: str) -> None:
        """Show and run a `highway` command, with what it prints."""
        self._screen.command(" ".join(["highway", *words]), highway(self.sandbox, *words))

    def revalidate(self) -> None:
        """Wait until no flow of OVS's datapath follows rules that are gone."""
        for _ in range(2):  # the first may end a round that was under way
            self.sandbox.appctl("revalidator/wait")

    # what is seen ------------------------------------------------------------------------------

    def sent(self, port: str) -> int:
        """Return what the VNF has sent from a port, in packets."""
        vnf, number = self._vnfs[port]
        return vnf.stats(number).tx_packets

    def received(self, port: str) -> int:
        """Return what the VNF has received at a port, in packets."""
        vnf, number = self._vnfs[port]
        return vnf.stats(number).rx_packets

    def xstat(self, port: str, name: str) -> int:
        """Return an extended statistic of a port."""
        vnf, number = self._vnfs[port]
        return vnf.xstats(number)[name]

    def rule_packets(self, port: str) -> int:
        """Return `n_packets` of the rule for what comes from a port."""
        text = self.sandbox.ofctl("--names", "dump-flows", BRIDGE)
        for rule in openflow.parse_rules(text):
            if rule.match.replace('"', "") == f"in_port={port}":
                return rule.packets
        raise SandboxError(f"the switch has no rule for in_port={port}")

    def await_(self, check: Callable[[], bool], what: str) -> None:
        """Wait until something holds.

        Raises:
            SandboxError: it does not.
        """
        if not wait_until(check, PATIENCE, interval=0.1):
            said = " | ".join(highway(self.sandbox, "links", "--interval", "0").splitlines())
            raise SandboxError(f"not within {PATIENCE:.0f} s: {what}; links: {said}")

    def await_bypass(self, sender: str, receiver: str) -> None:
        """Wait until a port receives from the bypass what another sends."""
        before = self.xstat(receiver, "rx_bypass_packets")
        self.await_(
            lambda: self.xstat(receiver, "rx_bypass_packets") > before,
            f"{sender} uses the bypass to {receiver}",
        )

    def plugged(self) -> dict[str, list[str]]:
        """Return the links plugged in each VM, by their ids."""
        found = json.loads(highway(self.sandbox, "vm", "list", "--format", "json"))
        return {
            one["name"]: [dev["key"] for dev in one["devices"] if dev["kind"] == "link"]
            for one in found
        }

    def set_up_ms(self) -> list[float]:
        """Return how long each link took from the making of its region to being active, in ms."""
        text = highway(self.sandbox, "events", "--kind", "link", "--format", "json")
        made: dict[tuple[str, ...], float] = {}
        took = []
        for line in text.splitlines():
            event: dict[str, Any] = json.loads(line)
            pair = tuple(event["ports"])
            if event.get("phase") == "region made":
                made[pair] = event["time"]
            elif event.get("phase") == "active" and pair in made:
                took.append((event["time"] - made.pop(pair)) * 1000)
        return took
