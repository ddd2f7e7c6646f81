# SPDX-License-Identifier: Apache-2.0
"""What an unprivileged process tries, as a program of its own: `python3 - TASK ARGUMENTS < this`.

It has nothing but Python's library, since its user may not even be able to read this source tree.
Messages are given in hexadecimal digits. It prints JSON.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIDFD_OPEN, PIDFD_GETFD = 434, 438


def connection(path: str) -> socket.socket:
    """Connect to a socket; wait at most 20 s for anything."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(20)
    sock.connect(path)
    return sock


def reach(sockets: str, files: str, folders: str, pids: str) -> list[str]:
    """Try to get at what belongs to others; return what worked."""
    libc = ctypes.CDLL(None, use_errno=True)

    def can(what: str, try_it: Callable[[], object]) -> Iterator[str]:
        with contextlib.suppress(OSError):
            try_it()
            yield what

    found: list[str] = []
    for path in json.loads(sockets):
        found += can(f"connect {path}", partial(connection, path))
    for path in json.loads(files):
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY):
            found += can(f"open {path}", partial(os.open, path, flags))
        found += can(f"unlink {path}", partial(os.unlink, path))
        found += can(f"truncate {path}", partial(os.truncate, path, 0))
    for path in json.loads(folders):
        found += can(f"list {path}", partial(os.listdir, path))
        found += can(f"write {path}", (Path(path) / "new").touch)
    for pid in json.loads(pids):
        found += can(f"fds of {pid}", partial(os.listdir, f"/proc/{pid}/fd"))
        found += can(f"memory of {pid}", partial(os.open, f"/proc/{pid}/mem", os.O_RDWR))
        pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
        found += [
            f"fd {fd} of {pid}" for fd in range(64) if libc.syscall(PIDFD_GETFD, pidfd, fd, 0) >= 0
        ]
    return found


def attach(path: str, hello: str) -> dict[str, object]:
    """Greet highwayd; return its first answer, and whether a region came and can be mapped."""
    try:
        sock = connection(path)
    except OSError as error:
        return {"error": error.strerror}
    sock.sendall(bytes.fromhex(hello))
    data, fds = b"", array.array("i")
    while len(data) < 512:
        part, ancillary, _, _ = sock.recvmsg(512 - len(data), 1024)
        if not part:
            break
        data += part
        for _, _, payload in ancillary:
            fds.frombytes(payload)
    return {"answer": data[:256].hex(), **_abuse(list(fds))}


def _abuse(fds: list[int]) -> dict[str, object]:
    """Try what a descriptor of a region must not be good for; return what was."""
    worked = []
    for fd in fds:
        tries: dict[str, Callable[[], object]] = {
            "truncate": partial(os.ftruncate, fd, 0),
            "open again": partial(os.open, f"/proc/self/fd/{fd}", os.O_RDWR),
            "change its mode": partial(os.fchmod, fd, 0o666),
        }
        for name, try_it in tries.items():
            with contextlib.suppress(OSError):
                try_it()
                worked.append(name)
    return {"regions": len(fds), "worked": worked}


def silent(path: str, count: str) -> int:
    """Open connections and say nothing; return how many highwayd closed at once."""
    socks = []
    for _ in range(int(count)):
        with contextlib.suppress(OSError):
            socks.append(connection(path))
    time.sleep(0.5)
    for sock in socks:
        sock.setblocking(False)
    closed = 0
    for sock in socks:
        try:
            closed += sock.recv(1) == b""
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
    return closed


def half(path: str, data: str) -> str:
    """Send a part of a message, and wait until the connection is closed."""
    sock = connection(path)
    sock.sendall(bytes.fromhex(data))
    return _read_to_end(sock)


def descriptors(path: str, data: str) -> str:
    """Send as many descriptors as the kernel takes, beside a part of a message."""
    sock = connection(path)
    socket.send_fds(sock, [bytes.fromhex(data)], [0] * 253)
    return _read_to_end(sock)


def _read_to_end(sock: socket.socket) -> str:
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return "still open"
    except OSError:
        pass
    return "closed"


def flood(path: str, hello: str, message: str, seconds: str) -> int:
    """Greet, then send one message again and again, and read nothing; return how many went out."""
    sock = connection(path)
    sock.sendall(bytes.fromhex(hello))
    data, sent, until = bytes.fromhex(message) * 64, 0, time.monotonic() + float(seconds)
    sock.settimeout(0.1)
    while time.monotonic() < until:
        try:
            sent += sock.send(data)
        except TimeoutError:
            continue
        except OSError:
            break
    return sent // 256


def come_and_go(path: str, hello: str, seconds: str) -> int:
    """Greet and go away, again and again; return how often."""
    until, count = time.monotonic() + float(seconds), 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            sock = connection(path)
            sock.sendall(bytes.fromhex(hello))
            sock.recv(256)
            sock.close()
            count += 1
    return count


TASKS: dict[str, Callable[..., object]] = {
    task.__name__: task for task in (reach, attach, silent, half, descriptors, flood, come_and_go)
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
