# SPDX-License-Identifier: Apache-2.0
"""Surviving a region's file being cut short at the very moment of an access.

Who maps a region can truncate it; the next access to what is gone is a SIGBUS, which Python has no
way to handle: its own handlers run after the instruction, which is then repeated for ever. So the
handler is a C function made by ctypes. It runs at once, in the middle of that access, puts empty
memory in the place of what is gone, and the access is repeated there.
"""

from __future__ import annotations

import ctypes
import signal
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovs_highway.region._base import Region

_regions: weakref.WeakSet[Region] = weakref.WeakSet()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


def register(region: Region) -> None:
    """Have a region looked after, as long as it lives."""
    _regions.add(region)


def _on_sigbus(_number: int) -> None:
    replaced = [region.replace_cut() for region in list(_regions)]
    if not any(replaced):
        # Not ours: the same fault again is to end the program.
        ctypes.CDLL(None).signal(signal.SIGBUS, ctypes.c_void_p(0))


_handler = _HANDLER(_on_sigbus)


def survive_cuts() -> None:
    """Handle SIGBUS from now on, in the whole process."""
    ctypes.CDLL(None).signal(signal.SIGBUS, _handler)
