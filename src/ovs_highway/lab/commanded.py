# SPDX-License-Identifier: Apache-2.0
"""DPDK programs that answer each line of their standard input with a line of JSON.

Those are ours, below tests/apps; the C side of it is tests/apps/common/dialogue.c.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any

from ovs_highway.errors import SandboxError
from ovs_highway.lab.dpdk import COMMAND_TIMEOUT, START_TIMEOUT, DpdkProgram
from ovs_highway.lab.process import spawn, tail

if TYPE_CHECKING:
    from typing import ClassVar


class CommandedProgram(DpdkProgram):
    """A DPDK program that takes commands and answers in JSON; a base class."""

    KIND: ClassVar[str]
    _input = b""

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._input = b""
        with self.log.open("ab") as log:
            return spawn(
                self.command_line,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def _await_start(self) -> None:
        self._answer(START_TIMEOUT, doing="start")

    def _ask_to_quit(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()

    def _tidy(self, child: subprocess.Popen[bytes]) -> None:
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _answer(self, timeout: float, *, doing: str) -> dict[str, Any]:
        child, deadline = self._child, time.monotonic() + timeout
        assert child is not None
        assert child.stdout is not None
        while b"\n" not in self._input:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, left))
            more = os.read(child.stdout.fileno(), 1 << 16) if ready else b""
            if not more:
                state = "has ended" if ready else f"did not answer in {timeout:.0f} s"
                raise SandboxError(
                    f"{self.KIND} {self.name} {state} at '{doing}'; its log {self.log} ends:"
                    f" {tail(self.log)}"
                )
            self._input += more
        line, _, self._input = self._input.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise SandboxError(
                f"{self.KIND} {self.name} answers '{doing}' with {line!r}; see {self.log}"
            ) from error
        if "error" in answer:
            raise SandboxError(f"{self.KIND} {self.name} refuses '{doing}': {answer['error']}")
        return answer

    def command(self, text: str, *, timeout: float = COMMAND_TIMEOUT) -> dict[str, Any]:
        """Give a command and return its answer.

        Raises:
            SandboxError: it was refused, not answered in time, or the program has ended.
        """
        if self._child is None or self._child.stdin is None:
            raise SandboxError(f"{self.KIND} {self.name} does not run; launch it first")
        try:
            self._child.stdin.write(text.encode() + b"\n")
            self._child.stdin.flush()
        except OSError as error:
            raise SandboxError(
                f"{self.KIND} {self.name} has ended; its log {self.log} ends: {tail(self.log)}"
            ) from error
        return self._answer(timeout, doing=text)

    def xstats(self, port: int = 0) -> dict[str, int]:
        """Return the driver's extended statistics of a port."""
        answer: dict[str, int] = self.command(f"xstats {port}")["xstats"]
        return answer
