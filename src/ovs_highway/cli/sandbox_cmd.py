# SPDX-License-Identifier: Apache-2.0
"""`highway sandbox`: run a command beside a private switch, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ovs_highway.errors import CommandError
from ovs_highway.lab.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE: Final = 10.0
_HURRY: Final = 3.0


class Interrupted(BaseException):
    """A signal that asks us to end came while there was no command to pass it on to."""


class Command:
    """The user's command, and the signals that reach us while it runs.

    On a terminal it shares our process group, so that the keyboard reaches it; elsewhere it
    gets one of its own, so that we can end it with all it has started.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._shares_terminal = _is_foreground()
        self._may_raise = True

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP, until the end of the block."""
        previous = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        first = self.received is None
        self.received = signal.Signals(number)
        if self._child is None:
            if first and self._may_raise:
                raise Interrupted
        elif not (number == signal.SIGINT and self._shares_terminal):
            self._send(self.received)

    def no_more_raising(self) -> None:
        """From now on let nothing interrupt the taking down."""
        self._may_raise = False

    def _send(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._shares_terminal:
                if self._child.poll() is None:
                    os.kill(self._child.pid, number)
            else:
                os.killpg(self._child.pid, number)

    def run(self, words: Sequence[str], env: Mapping[str, str]) -> int:
        """Run the command to its end; return its status as a shell would give it."""
        self.no_more_raising()
        if self.received is not None:
            return 128 + self.received
        try:
            self._child = subprocess.Popen(
                words, env=env, process_group=None if self._shares_terminal else 0
            )
        except OSError as error:
            click.echo(f"highway: cannot run {words[0]}: {error.strerror}", err=True)
            return 127 if isinstance(error, FileNotFoundError) else 126
        if self.received is not None:  # it came while the child was being made
            self._send(self.received)
        status = self._wait(self._child)
        self._send(signal.SIGTERM)
        self._child = None
        if self.received is not None and self.received != signal.SIGINT:
            return 128 + self.received
        return 128 - status if status < 0 else status

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for the end; once asked to end, wait a bounded time only."""
        deadline: float | None = None
        forced = False
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(0.2)
            if self.received is None:
                continue
            now = time.monotonic()
            if deadline is None:
                deadline = now + (_HURRY if self.received == signal.SIGHUP else _GRACE)
            elif now >= deadline:
                self._send(signal.SIGKILL if forced else signal.SIGTERM)
                forced, deadline = True, now + _HURRY


def _is_foreground() -> bool:
    """Tell whether standard input is a terminal whose keyboard reaches our process group."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def parse_mask(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Check a hexadecimal core mask."""
    if value is None:
        return None
    try:
        number = int(value, 16)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no hexadecimal mask, such as 0x2") from error
    present = sum(1 << core for core in os.sched_getaffinity(0))
    if number <= 0 or number & ~present:
        raise click.BadParameter(f"0x{number:x} is not within this machine's cores, 0x{present:x}")
    return f"{number:x}"


def parse_config(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Turn `KEY=VALUE` words into a mapping."""
    result = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        result[key] = rest
    return result


@click.command(
    "sandbox",
    context_settings={"allow_interspersed_args": False},
    short_help="Run a command beside a private switch.",
)
@click.option(
    "--pmd-cpu-mask", callback=parse_mask, metavar="HEX", help="Cores of OVS; default: the last."
)
@click.option(
    "--socket-mem",
    type=click.IntRange(64, 65536),
    default=512,
    show_default=True,
    metavar="MIB",
    help="Huge pages for OVS.",
)
@click.option("--no-offload", is_flag=True, help="Start OVS with hw-offload=false: no bypass.")
@click.option("--no-highwayd", is_flag=True, help="Leave highwayd out.")
@click.option("--keep", is_flag=True, help="Keep the run directory with its logs.")
@click.option(
    "--other-config",
    multiple=True,
    callback=parse_config,
    metavar="KEY=VALUE",
    help="Further other_config of the switch; may be given several times.",
)
@click.option(
    "--rundir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Run directory; default: a new one below /run.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sandbox(
    ctx: click.Context,
    pmd_cpu_mask: str | None,
    socket_mem: int,
    no_offload: bool,
    no_highwayd: bool,
    keep: bool,
    other_config: dict[str, str],
    rundir: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND beside a private Open vSwitch with DPDK, the driver and highwayd.

    Plain ovs-vsctl, ovs-ofctl, ovs-appctl and highway talk to that switch. Everything is taken
    down when COMMAND ends, however it ends; its exit status is passed on. Without COMMAND an
    interactive shell is started.
    """
    words = list(command) or _shell()
    user = Command()
    status = 0
    with user.handling_signals():
        try:
            switch = Sandbox(
                pmd_cpu_mask=pmd_cpu_mask,
                socket_mem=socket_mem,
                offload=not no_offload,
                highwayd=not no_highwayd,
                keep=keep,
                other_config=other_config,
                rundir=rundir,
            )
            with switch:
                status = _run(user, words, switch, talk=not command)
                if keep:
                    click.echo(f"sandbox: logs are in {switch.rundir}", err=True)
        except Interrupted:
            status = 128 + (user.received or signal.SIGTERM)
    ctx.exit(status)


def _run(user: Command, words: Sequence[str], switch: Sandbox, *, talk: bool) -> int:
    try:
        if talk:
            click.echo(f"sandbox: {switch.rundir}; 'exit' takes it down", err=True)
        return user.run(words, switch.env)
    finally:
        user.no_more_raising()


def _shell() -> list[str]:
    if not sys.stdin.isatty():
        raise CommandError("no COMMAND and no terminal; say 'highway sandbox -- COMMAND'")
    return shlex.split(os.environ.get("SHELL") or "/bin/sh")


def register(group: click.Group) -> None:
    """Add the command to a group."""
    group.add_command(sandbox)
