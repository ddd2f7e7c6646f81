# SPDX-License-Identifier: Apache-2.0
"""The run directory of a sandbox: whose it is, and how what it leaves is removed."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
from pathlib import Path
from typing import Final

from ovs_highway import paths

BASE: Final = Path("/run")
PREFIX: Final = "hw-"
_OWNER: Final = "owner"


def claim(directory: Path, pid: int) -> None:
    """Write down which process a run directory belongs to."""
    (directory / _OWNER).write_text(identity(pid))


def clean_up(directory: Path, *, keep: bool, made: bool = True) -> None:
    """Remove the region files of a run directory, and itself (or what is in it) unless kept."""
    for region in paths.region_files(directory):
        region.unlink(missing_ok=True)
    (directory / _OWNER).unlink(missing_ok=True)
    if keep:
        return
    if made:
        shutil.rmtree(directory, ignore_errors=True)
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def sweep(base: Path = BASE) -> list[Path]:
    """Remove what sandboxes left whose process was killed; return their run directories."""
    removed = []
    for owner in base.glob(f"{PREFIX}*/{_OWNER}"):
        with contextlib.suppress(OSError, ValueError):
            text = owner.read_text()
            if text and identity(int(text.split()[0])) != text:
                clean_up(owner.parent, keep=False)
                removed.append(owner.parent)
    return removed


def identity(pid: int) -> str:
    """Return a process's id and start time, which no later process shares; '' if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{pid} {fields[19]}"


def answers(path: Path) -> bool:
    """Tell whether someone listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno == errno.EPROTOTYPE  # another kind of socket, but it listens
    return True
