# SPDX-License-Identifier: Apache-2.0
"""Numbered traffic that changes channel on a scene, and the verdict on every packet of it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, Self

from tests.system.scene import BRIDGE, Count, eventually

from ovs_highway.bench.switchover import (
    await_switch,
    counts,
    drops_since,
    settled,
    switch_drops,
)
from ovs_highway.lab import Traffic, judge
from ovs_highway.lab.churn import Churn, Route
from ovs_highway.lab.traffic import match

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from tests.system.scene import Scene

    from ovs_highway.lab import Verdict

CLASSES: Final = ("udp=1000", "tcp=80", "vlan=5+udp=1000")
ONE_WAY: Final = (Route(source=1, target=2),)
BOTH_WAYS: Final = (Route(source=1, target=2), Route(source=2, target=1))
WINDOW: Final = 512
FEW: Final = 256
PATIENCE: Final = 60.0


class Crossing:
    """`traffic` at ports `p1` and so on of a scene, all in one program on one core, and a churn.

    Port `p3` is port 2 of the program. `plan` is what each source of a route sends. By default no
    more packets are under way than a ring holds, so that the switch has no reason to drop any.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        routes: Sequence[Route] = ONE_WAY,
        n_ports: int = 2,
        classes: Sequence[str] = CLASSES,
        queues: Sequence[tuple[int, int]] = ((1, 1),),
        cores: Sequence[int] = (0,),
        seed: int = 1,
        devargs: str = "idle=yield",
        app_args: Sequence[str] = (),
        **plan: object,
    ) -> None:
        self.scene = scene
        self.names = [f"p{number}" for number in range(1, n_ports + 1)]
        self.routes = tuple(routes)
        self.seed = seed
        self.plan = {"classes": range(len(classes)), "window": WINDOW} | plan
        self._classes = tuple(classes)
        self._stack = contextlib.ExitStack()
        self.traffic = Traffic(
            "traffic",
            self.names,
            queues=queues,
            cores=cores,
            devargs=devargs,
            app_args=(f"--seed={seed}", *app_args),
            env=scene.sandbox.env,
        )
        ends = {number for route in routes for number in (route.source, route.target)}
        self.churn = Churn(
            scene.sandbox,
            BRIDGE,
            routes=routes,
            classes=classes,
            ports=[f"p{number}" for number in sorted(ends)],
            seed=seed,
        )

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.traffic)
            self.traffic.define(*self._classes)
            self.traffic.wait_link_up()
            await_switch(self.scene.sandbox, *self.names)
            stack.enter_context(self.churn)
            self._stack = stack.pop_all()
        self._dropped = switch_drops(self.scene.sandbox)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def sources(self) -> list[int]:
        """The program's ports that send."""
        return sorted({route.source - 1 for route in self.routes})

    def counts(self) -> Counter[str]:
        """Return the driver's extended statistics, of all ports together."""
        return counts(self.traffic)

    def start(self) -> None:
        """Begin to send, and wait until the bypass is in use."""
        for port in self.sources:
            self.traffic.send(port, **self.plan)
        for port in self.sources:
            eventually(
                lambda port=port: self.traffic.xstats(port)["tx_bypass_packets"] > 0,  # type: ignore[misc]
                f"p{port + 1} uses the bypass",
            )

    def change(
        self,
        times: int,
        *,
        flows: float = 0.2,
        pause: float = 0.02,
        also: Callable[[], None] | None = None,
        every: int = 20,
    ) -> None:
        """Change channels until queues have gone to the bypass, and back, so many times more.

        `flows` is the share of changes by flows, `pause` the longest time between two changes in
        seconds; `also` is done at every so many of them.
        """
        before, best, deadline = self.counts(), 0, time.monotonic() + PATIENCE
        for number in range(1_000_000):
            if self.churn.random.random() < flows:
                self.churn.flip_flow()
            else:
                self.churn.flip_gate()
            if pause:
                time.sleep(self.churn.random.uniform(0, pause))
            if also is not None and number % every == every - 1:
                also()
            if number % 10 != 9:
                continue
            grown = self.counts() - before
            done = min(grown["bypass_enters"], grown["bypass_leaves"])
            if done >= times:
                return
            if done > best:
                best, deadline = done, time.monotonic() + PATIENCE
            assert time.monotonic() < deadline, f"too few changes: {grown}; {self}"

    def verdict(self) -> tuple[Verdict, int]:
        """Stop, wait for what is under way, and judge; also what the switch has dropped."""
        self.churn.settle()
        found = judge(settled(self.traffic))
        return found, drops_since(self.scene.sandbox, self._dropped, found.lost)

    def check(self) -> Verdict:
        """Stop; all that was sent has arrived, once, in order, as it was; return the verdict."""
        found, dropped = self.verdict()
        assert found.faults == {}, f"{found}, {dropped} dropped by the switch; {self}"
        total = self.counts()
        assert total["links_closed_errors"] == 0, str(self)
        assert min(total["tx_bypass_packets"], total["tx_normal_packets"]) > 0, str(self)
        return found

    def check_but_for_drops(self) -> int:
        """As `check`, but for what the switch has dropped and counted; return how many."""
        found, dropped = self.verdict()
        rest = {name: count for name, count in found.faults.items() if name != "lost"}
        assert rest == {}, f"{found}, {dropped} dropped by the switch; {self}"
        assert found.lost == dropped, f"{dropped} dropped by the switch, {found}; {self}"
        assert self.counts()["links_closed_errors"] == 0, str(self)
        return dropped

    def __str__(self) -> str:
        """Return what one needs to know of a failure."""
        alive = self.traffic.alive
        notes = self.traffic.stats().notes if alive else ("the program has ended",)
        total = {key: count for key, count in self.counts().items() if count} if alive else {}
        return f"seed {self.seed}; {dict(self.churn.changes)}; {total}; {' | '.join(notes[:12])}"


@contextlib.contextmanager
def traffic(
    scene: Scene, *classes: str, both_ways: bool = True, rules: int = 1024
) -> Iterator[Traffic]:
    """Ports p1 and p2, with flows and traffic of these classes between them; judged at the end."""
    scene.ports(2, rules=rules)
    ways = ((1, 2), (2, 1)) if both_ways else ((1, 2),)
    dropped = switch_drops(scene.sandbox)
    with Traffic("traffic", ["p1", "p2"], env=scene.sandbox.env) as program:
        program.define(*classes)
        for source, target in ways:
            for number, spec in enumerate(classes):
                cookie = 10 * source + number
                scene.add_flow(f"cookie={cookie},in_port={source},{match(spec)},actions={target}")
        program.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2")
        for source, _ in ways:
            program.send(source - 1, classes=range(len(classes)), sizes=[64], window=FEW)
        yield program
        verdict = judge(settled(program))
        drops = drops_since(scene.sandbox, dropped, verdict.lost)
        assert verdict.faults == {}, f"{verdict}, {drops} dropped by the switch"
        for source, _ in ways:
            sent = sum(program.stats().ports[source - 1].sent.values())
            cookies = tuple(10 * source + number for number in range(len(classes)))
            scene.flows_claim(cookies, Count(packets=sent), port=source)


def uses(program: Traffic, channel: str, *senders: int) -> None:
    """Wait until all that some ports send takes the channel, `bypass` or `normal`."""
    other = "normal" if channel == "bypass" else "bypass"

    def all_of_it(port: int) -> bool:
        before = program.xstats(port)
        time.sleep(0.02)
        after = program.xstats(port)
        there, elsewhere = f"tx_{channel}_packets", f"tx_{other}_packets"
        return after[there] > before[there] and after[elsewhere] == before[elsewhere]

    for sender in senders or (1, 2):
        eventually(
            lambda sender=sender: all_of_it(sender - 1),  # type: ignore[misc]
            f"what p{sender} sends takes the {channel} channel",
        )
