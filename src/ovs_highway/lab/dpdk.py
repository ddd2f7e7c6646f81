# SPDX-License-Identifier: Apache-2.0
"""What the DPDK programs that are driven here have in common: command line and life."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from ovs_highway import paths
from ovs_highway.errors import SandboxError
from ovs_highway.lab.process import end, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_TIMEOUT: Final = 60.0
COMMAND_TIMEOUT: Final = 20.0
_QUIT_TIMEOUT: Final = 10.0
_serial = itertools.count()


def lcores_of(main_core: int, cores: Sequence[int]) -> str:
    """Return EAL's `--lcores` for one thread on `main_core` and one on each of `cores`."""
    return ",".join(f"{lcore}@{core}" for lcore, core in enumerate([main_core, *cores]))


class DpdkProgram:
    """A DPDK program that takes commands; a base class.

    Args:
        program: its file, or its name in PATH.
        lcores: EAL's `--lcores`.
        plugin: loaded with `-d`: by default the one of `paths.plugin()`, None for none.
        log: by default `<name>.log` in the run directory of `env`.
    """

    KIND: ClassVar[str]
    """What messages call it."""

    def __init__(
        self,
        name: str,
        program: str | Path,
        *,
        vdevs: Sequence[str],
        lcores: str,
        eal_args: Sequence[str],
        app_args: Sequence[str],
        env: Mapping[str, str] | None,
        plugin: Path | str | None,
        log: Path | None,
    ) -> None:
        self.name = name
        self._env = dict(os.environ if env is None else env)
        driver = paths.plugin() if plugin == "auto" else plugin
        self.command_line = [
            str(program),
            *("--no-pci", "--in-memory", "--no-telemetry"),
            *("--file-prefix", f"{name}-{os.getpid()}-{next(_serial)}"),
            *("--lcores", lcores),
            *(("-d", str(driver)) if driver is not None else ()),
            *(word for vdev in vdevs for word in ("--vdev", vdev)),
            *eal_args,
            "--",
            *app_args,
        ]
        base = Path(self._env.get("HIGHWAY_RUNDIR") or paths.rundir())
        self.log = log or base / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.launch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def launch(self) -> None:
        """Start the process and wait until it takes commands.

        Raises:
            SandboxError: it did not come up, or runs already.
        """
        if self._child is not None:
            raise SandboxError(f"{self.KIND} {self.name} runs already; close it first")
        self._child = self._spawn()
        try:
            self._await_start()
        except BaseException:
            self.kill()
            raise

    def close(self) -> None:
        """End the program in an orderly way, or by force; do nothing if it does not run."""
        child = self._child
        if child is None:
            return
        if child.poll() is None:
            self._ask_to_quit(child)
            wait_until(lambda: child.poll() is not None, _QUIT_TIMEOUT)
        self._finish(child, grace=3)

    def kill(self) -> None:
        """End the program with SIGKILL, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._finish(self._child, grace=0)

    def _finish(self, child: subprocess.Popen[bytes], *, grace: float) -> None:
        end(child, grace=grace)
        self._tidy(child)
        self._child = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            SandboxError: it does not run.
        """
        if self._child is None:
            raise SandboxError(f"{self.KIND} {self.name} does not run; launch it first")
        return self._child.pid

    # what differs between programs -------------------------------------------------------------

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the process, with somebody who takes its output."""
        raise NotImplementedError

    def _await_start(self) -> None:
        """Wait until it takes commands.

        Raises:
            SandboxError: it did not come up.
        """
        raise NotImplementedError

    def _ask_to_quit(self, child: subprocess.Popen[bytes]) -> None:
        """Have it end by itself."""
        raise NotImplementedError

    def _tidy(self, child: subprocess.Popen[bytes]) -> None:
        """Close what was open towards a process that has ended."""
        raise NotImplementedError
