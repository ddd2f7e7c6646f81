# SPDX-License-Identifier: Apache-2.0
"""Where the status commands read: the regions of a run directory, and highwayd if it answers."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Final

from ovs_highway import paths, region, unixctl
from ovs_highway.errors import CommandError
from ovs_highway.view import AgentView, View, link_view, port_view

if TYPE_CHECKING:
    from pathlib import Path

    from ovs_highway.region import PortRegion

_ANSWER: Final = 2.0


class Source:
    """The regions of one run directory, open for reading, as a context manager."""

    def __init__(self, rundir: Path | None, *, writable: bool = False) -> None:
        self.rundir = rundir or paths.rundir()
        self._tag = paths.region_tag(self.rundir)
        self._writable = writable
        self._stack = contextlib.ExitStack()
        self.ports: dict[str, PortRegion] = {}

    def __enter__(self) -> Source:
        region.survive_cuts()
        self.ports, _ = region.open_ports(self._tag, writable=self._writable)
        for port in self.ports.values():
            self._stack.enter_context(port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def port(self, name: str) -> PortRegion:
        """Return the region of a port.

        Raises:
            CommandError: there is no such port.
        """
        if name not in self.ports:
            known = ", ".join(sorted(self.ports)) or "none at all"
            raise CommandError(
                f"there is no port {name} in {self.rundir}; the ports there: {known}"
            )
        return self.ports[name]

    def view(self) -> View:
        """Read everything."""
        agent = ask_agent(self.rundir)
        ports = {name: port_view(port, agent) for name, port in sorted(self.ports.items())}
        links, _ = region.open_links(self._tag)
        views = []
        for link in links:
            with link:
                views.append(link_view(link))
        return View(agent=agent, ports=ports, links=tuple(views))

    def received(self) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
        """Return packets and bytes by receiving end, of all links by id."""
        links, _ = region.open_links(self._tag)
        found = {}
        for link in links:
            with link:
                found[link.region_id] = (link.received(0), link.received(1))
        return found


def _away(rundir: Path) -> float | None:
    """Return for how many seconds highwayd has not renewed its leases."""
    try:
        return max(0.0, time.time() - (rundir / "highwayd.pid").stat().st_mtime)
    except OSError:
        return None


def ask_agent(rundir: Path) -> AgentView:
    """Return what highwayd knows, or an empty view if it does not answer."""
    socket = paths.control_socket(rundir)
    try:
        show = json.loads(unixctl.call(socket, "highway/show", timeout=_ANSWER))
        links = json.loads(unixctl.call(socket, "highway/links", timeout=_ANSWER))
    except (CommandError, ValueError):
        return AgentView(running=False, away=_away(rundir))
    return AgentView(
        running=True,
        pid=show["pid"],
        version=show["version"],
        ovsdb=show["ovsdb"],
        ports={port["name"]: port for port in show["ports"]},
        links={
            (link["ports"][0], link["ports"][1]): (link["phase"], link["reason"])
            for link in links["links"]
        },
        ways={
            (way["from"], way["to"]): way["reason"]
            for link in links["links"]
            for way in link.get("ways", ())
        },
    )
