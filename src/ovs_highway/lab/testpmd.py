# SPDX-License-Identifier: Apache-2.0
"""Drive an unmodified dpdk-testpmd in its interactive mode.

testpmd buffers its output unless it writes to a terminal, so it gets one. A thread drains that
terminal all the time: messages that no command asked for must not fill it up and stop testpmd.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import termios
import threading
import time
from typing import TYPE_CHECKING, Final

from ovs_highway.errors import SandboxError
from ovs_highway.lab import parse
from ovs_highway.lab.dpdk import COMMAND_TIMEOUT, START_TIMEOUT, DpdkProgram, lcores_of
from ovs_highway.lab.parse import FwdStats, PortInfo, PortStats
from ovs_highway.lab.process import spawn, tail, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROGRAM: Final = "dpdk-testpmd"
PROMPT: Final = "testpmd> "
MBUFS: Final = 8192
_LINE_MAX: Final = 511
_SILENCE: Final = 2.0


class TestPmd(DpdkProgram):
    """A testpmd process: `with TestPmd("vnf1", vdevs=["net_highway0,port=vnf1"]) as vnf:`.

    `cores` are those on which it forwards, one thread each; the thread that takes commands shares
    `main_core`. `lcores` replaces both, as EAL's option. `plugin` is loaded with `-d`: by default
    the one of `paths.plugin()`, None for none. Its output is appended to `log`, by default
    `<name>.log` in the run directory of `env`.

    Raises:
        SetupError: on entering: testpmd is not installed.
        SandboxError: on entering: it did not come up; the message has the end of its output.
    """

    __test__ = False  # pytest is not to take it for a test
    KIND = "testpmd"

    def __init__(
        self,
        name: str,
        *,
        vdevs: Sequence[str],
        cores: Sequence[int] = (0,),
        main_core: int = 0,
        lcores: str | None = None,
        forward: str = "io",
        mbufs: int = MBUFS,
        eal_args: Sequence[str] = (),
        app_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        plugin: Path | str | None = "auto",
        log: Path | None = None,
    ) -> None:
        super().__init__(
            name,
            PROGRAM,
            vdevs=vdevs,
            lcores=lcores or lcores_of(main_core, cores),
            eal_args=eal_args,
            app_args=[
                *("-i", "--no-mlockall", f"--total-num-mbufs={mbufs}"),
                *(() if lcores else (f"--nb-cores={len(cores)}",)),
                f"--forward-mode={forward}",
                *app_args,
            ],
            env=env,
            plugin=plugin,
            log=log,
        )
        self._terminal = -1
        self._reader: threading.Thread | None = None
        self._output = ""
        self._ended = False
        self._news = threading.Condition()
        self._turn = threading.Lock()

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._output, self._ended = "", False
        self._terminal, theirs = pty.openpty()
        try:
            modes = termios.tcgetattr(theirs)
            modes[3] &= ~termios.ECHO  # only testpmd itself is to show what it has read
            termios.tcsetattr(theirs, termios.TCSANOW, modes)
            child = spawn(self.command_line, env=self._env, stdin=theirs, stdout=theirs)
        except BaseException:
            os.close(self._terminal)
            raise
        finally:
            os.close(theirs)
        self._reader = threading.Thread(
            target=self._drain, name=f"testpmd-{self.name}", daemon=True
        )
        self._reader.start()
        return child

    def _await_start(self) -> None:
        self._await_prompt(0, START_TIMEOUT, doing="start")

    def _ask_to_quit(self, child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._terminal, b"quit\n")

    def _tidy(self, child: subprocess.Popen[bytes]) -> None:
        if self._reader is not None:
            self._reader.join(5)
        os.close(self._terminal)

    @property
    def output(self) -> str:
        """Everything testpmd has printed since its start."""
        with self._news:
            return self._output

    def _drain(self) -> None:
        with self.log.open("ab", buffering=0) as log:
            while True:
                try:
                    data = os.read(self._terminal, 65536)
                except OSError:  # EIO: the other side is closed
                    data = b""
                log.write(data.replace(b"\r", b""))
                with self._news:
                    self._output += data.decode(errors="replace").replace("\r", "")
                    self._ended = not data
                    self._news.notify_all()
                    if self._ended:
                        return

    def _await_prompt(self, start: int, timeout: float, *, doing: str) -> str:
        """Return what is printed from offset `start` to the next prompt at a line's beginning."""
        deadline = time.monotonic() + timeout
        mark, marks, after = "", 0, start
        with self._news:
            while True:
                if not mark or (after := self._output.find(mark, start)) >= 0:
                    at = self._output.find("\n" + PROMPT, after)
                    if at >= 0:
                        return self._output[start : after if mark else at]
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    how = "ended" if self._ended else f"did not answer within {timeout:.0f} s"
                    raise SandboxError(
                        f"testpmd {self.name} {how} on '{doing}'; its log {self.log} ends:"
                        f" {tail(self.log)}"
                    )
                if not self._news.wait(min(left, _SILENCE)) and not self._ended:
                    # Its prompt comes character by character: a log message may be amid it. The
                    # prompt after a comment of ours is the last one, however many there were.
                    marks += 1
                    mark = f"# {marks} {time.monotonic_ns()}"
                    os.write(self._terminal, mark.encode() + b"\n")

    def command(self, text: str, *, timeout: float = COMMAND_TIMEOUT) -> str:
        """Give testpmd a command; return what it prints.

        Raises:
            SandboxError: it does not know the command, did not answer in time, or has ended.
        """
        if not 0 < len(text) <= _LINE_MAX or not text.isprintable():
            raise SandboxError(
                f"{text!r} is no testpmd command; give one line of 1 to 511 characters"
            )
        with self._turn:
            if not self.alive:
                raise SandboxError(f"testpmd {self.name} does not run; its log is {self.log}")
            start = len(self.output)
            os.write(self._terminal, text.encode() + b"\n")
            answer = self._await_prompt(start, timeout, doing=text)
        answer = re.sub(rf"\A.*?{re.escape(text)}\n*", "", answer, count=1, flags=re.DOTALL)
        refused = parse.refusal(answer)
        if refused is not None:
            raise SandboxError(f"testpmd {self.name} refuses '{text}': {refused}; see its manual")
        return answer

    def start(self, *, tx_first: int = 0) -> None:
        """Start forwarding, after sending `tx_first` bursts on every port."""
        answer = self.command(f"start tx_first {tx_first}" if tx_first else "start")
        if "packet forwarding" not in answer:
            raise SandboxError(f"testpmd {self.name} does not forward: {' '.join(answer.split())}")

    def stop(self) -> dict[int, FwdStats]:
        """Stop forwarding; return what the forwarding loop counted, per port id."""
        return parse.fwd_stats(self.command("stop", timeout=30))

    def stats(self, port: int = 0) -> PortStats:
        """Return the basic statistics of a port."""
        return parse.port_stats(self.command(f"show port stats {port}"))

    def xstats(self, port: int = 0) -> dict[str, int]:
        """Return the extended statistics of a port, zeros included.

        Raises:
            SandboxError: testpmd cannot read them. A driver may name more of them from one moment
                to the next, between the calls that testpmd makes; so it is asked a few times.
        """
        for _ in range(5):
            answer = self.command(f"show port xstats {port}")
            if found := parse.xstats(answer):
                return found
        raise SandboxError(f"testpmd {self.name}: no xstats: {' '.join(answer.split())}")

    def fwd_stats(self) -> dict[int, FwdStats]:
        """Return what the forwarding loop has counted so far, per port id."""
        return parse.fwd_stats(self.command("show fwd stats all"))

    def clear_stats(self) -> None:
        """Clear the basic, extended and forwarding statistics of all ports."""
        for text in ("clear port stats all", "clear port xstats all", "clear fwd stats all"):
            self.command(text)

    def port_info(self, port: int = 0) -> PortInfo:
        """Return what testpmd knows of a port."""
        return parse.port_info(self.command(f"show port info {port}"))

    def link_status(self, port: int = 0) -> bool:
        """Tell whether a port's link is up."""
        return self.port_info(port).link_up

    def wait_link_up(self, port: int = 0, *, up: bool = True, timeout: float = 15.0) -> None:
        """Wait until a port's link is up (or down, with `up=False`).

        Raises:
            SandboxError: it is not within `timeout` seconds.
        """
        if not wait_until(lambda: self.link_status(port) == up, timeout, interval=0.05):
            state = "up" if up else "down"
            raise SandboxError(
                f"testpmd {self.name}: the link of port {port} not {state} in {timeout:.0f} s;"
                f" see {self.log}"
            )

    def set_fwd(self, mode: str) -> None:
        """Set the forwarding mode (`io`, `rxonly`, `txonly`, `flowgen`, …), while stopped."""
        answer = self.command(f"set fwd {mode}")
        if "packet forwarding mode" not in answer:
            raise SandboxError(
                f"testpmd {self.name} has no forwarding mode {mode}: {answer.strip()}"
            )

    def set_txpkts(self, *lengths: int) -> None:
        """Set the length of generated packets in bytes, one number per segment."""
        self.command(f"set txpkts {','.join(map(str, lengths))}")

    def set_burst(self, packets: int) -> None:
        """Set the number of packets per burst."""
        self.command(f"set burst {packets}")

    def set_link(self, port: int, *, up: bool) -> None:
        """Set a port's link up or down from the application's side."""
        self.command(f"set link-{'up' if up else 'down'} port {port}")


__all__ = ["FwdStats", "PortInfo", "PortStats", "TestPmd"]
