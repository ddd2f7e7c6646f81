# SPDX-License-Identifier: Apache-2.0
"""Surviving that a region's memory goes at the very moment of an access.

Who maps a region may be able to truncate it (`_fixed`), and can punch holes into it, for which
there may be no huge page any more. The next access to what is gone is a SIGBUS, which Python has no
way to handle: its own handlers run after the instruction, which is then repeated for ever. So the
handler is a C function made by ctypes. It runs at once, in the middle of that access, puts empty
memory in the region's place, and the access is repeated there.
"""

from __future__ import annotations

import ctypes
import signal
import weakref
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from ovs_highway.region._base import Region

_regions: weakref.WeakSet[Region] = weakref.WeakSet()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_SI_ADDR: Final = 16
_SA_SIGINFO: Final = 4


class _Action(ctypes.Structure):
    """glibc's `struct sigaction` on Linux."""

    _fields_: ClassVar = [
        ("handler", _HANDLER),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


def register(region: Region) -> None:
    """Have a region looked after, as long as it lives."""
    _regions.add(region)


def _on_sigbus(_number: int, info: int, _context: int | None) -> None:
    address = ctypes.c_void_p.from_address(info + _SI_ADDR).value or 0
    if not any([region.replace_at(address) for region in list(_regions)]):
        # Not ours: the same fault again is to end the program.
        ctypes.CDLL(None).signal(signal.SIGBUS, ctypes.c_void_p(0))


_action = _Action(handler=_HANDLER(_on_sigbus), flags=_SA_SIGINFO)


def survive_cuts() -> None:
    """Handle SIGBUS from now on, in the whole process."""
    ctypes.CDLL(None).sigaction(signal.SIGBUS, ctypes.byref(_action), None)
