# SPDX-License-Identifier: Apache-2.0
"""Child processes that log to a file and never outlive us.

Each child is started through setpriv(1), so that the kernel kills it when the thread that
started it ends, however it ends; and in a session of its own, so that a Ctrl-C on the terminal
reaches us only, and we take the children down in order.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import IO, TYPE_CHECKING, Final

from ovs_highway.errors import SandboxError, SetupError

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

GRACE: Final = 10.0
_POLL: Final = 0.02


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.STDOUT,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that dies with us; by default its standard error goes where its output goes.

    Raises:
        SetupError: the program, or setpriv(1), is not installed.
    """
    words = [str(word) for word in command]
    program = shutil.which(words[0], path=env.get("PATH"))
    if program is None:
        raise SetupError(f"{words[0]} is missing; run 'make setup' as root")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise SetupError("setpriv is missing; install util-linux")
    return subprocess.Popen(
        [setpriv, "--pdeathsig", "KILL", "--", program, *words[1:]],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )


def end(child: subprocess.Popen[bytes], *, grace: float = GRACE) -> int:
    """End a child, with SIGTERM and after `grace` seconds with SIGKILL; return its status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log on one line, for an error message; '' if there are none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 16384))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())


def wait_until(condition: Callable[[], bool], timeout: float, *, interval: float = _POLL) -> bool:
    """Wait until a condition holds; return False if it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


class Process:
    """A daemon that can be started, stopped and started again; it appends to one log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = dict(env)
        self._cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None

    def set_env(self, **more: str) -> None:
        """Change the environment of the next start."""
        self._env |= more

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            SandboxError: it was never started.
        """
        if self._child is None:
            raise SandboxError(f"{self.name} was not started; start it first")
        return self._child.pid

    def start(self) -> None:
        """Start the process; do nothing if it runs.

        Raises:
            SetupError: the program is not installed.
        """
        if self.alive:
            return
        with self.log.open("ab") as stream:
            self._child = spawn(self.command, env=self._env, stdout=stream, cwd=self._cwd)

    def wait_ready(self, ready: Callable[[], bool], timeout: float, *, what: str) -> None:
        """Wait until the process is ready for use.

        Raises:
            SandboxError: it ended, or was not ready in time; the message has its last log lines.
        """
        if wait_until(lambda: not self.alive or ready(), timeout) and self.alive:
            return
        state = f"did not {what} within {timeout:.0f} s"
        if self._child is not None and not self.alive:
            state = f"ended with status {self._child.returncode} before it could {what}"
        raise SandboxError(f"{self.name} {state}; its log {self.log} ends: {tail(self.log)}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self._child is not None and self.alive:
            self._child.send_signal(number)

    def stop(self, *, grace: float = GRACE) -> None:
        """End the process in an orderly way, or by force after `grace` seconds."""
        if self._child is not None:
            end(self._child, grace=grace)

    def kill(self) -> None:
        """End the process with SIGKILL and wait for its end."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
