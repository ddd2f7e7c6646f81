# SPDX-License-Identifier: Apache-2.0
"""The stages of a link's life, each reached and held while something happens.

highwayd is stopped at a point of its own (`ovs_highway.agent.breakpoint`); at some stages p2's
program is stopped besides, so that it takes nothing out of its rings.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.system.scene import eventually

if TYPE_CHECKING:
    from tests.system.faults.world import World

STAGES: Final = ("asked", "made", "one", "both", "switching", "active", "draining", "withdrawn")
PAIR: Final = "p1-p2"


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def stop(pid: int) -> None:
    """Stop a process, all its threads."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid), f"process {pid} is stopped")


def go_on(pid: int) -> None:
    """Have a stopped process go on."""
    os.kill(pid, signal.SIGCONT)


class Stage:
    """Brings the link of p1 and p2 to a stage and holds it there until `release`."""

    def __init__(self, world: World, name: str, stop_file: Path) -> None:
        self._world, self._name, self._file = world, name, stop_file

    def reach(self) -> None:
        """Get there."""
        world, name = self._world, self._name
        if name in ("asked", "made", "one", "both"):
            self._arm(name)
            world.want_link()
            self._await_stop()
        elif name == "switching":
            self._arm("both")
            world.want_link()
            self._await_stop()
            stop(world.receiver.pid)
            self._arm("switching")
            go_on(world.highwayd.pid)
            self._await_stop()
            eventually(lambda: world.bypassed() > 0, "p1 has entered the bypass")
        else:
            world.want_link()
            world.use_bypass()
            if name == "draining":
                stop(world.receiver.pid)
                before = world.bypassed()
                eventually(lambda: world.bypassed() > before + 100, "p2's ring fills")
            if name != "active":
                self._arm(name)
                self._forbid()
                self._await_stop()

    def release(self) -> None:
        """Let go of what was stopped, as far as it still lives, and want the link again."""
        world = self._world
        self._file.unlink(missing_ok=True)
        if world.receiver.alive:
            go_on(world.receiver.pid)
        if world.highwayd.alive:
            go_on(world.highwayd.pid)

    def want_again(self) -> None:
        """Take back what made the link go."""
        if self._name in ("draining", "withdrawn"):
            self._world.scene.sandbox.vsctl(
                "--no-wait", "remove", "Interface", "p1", "external_ids", "highway-mode"
            )

    def _forbid(self) -> None:
        self._world.scene.sandbox.vsctl(
            "--no-wait", "set", "Interface", "p1", "external_ids:highway-mode=off"
        )

    def _arm(self, point: str) -> None:
        self._file.write_text(f"{point} {PAIR}")

    def _await_stop(self) -> None:
        world = self._world
        eventually(lambda: is_stopped(world.highwayd.pid), f"highwayd stops at {self._name}")
