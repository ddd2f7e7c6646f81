# SPDX-License-Identifier: Apache-2.0
"""The `highwayd` command."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import ovs_highway
from ovs_highway import log as logs
from ovs_highway import paths, region
from ovs_highway.agent import privileges
from ovs_highway.agent.highwayd import Config, Highwayd
from ovs_highway.errors import CommandError, HighwayError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_FILES: Final = 65536


@contextlib.contextmanager
def pid_lock(rundir: Path) -> Iterator[None]:
    """Hold `highwayd.pid`, so that one run directory has one highwayd.

    Raises:
        CommandError: another one holds it, or the directory cannot be written.
    """
    path = rundir / "highwayd.pid"
    try:
        paths.make_dir(rundir)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}; run as root") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            raise CommandError(
                f"highwayd is already running in {rundir} (pid {pid}); stop it or use --rundir"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
        # The file stays: another highwayd may already be waiting for this very inode.
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Highwayd(config).run(stop)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        if hard != resource.RLIM_INFINITY and hard < _FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
            return
    with contextlib.suppress(OSError, ValueError):
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ovs_highway.__version__, prog_name="highwayd")
@click.option("--rundir", type=click.Path(path_type=Path), help="Its sockets and flags.")
@click.option("--ovs-rundir", type=click.Path(path_type=Path), help="Of the OVS it serves.")
@click.option("--log-file", type=click.Path(path_type=Path), help="Default: stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def main(
    rundir: Path | None, ovs_rundir: Path | None, log_file: Path | None, verbose: bool
) -> None:
    """Hand shared-memory regions to the drivers of VNFs and make direct links between them."""
    errors: list[BaseException] = []
    try:
        os.umask(0o027)
        logs.setup(file=log_file, verbose=verbose)
        base = Path(os.path.realpath(rundir or paths.rundir()))
        ovs_base = ovs_rundir or Path(os.environ.get("OVS_RUNDIR") or "/var/run/openvswitch")
        _raise_file_limit()
        privileges.give_up()
        region.survive_cuts()
        with pid_lock(base):
            asyncio.run(_serve(Config(rundir=base, ovs_rundir=ovs_base)))
    except* (HighwayError, OSError) as group:
        errors = _leaves(group)
    for error in errors:
        click.echo(f"highwayd: {error}", err=True)
    sys.exit(1 if errors else 0)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    main()
