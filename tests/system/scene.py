# SPDX-License-Identifier: Apache-2.0
"""The scene of a data-path test: one bridge of a sandbox, its ports, and testpmd at them.

Port `p3` has OpenFlow number 3, and the VNF at it is called `p3` too.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import pytest

from ovs_highway import paths
from ovs_highway.errors import RegionError
from ovs_highway.lab import Process, Sandbox, TestPmd
from ovs_highway.lab.process import wait_until
from ovs_highway.region import LinkRegion, PortRegion

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

T = TypeVar("T")
PATIENCE: Final = 30.0
BRIDGE: Final = "br0"
BURST: Final = 32
VERSIONS: Final = ("OpenFlow10", "OpenFlow13", "OpenFlow15")
SETTINGS: Final = ("pmd-maxsleep=500", "max-revalidator=100", "max-idle=60000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Packets, and bytes without the frame check sequence."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(packets=self.packets + other.packets, bytes=self.bytes + other.bytes)

    def __sub__(self, other: Count) -> Count:
        return Count(packets=self.packets - other.packets, bytes=self.bytes - other.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCount:
    """What OpenFlow says of a port: received from the VNF, and sent to it."""

    rx: Count
    tx: Count
    tx_dropped: int


def eventually(check: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
    """Wait until something holds; fail with `what` if it never does."""
    if not wait_until(check, patience, interval=0.05):
        pytest.fail(f"not within {patience:.0f} s: {what}")


def becomes(read: Callable[[], object], expected: object, what: str) -> None:
    """Wait until what is read equals what is expected; fail with the last that was read."""
    last: list[object] = [None]

    def equal() -> bool:
        last[0] = read()
        return last[0] == expected

    if not wait_until(equal, PATIENCE, interval=0.05):
        pytest.fail(f"{what}: still {last[0]}, not {expected}")


def settled(read: Callable[[], Count]) -> Count:
    """Return a count once it has stopped growing."""
    seen = [read()]

    def quiet() -> bool:
        seen.append(read())
        return len(seen) > 4 and len(set(seen[-4:])) == 1

    eventually(quiet, "the count does not stop growing")
    return seen[-1]


class Vnf(TestPmd):
    """A testpmd that receives all the time, with short words for what tests count."""

    __test__ = False

    def sent(self, port: int = 0) -> Count:
        """Return what it has sent so far, over both channels."""
        stats = self.stats(port)
        return Count(packets=stats.tx_packets, bytes=stats.tx_bytes)

    def received(self, port: int = 0) -> Count:
        """Return what it has received so far, over both channels."""
        stats = self.stats(port)
        return Count(packets=stats.rx_packets, bytes=stats.rx_bytes)

    def received_all(self, port: int = 0) -> Count:
        """Return what it has received, once nothing more comes."""
        return settled(lambda: self.received(port))

    def bypassed(self, way: str = "tx", port: int = 0) -> int:
        """Return the packets that it has sent (`tx`) or received (`rx`) past the switch."""
        return self.xstats(port)[f"{way}_bypass_packets"]

    def normal(self, way: str = "tx", port: int = 0) -> int:
        """Return the packets that it has sent (`tx`) or received (`rx`) through the switch."""
        return self.xstats(port)[f"{way}_normal_packets"]

    def send(self, bursts: int = 1) -> Count:
        """Send bursts of 32 packets on each port and go on receiving; return what port 0 sent."""
        before = self.sent()
        self.command("stop")
        self.start(tx_first=bursts)
        return self.sent() - before

    def send_to(self, mac: str) -> None:
        """Send to this Ethernet address from now on."""
        self.command("stop")
        self.command(f"set eth-peer 0 {mac}")
        self.start()

    def flood(self) -> None:
        """Send without end, until `quiet`; meanwhile it does not receive."""
        self.command("stop")
        self.set_fwd("txonly")
        self.start()

    def quiet(self) -> Count:
        """End a flood and receive again; return all that was ever sent."""
        self.command("stop")
        self.set_fwd("rxonly")
        self.start()
        return self.sent()


class Scene:
    """Bridge `br0` of a sandbox with its VNFs, both gone again at the end."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.sandbox.vsctl("set", "Open_vSwitch", ".", *(f"other_config:{s}" for s in SETTINGS))
        self.sandbox.add_bridge(BRIDGE)
        self.ofctl("del-flows")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if self.sandbox.daemon("ovs-vswitchd").alive:
            self.sandbox.vsctl("--if-exists", "del-br", BRIDGE)

    # ports and VNFs ----------------------------------------------------------------------------

    def ports(self, count: int, *, first: int = 1, **devargs: str | int) -> None:
        """Add the ports `p<first>` and so on."""
        for number in range(first, first + count):
            self.sandbox.add_port(BRIDGE, f"p{number}", number, **devargs)

    def vnf(
        self,
        number: int,
        *more: int,
        app_args: tuple[str, ...] = (),
        devargs: str = "",
        cores: tuple[int, ...] = (0,),
        await_link: bool = True,
    ) -> Vnf:
        """Start a testpmd that receives at port `p<number>`, and at more ports if named."""
        vnf = Vnf(
            "-".join(f"p{n}" for n in (number, *more)),
            vdevs=[
                f"net_highway{index},port=p{n},idle=yield{devargs}"
                for index, n in enumerate((number, *more))
            ],
            cores=cores,
            forward="rxonly",
            app_args=app_args,
            env=self.sandbox.env,
        )
        vnf.launch()
        self._stack.callback(vnf.close)
        for index in range(1 + len(more) if await_link else 0):
            vnf.wait_link_up(index)
        vnf.start()
        return vnf

    def use(self, context: AbstractContextManager[T]) -> T:
        """Enter a context that is to end with the scene; return what it gives."""
        return self._stack.enter_context(context)

    def region(self, number: int) -> PortRegion:
        """Open the region of port `p<number>`, for writing too."""
        (path,) = [file for file in self.region_files("port-") if file.name.endswith(f"-p{number}")]
        return self._stack.enter_context(PortRegion.open(path))

    def links(self) -> list[LinkRegion]:
        """Open all link regions, but for one that is being made or removed just now."""
        found = []
        for path in self.region_files("link-"):
            with contextlib.suppress(RegionError):
                found.append(self._stack.enter_context(LinkRegion.open(path)))
        return found

    def region_files(self, name: str = "") -> list[Path]:
        """Return the region files whose name, behind the tag, begins with `name`."""
        tag = paths.region_tag(self.sandbox.rundir)
        return [
            path
            for path in paths.region_files(self.sandbox.rundir)
            if path.name.startswith(f"ovs-highway-{tag}-{name}")
        ]

    # OpenFlow ----------------------------------------------------------------------------------

    def ofctl(self, command: str, *arguments: str, version: str = "OpenFlow13") -> str:
        """Run ovs-ofctl for the bridge."""
        return self.sandbox.ofctl("-O", version, "--no-names", command, BRIDGE, *arguments)

    def add_flow(self, text: str) -> None:
        """Add a flow."""
        self.ofctl("add-flow", text)

    def flow(self, cookie: int, *, version: str = "OpenFlow13") -> Count:
        """Return what the flows of one cookie have matched."""
        total = Count()
        for line in self.ofctl("dump-flows", version=version).splitlines():
            if f"cookie={cookie:#x}," in line:
                found = re.search(r"n_packets=(\d+), n_bytes=(\d+)", line)
                assert found is not None, line
                total += Count(packets=int(found[1]), bytes=int(found[2]))
        return total

    def flow_becomes(self, cookie: int, expected: Count, *, version: str = "OpenFlow13") -> None:
        """Wait until the flows of one cookie show a count, and see that they stay there."""
        what = f"flow {cookie:#x} by {version}"
        becomes(lambda: self.flow(cookie, version=version), expected, what)
        self.revalidate()
        assert self.flow(cookie, version=version) == expected, what

    def flows_claim(self, cookies: tuple[int, ...], expected: Count, *, port: int) -> None:
        """Wait until flows show all packets that a port sent, but for its unclaimed ones.

        Those are what the bypass took after OVS had read a rule's hits for the last time; they
        are given up when no rule of the same pattern has come for 10 s.
        """
        becomes(
            lambda: sum(self.flow(cookie).packets for cookie in cookies) + self.unclaimed(port),
            expected.packets,
            f"flows {cookies} and what is unclaimed at p{port}",
        )

    def port(self, number: int, *, version: str = "OpenFlow13") -> PortCount:
        """Return the statistics of a port."""
        text = self.ofctl("dump-ports", str(number), version=version)
        found = re.search(
            r"rx pkts=(\d+), bytes=(\d+).*?tx pkts=(\d+), bytes=(\d+), drop=(\d+)",
            text,
            re.DOTALL,
        )
        assert found is not None, text
        rx_packets, rx_bytes, tx_packets, tx_bytes, dropped = map(int, found.groups())
        return PortCount(
            rx=Count(packets=rx_packets, bytes=rx_bytes),
            tx=Count(packets=tx_packets, bytes=tx_bytes),
            tx_dropped=dropped,
        )

    def monitor(self) -> Process:
        """Be a controller that notes all it is told, in the log of the returned process."""
        process = Process(
            "monitor",
            ["ovs-ofctl", "-O", "OpenFlow13", "--no-names", "monitor", BRIDGE, "65534"],
            log=self.sandbox.rundir / "monitor.log",
            env=self.sandbox.env,
        )
        process.log.write_text("")
        process.start()
        self._stack.callback(process.stop)
        # It listens once it is told of a flow that comes and goes.
        for number in range(100):
            self.add_flow(f"cookie={number + 0xFF00:#x},table=99,send_flow_rem,actions=drop")
            self.ofctl("del-flows", "table=99")
            if wait_until(lambda: "table_id=99" in process.log.read_text(), 0.1):
                return process
        pytest.fail("ovs-ofctl monitor does not listen")

    def monitored(self, monitor: Process, pattern: str) -> re.Match[str]:
        """Return the first message to a monitor that matches a regular expression."""
        found: list[re.Match[str]] = []

        def come() -> bool:
            match = re.search(pattern, monitor.log.read_text())
            found.extend([match] if match else [])
            return match is not None

        eventually(come, f"a message like {pattern}")
        return found[0]

    # the datapath ------------------------------------------------------------------------------

    def revalidate(self) -> None:
        """Let OVS look at all its datapath flows once, from beginning to end."""
        for _ in range(2):  # the first may end a round that was under way
            self.sandbox.appctl("revalidator/wait")

    def datapath_flows(self) -> list[str]:
        """Return the datapath flows from our ports, a line each."""
        text = self.sandbox.appctl("dpctl/dump-flows", "-m")
        return [line for line in text.splitlines() if "in_port(p" in line]

    def bypass_on(self, *senders: Vnf) -> None:
        """Have each sender send until a whole burst has gone past the switch."""
        for vnf in senders:
            eventually(
                lambda vnf=vnf: self._channel(vnf, "tx_bypass_packets"),  # type: ignore[misc]
                f"what {vnf.name} sends goes over the bypass",
            )

    def bypass_off(self, *senders: Vnf) -> None:
        """Have each sender send until a whole burst has gone through the switch."""
        for vnf in senders:
            eventually(
                lambda vnf=vnf: self._channel(vnf, "tx_normal_packets"),  # type: ignore[misc]
                f"what {vnf.name} sends goes through the switch",
            )

    @staticmethod
    def _channel(vnf: Vnf, counter: str) -> bool:
        before = vnf.xstats()[counter]
        count = vnf.send()
        return count.packets == BURST and vnf.xstats()[counter] - before == BURST

    # the highway command -----------------------------------------------------------------------

    def highway(self, *arguments: str, status: int = 0) -> str:
        """Run the `highway` command; return what it prints, on standard error if it fails."""
        done = subprocess.run(
            ["highway", *arguments],
            env=self.sandbox.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    def highway_json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Return what the `highway` command prints as JSON."""
        return json.loads(self.highway(*arguments, "--format", "json"))

    def link(self, sender: int, receiver: int) -> dict[str, Any]:
        """Return what `highway links` says of one direction; empty if nothing."""
        rows = self.highway_json("links", "--interval", "0")["links"]
        names = f"p{sender}", f"p{receiver}"
        return next((dict(row) for row in rows if (row["from"], row["to"]) == names), {})

    def unclaimed(self, number: int) -> int:
        """Return the hits of port `p<number>` that no flow could be given."""
        shown = self.highway_json("show")["ports"]
        (found,) = [port for port in shown if port["name"] == f"p{number}"]
        return int(found["switch"]["unclaimed_packets"])

    def log(self, daemon: str = "ovs-vswitchd") -> str:
        """Return the log of a daemon or a VNF so far."""
        return self.sandbox.logs()[daemon].read_text(errors="replace")
