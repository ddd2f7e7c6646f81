# SPDX-License-Identifier: Apache-2.0
"""Three ports with a VNF at each, which many short tests share.

In these tests `one` at p1 sends, `two` at p2 is who its flow sends to, and `three` at p3 is there
for everything else: mirrors, second buckets, floods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.system.scene import BRIDGE, Count, becomes, eventually, settled

if TYPE_CHECKING:
    from tests.system.scene import Scene

BURSTS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What one sent, how much of it past the switch, and what each of the three received."""

    sent: Count
    bypassed: int
    one: Count
    two: Count
    three: Count


class Trio:
    """Ports p1, p2 and p3 of bridge br0, each with a testpmd that receives."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        scene.ports(3)
        self.two, self.three, self.one = scene.vnf(2), scene.vnf(3), scene.vnf(1)
        self._region = scene.region(1)
        self._refused = 0

    def reset(self) -> None:
        """Take back what a test has configured, and have OVS forget all datapath flows."""
        per_port = [
            word
            for port in ("p1", "p2", "p3")
            for word in (
                *("--", "clear", "Port", port, "tag", "qos"),
                *("--", "clear", "Interface", port, "bfd", "lldp"),
                *("--", "remove", "Interface", port, "external_ids", "highway"),
                *("--", "set", "Interface", port, "ingress_policing_rate=0"),
                *("--", "set", "Interface", port, "ingress_policing_burst=0"),
            )
        ]
        self.scene.sandbox.vsctl(
            *("clear", "Bridge", BRIDGE, "mirrors", "sflow", "ipfix", "netflow"),
            *("--", "--all", "destroy", "Flow_Sample_Collector_Set"),
            *("--", "--all", "destroy", "QoS"),
            *per_port,
        )
        for command in ("del-flows", "del-groups", "del-meters"):
            self.scene.ofctl(command)
        self.forget()

    def forget(self) -> None:
        """Have OVS forget all datapath flows, and the driver its rules."""
        self.scene.sandbox.appctl("revalidator/purge")
        eventually(lambda: self.scene.datapath_flows() == [], "OVS forgets its flows")
        regions = [self.scene.region(number) for number in (1, 2, 3)]
        eventually(lambda: not any(region.rules() for region in regions), "no rules are left")
        self.mark()

    def mark(self) -> None:
        """From here on `normal` waits for new decisions."""
        self._refused = self._region.switch().rules_refused

    def sees_links(self) -> None:
        """Wait until OVS knows that p2 and p3 are up: it looks at a DPDK port's link every 5 s.

        Then it looks at its flows again, too.
        """
        get = self.scene.sandbox.vsctl
        for port in ("p2", "p3"):
            becomes(
                lambda port=port: get("get", "Interface", port, "link_state"),  # type: ignore[misc]
                "up\n",
                f"the link of {port}",
            )

    def pass_on(self, bursts: int = BURSTS) -> Passed:
        """Have one send some bursts; return what was received by whom once nothing more comes."""
        before = [vnf.received() for vnf in (self.one, self.two, self.three)]
        bypassed = self.one.bypassed()
        sent = self.one.send(bursts)
        vnfs = self.one, self.two, self.three
        settled(lambda: sum((vnf.received() for vnf in vnfs), Count()))
        got = [vnf.received() - was for vnf, was in zip(vnfs, before, strict=True)]
        return Passed(
            sent=sent,
            bypassed=self.one.bypassed() - bypassed,
            one=got[0],
            two=got[1],
            three=got[2],
        )

    def bypass(self, cookie: int | None = 1) -> Passed:
        """See that the bypass comes into use; return what then passes, none of it by the switch.

        The flow of that cookie must show it all. A purge by highwayd, which follows each change
        of a mirror, may end the bypass once more.
        """
        seen: list[Passed] = []

        def whole() -> bool:
            self.scene.bypass_on(self.one)
            seen.append(self._counted(cookie))
            return seen[-1].bypassed == seen[-1].sent.packets

        eventually(whole, "all that p1 sends goes over the bypass")
        return seen[-1]

    def normal(self, cookie: int | None = 1) -> Passed:
        """See that nothing takes the bypass once the driver has decided; return what then passes.

        It has decided when each datapath flow from p1 is offloaded, and thus either a rule or
        inert, or when it has refused one since the last `mark`. The flow of that cookie must show
        what passes.
        """

        def decided() -> bool:
            self.one.send()
            flows = [line for line in self.scene.datapath_flows() if "in_port(p1)" in line]
            refused = self._region.switch().rules_refused > self._refused
            return flows != [] and (refused or all("offloaded:yes" in line for line in flows))

        eventually(decided, "the driver decides on what p1 sends")
        assert self._region.rules() == []
        passed = self._counted(cookie)
        assert passed.bypassed == 0
        return passed

    def _counted(self, cookie: int | None) -> Passed:
        if cookie is None:
            return self.pass_on()
        self.scene.revalidate()
        start = settled(lambda: self.scene.flow(cookie))
        passed = self.pass_on()
        self.scene.flow_becomes(cookie, start + passed.sent)
        return passed

    def mirror(self, *columns: str) -> None:
        """Mirror to p3; words such as `select-src-port=@p1` name ports by `@` and their name."""
        names = [word for n in (1, 2, 3) for word in (f"--id=@p{n}", "get", "Port", f"p{n}", "--")]
        self.scene.sandbox.vsctl(
            *names,
            *("--id=@m", "create", "Mirror", "name=m", *columns),
            *("--", "set", "Bridge", BRIDGE, "mirrors=@m"),
        )
