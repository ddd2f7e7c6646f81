# SPDX-License-Identifier: Apache-2.0
"""What highwayd gives up when it starts: all capabilities but two, and ever getting more.

See capabilities(7) and `include/uapi/linux/capability.h`. Capabilities belong to threads, so this
is done before there are any.
"""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Final

log = logging.getLogger(__name__)

CHOWN: Final = 0
"""To give a port's socket to its user, and regions to the group of libvirt's QEMU."""
DAC_OVERRIDE: Final = 1
"""For sockets of a QEMU, and regions of an ovs-vswitchd, that run as somebody else."""
KEPT: Final = 1 << CHOWN | 1 << DAC_OVERRIDE

_VERSION_3: Final = 0x20080522
_CAPBSET_READ, _CAPBSET_DROP, _NO_NEW_PRIVS = 23, 24, 38
_CAP_AMBIENT, _AMBIENT_CLEAR = 47, 4
_WORD: Final = 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)


def give_up() -> None:
    """Give up what highwayd does not need; what it does not have it does not get."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    if _libc.capget(header, data) != 0:
        _complain("capget")
        return
    number = 0
    while (held := _libc.prctl(_CAPBSET_READ, number, 0, 0, 0)) >= 0:
        # Without CAP_SETPCAP it cannot be left, and no program that is started here gains from it.
        if held and not KEPT >> number & 1:
            _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)
        number += 1
    kept = data[1] & KEPT & _WORD
    data[:] = [kept, kept, 0, 0, 0, 0]
    if _libc.capset(header, data) != 0:
        _complain("capset")
    _libc.prctl(_CAP_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        _complain("prctl")


def _complain(call: str) -> None:
    why = os.strerror(ctypes.get_errno())
    log.warning("capabilities are not given up: %s: %s", call, why)
