# SPDX-License-Identifier: Apache-2.0
"""Descriptors of regions that can be mapped and written, but not used to cut the file short.

Whoever holds a descriptor that a shared, writable mapping can be made of can truncate the file as
well, and the next access by anybody is a SIGBUS. Seals would forbid that, but only files without a
name (memfd) can be sealed, and regions are found by their names when a process has died. So the
descriptors are opened by a thread that has given up the right to truncate: Landlock (Linux 6.2)
notes with each open file what its opener was allowed to, and holds whoever has it to that. See
`Documentation/userspace-api/landlock.rst`, "Truncating files".
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_TRUNCATE: Final = 1 << 14
_SINCE_ABI: Final = 3
_NO_NEW_PRIVS: Final = 38

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def available() -> bool:
    """Tell whether this kernel can hold a descriptor to that."""
    # No system call of these numbers: -1.
    return int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)) >= _SINCE_ABI


def open_fixed(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file as `os.open` does; with the descriptor its length cannot be changed, if the
    kernel can hold it to that.

    Raises:
        OSError: as `os.open`.
    """
    if not available():
        return os.open(path, flags)
    return _opener().submit(os.open, path, flags).result()


def fixed(fd: int) -> int:
    """Return another such descriptor of the same file in place of `fd`, which is closed.

    Raises:
        OSError: it cannot be opened again.
    """
    try:
        return open_fixed(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(fd)


@functools.cache
def _opener() -> ThreadPoolExecutor:
    """Return the one thread that may not truncate; the others of the process may."""
    return ThreadPoolExecutor(1, thread_name_prefix="open", initializer=_give_up_truncating)


def _give_up_truncating() -> None:
    attributes = struct.pack("Q", _TRUNCATE)
    ruleset = _checked(
        _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    )
    try:
        _checked(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
