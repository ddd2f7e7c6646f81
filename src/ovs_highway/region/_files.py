# SPDX-License-Identifier: Apache-2.0
"""Region files: where they lie, what they are called, and making one."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.errors import RegionError
from ovs_highway.region._fixed import fixed, open_fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("ovs_highway.region")

SHM_DIR: Final = Path("/dev/shm")


def region_dirs(mounts: Path = Path("/proc/mounts")) -> list[Path]:
    """Return where region files may lie: hugetlbfs mounts, /dev/hugepages first, then /dev/shm."""
    found = []
    with contextlib.suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) > 2 and fields[2] == "hugetlbfs":
                found.append(Path(fields[1].replace("\\040", " ")))
    first = Path("/dev/hugepages")
    found.sort(key=lambda folder: folder != first)
    return [*dict.fromkeys(found), SHM_DIR]


def region_name(tag: str, kind: str, name: str) -> str:
    """Return the file name of a region; `kind` is `port` or `link`."""
    return f"ovs-highway-{tag}-{kind}-{name}"


def region_paths(tag: str, kind: str, dirs: Sequence[Path] | None = None) -> dict[str, list[Path]]:
    """Return the region files of one tag by port name or link id, in all places they may lie."""
    prefix = region_name(tag, kind, "")
    found: dict[str, list[Path]] = {}
    for folder in region_dirs() if dirs is None else dirs:
        with contextlib.suppress(OSError):
            for entry in sorted(os.listdir(folder)):
                if entry.startswith(prefix):
                    found.setdefault(entry.removeprefix(prefix), []).append(folder / entry)
    return found


def unlink_region(path: Path) -> None:
    """Remove a region file; its memory goes back when the last process has unmapped it."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def open_file(path: Path, *, writable: bool) -> int:
    """Return a file descriptor of a region file, which cannot be used to cut it short.

    Everybody may make files in /dev/shm: links are not followed, and others' files not taken.

    Raises:
        RegionError: no such file, no permission, or somebody else's.
    """
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = open_fixed(path, flags)
    except OSError as error:
        raise RegionError(f"region {path} cannot be opened: {error.strerror}") from error
    if (owner := os.fstat(fd).st_uid) not in {0, os.geteuid()}:
        os.close(fd)
        raise RegionError(f"region {path} is a file of uid {owner}; remove it")
    return fd


def open_again(fd: int, *, what: str) -> int:
    """Return a descriptor of our own of a region that another process has handed over.

    Raises:
        RegionError: it cannot be opened.
    """
    try:
        return open_fixed(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RegionError(f"{what} cannot be opened: {error.strerror}") from error


def allocate(name: str, size: int, dirs: Sequence[Path]) -> tuple[Path, int]:
    """Make a file of at least `size` bytes whose memory is really there; return path and fd.

    The memory is zero: the kernel clears it. The descriptor cannot be used to cut the file short.

    Raises:
        RegionError: none of the places has room for it.
    """
    problems = []
    for folder in dirs:
        path = folder / name
        page = _page_size(folder)
        if page > shm.HUGE_PAGE:
            problems.append(f"{folder}: pages of {page >> 20} MiB are too large")
            continue
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        try:
            os.posix_fallocate(fd, 0, max(size, page))
        except OSError as error:
            os.close(fd)
            unlink_region(path)
            no_space = error.errno == errno.ENOSPC
            problems.append(f"{folder}: {'no memory left' if no_space else error.strerror}")
            log.info("region %s: %s", name, problems[-1])
            continue
        return path, fixed(fd)
    raise RegionError(f"no memory for a region of {size >> 10} KiB ({'; '.join(problems)})")


def _page_size(folder: Path) -> int:
    try:
        return os.statvfs(folder).f_bsize
    except OSError:
        return shm.PAGE
