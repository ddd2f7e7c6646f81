# SPDX-License-Identifier: Apache-2.0
"""Who dies, and how: five components, three ways."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

from tests.system.faults.stages import go_on, is_stopped, stop
from tests.system.scene import eventually

from ovs_highway.lab.rundir import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.faults.world import World

    from ovs_highway.lab import Traffic

VICTIMS: Final = ("sender", "receiver", "highwayd", "ovs-vswitchd", "ovsdb-server")
WAYS: Final = ("kill", "stop", "exit")
HELD_UP: Final = 2.0
"""Seconds between SIGSTOP and SIGCONT."""
START: Final = 20.0


class Victim:
    """One component of a world."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self.name = world, name

    @property
    def pid(self) -> int:
        """Its process."""
        program = self._program
        return program.pid if program is not None else self._daemon.pid

    def suffer(self, way: str) -> None:
        """Be killed, stopped for a while, or ended in an orderly way."""
        {"kill": self._kill, "stop": self._stop, "exit": self._exit}[way]()

    def come_back(self) -> None:
        """Start again, if it does not run."""
        program = self._program
        if program is not None:
            if not program.alive:
                self._relaunch(program)
        elif not self._daemon.alive:
            self._starts[self.name]()

    # how ---------------------------------------------------------------------------------------

    def _kill(self) -> None:
        program = self._program
        if program is not None:
            program.kill()
        else:
            self._daemon.kill()

    def _stop(self) -> None:
        if not is_stopped(self.pid):
            stop(self.pid)
        time.sleep(HELD_UP)
        go_on(self.pid)

    def _exit(self) -> None:
        """End in an orderly way; who was stopped at its stage goes on for that."""
        program = self._program
        if program is not None:
            go_on(program.pid)
            program.close()
            return
        if self.name.startswith("ovs"):
            # SIGTERM ends OVS's daemons at once; this is what their init script does.
            self._world.scene.sandbox.appctl("-t", self.name, "exit")
            eventually(lambda: not self._daemon.alive, f"{self.name} ends")
            return
        self._daemon.signal(signal.SIGTERM)
        go_on(self.pid)
        self._daemon.stop()

    # who ---------------------------------------------------------------------------------------

    @property
    def _program(self) -> Traffic | None:
        programs = {"sender": self._world.sender, "receiver": self._world.receiver}
        return programs.get(self.name)

    @property
    def _daemon(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return self._world.scene.sandbox.daemon(self.name)

    @property
    def _starts(self) -> dict[str, Callable[[], None]]:
        return {
            "highwayd": self._world.scene.sandbox.start_highwayd,
            "ovs-vswitchd": self._world.restart_switch,
            "ovsdb-server": self._start_database,
        }

    def _start_database(self) -> None:
        self._daemon.start()
        socket = self._world.scene.sandbox.rundir / "db.sock"
        self._daemon.wait_ready(lambda: answers(socket), START, what="open its socket")

    def _relaunch(self, program: Traffic) -> None:
        program.launch()
        program.wait_link_up()
        if program is self._world.sender:
            self._world.want_link()
