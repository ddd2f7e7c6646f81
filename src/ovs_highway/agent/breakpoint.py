# SPDX-License-Identifier: Apache-2.0
"""Stops highwayd at a point of a link's life, for tests of what happens when somebody dies there.

Only if `HIGHWAY_STOP_FILE` names a file: when that has the line `POINT PORT-PORT` and highwayd gets
there, it removes the file and stops itself with SIGSTOP. Points, in the order of a life: `asked`,
`made`, `one` (end was told), `both` (answered), `switching`, `draining`, `withdrawn`. With the name
of a VM in place of the ports: `memory` (its QEMU has the region), `device` (it is plugged),
`unplug` (the guest has let go of it), `deleted` (the device is gone, its memory is not).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ovs_highway.agent.actions import Pair

POINTS: Final = ("asked", "made", "one", "both", "switching", "draining", "withdrawn")
VM_POINTS: Final = ("memory", "device", "unplug", "deleted")


class Breakpoint:
    """Where to stop, if anywhere."""

    def __init__(self, file: str | None = None) -> None:
        name = file if file is not None else os.environ.get("HIGHWAY_STOP_FILE")
        self._file = Path(name) if name else None

    def reach(self, point: str, pair: Pair | str) -> None:
        """Stop here if that was asked for; goes on with SIGCONT."""
        if self._file is None:
            return
        try:
            wanted = self._file.read_text().strip()
        except OSError:
            return
        if wanted == f"{point} {pair if isinstance(pair, str) else '-'.join(pair)}":
            self._file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
