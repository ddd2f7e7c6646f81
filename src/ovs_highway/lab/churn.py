# SPDX-License-Identifier: Apache-2.0
"""Have classes of traffic change channel all the time, as controllers and operators do.

A class is on the bypass while its flow does nothing but output to a highway port and both ports'
gates are open. What moves it: its flow is modified into one that rewrites a header, deleted (then
a flow of lower priority, which rewrites, has it), added again or sent to another port; and the
gate of a port is closed and opened.

Each class of a route has a table of its own for these flows, which match everything. So a change
modifies a datapath flow and never deletes one: when Open vSwitch deletes one under traffic, what
comes next of the same batch is handled as an upcall, and overtakes what is in front of it. That
is its own doing, with or without us, and not what is to be seen here.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from ovs_highway import paths
from ovs_highway.errors import SandboxError
from ovs_highway.lab.traffic import match
from ovs_highway.region import PortRegion
from ovs_highway.shm import Off

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovs_highway.lab.sandbox import Sandbox

SENT_TO: Final = "02:00:00:00:00:01"
REWRITE: Final = "mod_dl_dst:02:00:00:00:00:77"
VERSION: Final = "OpenFlow13"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Traffic from one OpenFlow port to another one; at times to `detour`, if there is one."""

    source: int
    target: int
    detour: int | None = None


class Churn:
    """The flows of some routes and classes, and the gates of some ports, to be changed at random.

    `ports` are the names of the ports whose gates are used.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        bridge: str,
        *,
        routes: Sequence[Route],
        classes: Sequence[str],
        ports: Sequence[str] = (),
        seed: int = 1,
    ) -> None:
        self._sandbox = sandbox
        self._bridge = bridge
        self._routes = tuple(routes)
        self._classes = tuple(classes)
        self._ports = tuple(ports)
        self._stack = contextlib.ExitStack()
        self._regions: dict[str, PortRegion] = {}
        self._closed: set[str] = set()
        self.random = random.Random(seed)
        self.changes: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for name in self._ports:
            (path,) = [
                path
                for path in paths.region_files(self._sandbox.rundir)
                if path.name.endswith(f"-port-{name}")
            ]
            self._regions[name] = self._stack.enter_context(PortRegion.open(path))
        for route in self._routes:
            for spec in self._classes:
                table = self._table(route, spec)
                flow = f"table={table},priority=1,actions={REWRITE},output:{route.target}"
                self._ofctl("add-flow", flow)
                self.set_class(route, spec, "straight")
                # With the address that is rewritten, for its sake only: see above.
                head = f"in_port={route.source},dl_dst={SENT_TO},{match(spec)}"
                self._ofctl("add-flow", f"table=0,{head},actions=goto_table:{table}")
        self.changes.clear()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def set_class(self, route: Route, spec: str, kind: str) -> None:
        """Change the flow of a class: `straight`, `rewrite`, `removed`, `detour`.

        Raises:
            SandboxError: the switch refuses, or there is no such kind.
        """
        flow = f"table={self._table(route, spec)},priority=10"
        actions = {
            "straight": f"output:{route.target}",
            "rewrite": f"{REWRITE},output:{route.target}",
            "detour": f"output:{route.detour}",
        }
        self.changes[f"flow_{kind}"] += 1
        if kind == "removed":
            self._ofctl("--strict", "del-flows", flow)
        elif kind in actions:
            self._ofctl("add-flow", f"{flow},actions={actions[kind]}")
        else:
            raise SandboxError(f"a flow cannot be made {kind!r}; see set_class()")

    def _table(self, route: Route, spec: str) -> int:
        return 1 + self._routes.index(route) * len(self._classes) + self._classes.index(spec)

    def flip_flow(self) -> None:
        """Change the flow of some class of some route."""
        route = self.random.choice(self._routes)
        kinds = ["straight", "straight", "rewrite", "removed"]
        if route.detour is not None:
            kinds.append("detour")
        self.set_class(route, self.random.choice(self._classes), self.random.choice(kinds))

    def flip_gate(self) -> None:
        """Close the gate of some port, or open it again, as `highway off` and `on` do."""
        name = self.random.choice(self._ports)
        self.set_gate(name, is_open=name in self._closed)

    def set_gate(self, name: str, *, is_open: bool) -> None:
        """Open or close the gate of a port."""
        self._regions[name].set_operator(Off.OPERATOR, off=not is_open)
        self.changes[f"gate_{'opened' if is_open else 'closed'}"] += 1
        (self._closed.discard if is_open else self._closed.add)(name)

    def settle(self) -> None:
        """Put everything onto the bypass."""
        for name in sorted(self._closed):
            self.set_gate(name, is_open=True)
        for route in self._routes:
            for spec in self._classes:
                self.set_class(route, spec, "straight")

    def _ofctl(self, *arguments: str) -> None:
        options = [word for word in arguments if word.startswith("--")]
        command, flow = (word for word in arguments if not word.startswith("--"))
        self._sandbox.ofctl("-O", VERSION, *options, command, self._bridge, flow)


__all__ = ["Churn", "Route"]
