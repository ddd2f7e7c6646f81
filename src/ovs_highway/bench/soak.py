# SPDX-License-Identifier: Apache-2.0
"""`highway bench soak`: everything changes all the time, and what must always hold is looked at.

`p1` and `p2` send to each other in one program, in classes that change channel by flows and gates;
every packet of theirs is numbered and checked. `p3` sends to `p4`; their VNFs are killed and
restarted, their ports deleted and added, their MTU and policy changed. `p5` comes and goes, and
highwayd is killed. What goes wrong is a violation, with the events before it.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.bench import machine
from ovs_highway.bench.switchover import await_switch, counts, drops_since, settled, switch_drops
from ovs_highway.errors import HighwayError, SandboxError, SetupError
from ovs_highway.lab import Sandbox, Traffic, judge
from ovs_highway.lab.churn import Churn, Route
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

BRIDGE: Final = "br0"
STEADY: Final = ("p1", "p2")
CLASSES: Final = ("udp=1000", "tcp=80", "vlan=5+udp=1000")
ROUTES: Final = (Route(source=1, target=2), Route(source=2, target=1))
WINDOW: Final = 512
RATE: Final = 100_000
VICTIM_RATE: Final = 20_000
SPARE: Final = "p5"
SETTLE: Final = 30.0
"""Seconds between two complete balances of what was sent, received and counted."""
PATIENCE: Final = 60.0
_POLICIES: Final = (
    ("highway=off", ("highway",)),
    ("highway-trust=other", ()),
    ("highway-mode=checked", ("highway-mode",)),
    ("highway-mode=off", ("highway-mode",)),
)


class Soak:
    """One run on one sandbox, whose bridge is there."""

    def __init__(self, sandbox: Sandbox, *, seed: int, tell: Callable[[str], None]) -> None:
        self._sandbox, self._tell = sandbox, tell
        self._random = random.Random(seed)
        self._recent: deque[str] = deque(maxlen=6)
        self._last: dict[str, tuple[int, ...]] = {}
        self._faults: dict[str, int] = {}
        self._absent: set[str] = {SPARE}
        self.events: Counter[str] = Counter()
        self.violations: list[str] = []
        self.packets = 0
        options = {"devargs": "idle=sleep", "env": sandbox.env}
        self.steady = Traffic("steady", STEADY, queues=[(2, 2)], **options)  # type: ignore[arg-type]
        self.victims = {
            name: Traffic(name, [name], **options)  # type: ignore[arg-type]
            for name in ("p3", "p4")
        }
        self.churn = Churn(sandbox, BRIDGE, routes=ROUTES, classes=CLASSES, ports=STEADY, seed=seed)

    def run(self, minutes: float) -> None:
        """Change things for so long, and keep to it that all is well at the end.

        Raises:
            SandboxError: a program does not start, so that nothing can be said.
        """
        with contextlib.ExitStack() as stack:
            for program in (self.steady, *self.victims.values()):
                stack.enter_context(program)
                program.define(*CLASSES)
                program.wait_link_up()
            await_switch(self._sandbox, *STEADY)
            stack.enter_context(self.churn)
            self._ofctl("add-flow", "priority=5,in_port=3,actions=output:4")
            self._pid = self._sandbox.daemon("ovs-vswitchd").pid
            self._dropped = switch_drops(self._sandbox)
            self._ports_at_start = self._port_stats()
            self._send()
            end = time.monotonic() + minutes * 60
            balance = time.monotonic() + SETTLE
            while (now := time.monotonic()) < end:
                self._change()
                self._look()
                if now >= balance:
                    self._balance()
                    balance = time.monotonic() + SETTLE
                    done = sum(self.events.values())
                    self._tell(f"{done} events, {len(self.violations)} violations")
            self._balance()
            self.all_is_back()

    # what happens ------------------------------------------------------------------------------

    def _change(self) -> None:
        name = self._random.choices(
            ("flow", "gate", "vnf", "port", "mtu", "policy", "spare", "highwayd"),
            (8, 8, 3, 1.5, 1.5, 3, 2, 0.5),
        )[0]
        victim = self._random.choice(("p3", "p4"))
        self.events[name] += 1
        self._recent.append(f"{name} {victim}")
        getattr(self, f"_change_{name}")(victim)
        time.sleep(self._random.uniform(0, 0.2))

    def _change_flow(self, _: str) -> None:
        self.churn.flip_flow()
        actions = self._random.choice(("output:4", "output:4", "drop", "output:4,in_port"))
        if self._random.random() < 0.3:
            self._ofctl("add-flow", f"priority=10,in_port=3,udp,actions={actions}")
        elif self._random.random() < 0.3:
            self._ofctl("--strict", "del-flows", "priority=10,in_port=3,udp")

    def _change_gate(self, _: str) -> None:
        self.churn.flip_gate()

    def _change_vnf(self, victim: str) -> None:
        program = self.victims[victim]
        if program.alive:
            (program.kill if self._random.random() < 0.5 else program.close)()
        else:
            program.launch()
            self._send_from(victim)

    def _change_port(self, victim: str) -> None:
        if victim in self._absent:
            self._sandbox.add_port(BRIDGE, victim, int(victim[1:]))
            self._absent.remove(victim)
        else:
            self._sandbox.del_port(BRIDGE, victim)
            self._absent.add(victim)

    def _change_spare(self, _: str) -> None:
        self._change_port(SPARE)

    def _change_mtu(self, victim: str) -> None:
        if victim not in self._absent:
            mtu = self._random.choice((1500, 2000, 9000))
            self._sandbox.vsctl("set", "Interface", victim, f"mtu_request={mtu}")

    def _change_policy(self, victim: str) -> None:
        if victim in self._absent:
            return
        setting, keys = self._random.choice(_POLICIES)
        self._set_policy(victim, setting)
        time.sleep(self._random.uniform(0, 0.2))
        for key in keys:
            self._sandbox.vsctl("remove", "Interface", victim, "external_ids", key)
        if not keys:
            self._set_policy(victim, "highway-trust=sandbox")

    def _set_policy(self, port: str, setting: str) -> None:
        self._sandbox.vsctl("set", "Interface", port, f"external_ids:{setting}")

    def _change_highwayd(self, _: str) -> None:
        self._sandbox.kill_highwayd()
        time.sleep(self._random.uniform(0, 1))
        self._sandbox.start_highwayd()

    # what has to hold ---------------------------------------------------------------------------

    def _violation(self, text: str) -> None:
        after = f"{text}; after {', '.join(self._recent)}"
        self.violations.append(after)
        self._tell(f"violation: {after}")

    def _look(self) -> None:
        """Look at what can be seen at any moment."""
        daemon = self._sandbox.daemon("ovs-vswitchd")
        if not daemon.alive or daemon.pid != self._pid:
            raise SandboxError(f"ovs-vswitchd has died; see {daemon.log}")
        if not self._sandbox.daemon("highwayd").alive:
            self._violation("highwayd has died")
            self._sandbox.start_highwayd()
        self._judge()
        for name, now in self._port_stats().items():
            before = self._last.get(name, now)
            if name in STEADY and any(a < b for a, b in zip(now, before, strict=True)):
                self._violation(f"counters of {name} went from {before} to {now}")
            self._last[name] = now

    def _judge(self) -> None:
        """Look at what has arrived; what is under way is not lost yet."""
        stats = self.steady.stats()
        faults = {name: count for name, count in judge([stats]).faults.items() if name != "lost"}
        if faults != self._faults:
            self._faults = faults
            self._violation(f"p1 and p2: {faults}: {' | '.join(stats.notes[:3])}")

    def _balance(self) -> None:
        """Stop p1 and p2 for a moment: all that was sent has arrived, and is counted once."""
        (stats,) = settled(self.steady)
        verdict = judge([stats])
        self.packets = verdict.packets
        drops = drops_since(self._sandbox, self._dropped, verdict.lost)
        if verdict.lost > max(0, drops):
            self._violation(f"p1 and p2: {verdict.lost} lost, {drops} dropped by the switch")
        sent = {f"p{n + 1}": sum(port.sent.values()) for n, port in enumerate(stats.ports)}

        def counted() -> dict[str, int]:
            now = self._port_stats()
            return {name: now[name][0] - self._ports_at_start[name][0] for name in sent}

        if not wait_until(lambda: counted() == sent, 3.0, interval=0.1):
            self._violation(f"OpenFlow counts {counted()} received, {sent} were sent")
        if (closed := counts(self.steady)["links_closed_errors"]) != 0:
            self._violation(f"{closed} links of p1 and p2 were closed")
        log = self._sandbox.daemon("highwayd").log.read_text(errors="replace")
        if found := re.search(r"Traceback.*|.*please report.*", log):
            self._violation(f"highwayd's log: {found[0]}")
        for port in range(len(STEADY)):
            self.steady.resume(port)

    def all_is_back(self) -> None:
        """With everything there again, p3 sends to p4 past the switch, and no link is left over."""
        self.churn.settle()
        for name in sorted(self._absent - {SPARE}):
            self._change_port(name)
        self._ofctl("del-flows", "in_port=3")
        self._ofctl("add-flow", "priority=5,in_port=3,actions=output:4")
        for name, program in self.victims.items():
            if not program.alive:
                program.launch()
                self._send_from(name)
            program.wait_link_up()
        source = self.victims["p3"]

        def bypassed() -> bool:
            before = source.xstats(0)
            time.sleep(0.2)
            now = source.xstats(0)
            taken = now["tx_bypass_packets"] - before["tx_bypass_packets"]
            return taken > 0 and now["tx_normal_packets"] == before["tx_normal_packets"]

        if not wait_until(bypassed, PATIENCE, interval=0.2):
            self._violation("p3 does not use its bypass again")
        names = [path.name for path in paths.region_files(self._sandbox.rundir)]
        links = sum("-link-" in name for name in names)
        ports = sum("-port-" in name for name in names)
        if (ports, links) != (4 + (SPARE not in self._absent), 2):
            self._violation(f"{ports} port regions and {links} link regions at the end: {names}")

    # helpers -----------------------------------------------------------------------------------

    def _send(self) -> None:
        for port in range(len(STEADY)):
            self.steady.send(port, classes=range(len(CLASSES)), window=WINDOW, rate=RATE)
        self._send_from("p3")

    def _send_from(self, victim: str) -> None:
        if victim == "p3":
            self.victims[victim].send(0, classes=[0, 1], rate=VICTIM_RATE, drop=1)

    def _ofctl(self, *arguments: str) -> None:
        options = [word for word in arguments if word.startswith("--")]
        command, flow = (word for word in arguments if not word.startswith("--"))
        self._sandbox.ofctl("-O", "OpenFlow13", *options, command, BRIDGE, flow)

    def _port_stats(self) -> dict[str, tuple[int, ...]]:
        """Return packets and bytes, received and sent, by port."""
        text = self._sandbox.ofctl("-O", "OpenFlow13", "--names", "dump-ports", BRIDGE)
        pattern = r'port +"?(\w+)"?: rx pkts=(\d+), bytes=(\d+).*?tx pkts=(\d+), bytes=(\d+)'
        found = re.finditer(pattern, text, re.DOTALL)
        return {match[1]: tuple(map(int, match.groups()[1:])) for match in found}


def run(*, minutes: float, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Soak for so many minutes; return what the JSON file has.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a daemon died, or a program does not do what it should.
    """
    facts = machine.gather()
    placement = machine.place(facts.cores)
    if placement is None:
        raise SetupError("this benchmark needs two cores; run it where there are that many")
    config = {"pmd-maxsleep": "500", "max-revalidator": "100"}
    with Sandbox(pmd_cpu_mask=f"{1 << placement.second:x}", other_config=config) as sandbox:
        sandbox.add_bridge(BRIDGE)
        sandbox.ofctl("del-flows", BRIDGE)
        for number in range(1, 5):
            sandbox.add_port(BRIDGE, f"p{number}", number, queues=2)
        soak = Soak(sandbox, seed=seed, tell=tell)
        began = time.monotonic()
        notes = []
        try:
            soak.run(minutes)
        except HighwayError as error:
            notes.append(str(error))
            soak.violations.append(f"given up: {error}; after {', '.join(soak.events)}")
        seconds = time.monotonic() - began
    return {
        "minutes": round(seconds / 60, 2),
        "events": sum(soak.events.values()),
        "violations": len(soak.violations),
        "violations_text": soak.violations,
        "events_by_kind": dict(sorted(soak.events.items())),
        "changes": dict(sorted(soak.churn.changes.items())),
        "packets": soak.packets,
        "benchmark": "soak",
        "seed": seed,
        "classes": list(CLASSES),
        "window": WINDOW,
        "cores": {"traffic": placement.first, "switch": placement.second},
        "machine": facts.json(),
        "notes": notes,
    }
