# SPDX-License-Identifier: Apache-2.0
"""Run one command at the shell of a guest's serial line, as if it ran here.

`python -m ovs_highway.lab.console SOCKET COMMAND` connects its standard input and output with the
command's, and ends when the command does. So whoever drives a local program in a terminal drives
one in a guest in the same way.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import Final

PROMPT: Final = b"guest# "
_READ: Final = 65536
_QUERY: Final = b"\x1b[6n"  # the shell asks the terminal where its cursor is
_END_OF_INPUT: Final = b"\x04"
_BEGIN: Final = b"@begin@"


def run(path: str, command: str) -> int:
    """Type a command, pass everything on in both directions until the shell's prompt is back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(path)
        # A fresh line, no echo, and no job control, by which a stopped command would count as
        # ended; the command's own output begins behind the mark.
        line.sendall(b"\nset +m; stty -echo\n")
        line.sendall(f"echo @be''gin@; {command}\n".encode())
        seen = b""
        while b"\n" not in seen.partition(_BEGIN)[2]:
            data = line.recv(_READ)
            if not data:
                return 1
            seen += data
        tail = _pass_on(seen.partition(_BEGIN)[2].partition(b"\n")[2], b"")
        open_input = True
        while not tail.removesuffix(_QUERY).endswith(PROMPT):
            fds = [line.fileno(), *([0] if open_input else [])]
            ready, _, _ = select.select(fds, [], [])
            if 0 in ready:
                data = os.read(0, _READ)
                open_input = bool(data)
                line.sendall(data or _END_OF_INPUT)
            if line.fileno() in ready:
                data = line.recv(_READ)
                if not data:
                    return 1
                tail = _pass_on(data, tail)
    return 0


def _pass_on(data: bytes, tail: bytes) -> bytes:
    """Write to standard output; return the end of all that was written."""
    os.write(1, data)
    return (tail + data)[-len(PROMPT + _QUERY) :]


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2]))
