# SPDX-License-Identifier: Apache-2.0
"""The control socket of highwayd: the protocol of ovs-appctl, answers as JSON text.

`ovs-appctl -t RUNDIR/highwayd.ctl highway/show` works, and so does the `highway` command.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

import ovs_highway
from ovs_highway import shm, unixctl
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ovs_highway.agent.links import Links
    from ovs_highway.agent.ports import Port, Ports

_IDLE_LIMIT: Final = 600.0
_CALL_TIMEOUT: Final = 5.0
_SEARCH_TIMEOUT: Final = 60.0


class Core(Protocol):
    """What the commands look at."""

    ports: Ports
    links: Links


def methods(core: Core, stop: Callable[[], None]) -> dict[str, Callable[[], str]]:
    """Return the commands by name; `stop` ends highwayd."""

    def list_commands() -> str:
        return "The available commands are:\n" + "".join(f"  {name}\n" for name in sorted(found))

    def end() -> str:
        asyncio.get_running_loop().call_later(0.05, stop)
        return ""

    found: dict[str, Callable[[], str]] = {
        "list-commands": list_commands,
        "version": lambda: f"highwayd (ovs-highway) {ovs_highway.__version__}\n",
        "highway/show": lambda: json.dumps(_show(core)),
        "highway/links": lambda: json.dumps(_links(core)),
        "exit": end,
    }
    return found


def _show(core: Core) -> dict[str, Any]:
    snapshot = core.ports.snapshot
    return {
        "pid": os.getpid(),
        "version": ovs_highway.__version__,
        "abi": {"version": shm.ABI_VERSION, "oldest": shm.ABI_OLDEST},
        "ovsdb": snapshot is not None and snapshot.connected,
        "ports": [_show_port(core, port) for _, port in sorted(core.ports.items())],
    }


def _show_port(core: Core, port: Port) -> dict[str, Any]:
    snapshot = core.ports.snapshot
    interface = None if snapshot is None else snapshot.ports.get(port.name)
    terms = core.ports.terms(port.name)
    return {
        "name": port.name,
        "bridge": interface.bridge if interface else None,
        "interface": interface.name if interface else None,
        "ofport": interface.ofport if interface else None,
        "policy": core.ports.why_off(port.name),
        "mode": terms.mode if terms else None,
        "trust": terms.trust if terms else None,
        "stats": terms.stats.name.lower() if terms else None,
        "wants": sorted(core.ports.wanted_by(port)),
        "switch_pid": port.switch.pid if port.switch else None,
        "vnf_pid": port.vnf.channel.pid if port.vnf else None,
        "vnf_driver": port.vnf.driver if port.vnf else None,
    }


def _links(core: Core) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    return {
        "links": [
            {
                "ports": list(status.pair),
                "id": None if status.link_id is None else f"{status.link_id:016x}",
                "phase": status.phase,
                "reason": status.reason,
                "ways": [
                    {"from": sender, "to": receiver, "reason": reason}
                    for (sender, receiver), reason in zip(
                        (status.pair, status.pair[::-1]), status.ways, strict=True
                    )
                ],
            }
            for status in core.links.describe(now)
        ]
    }


async def serve(commands: Mapping[str, Callable[..., str]], sock: socket.socket) -> None:
    """Answer the requests of one connection until its end.

    Raises:
        CommandError: the peer does not speak JSON-RPC.
    """
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    reader = unixctl.Reader()
    try:
        async with asyncio.timeout(_IDLE_LIMIT):
            while data := await loop.sock_recv(sock, 4096):
                for request in reader.feed(data):
                    answer = json.dumps(_answer(commands, request))
                    await loop.sock_sendall(sock, answer.encode("utf-8"))
    except ValueError as error:
        raise CommandError(f"control socket: {error}; connection closed") from error
    except (OSError, TimeoutError):
        pass


def _answer(
    commands: Mapping[str, Callable[..., str]], request: Mapping[str, Any]
) -> dict[str, Any]:
    name, ident = request.get("method"), request.get("id")
    command = commands.get(name) if isinstance(name, str) else None
    if command is None:
        error = f'"{name}" is not a valid command (use list-commands to see a list)\n'
        return {"id": ident, "result": None, "error": error}
    params = request.get("params") or []
    if not isinstance(params, list) or not all(isinstance(param, str) for param in params):
        return {"id": ident, "result": None, "error": "params is not a list of strings\n"}
    try:
        inspect.signature(command).bind(*params)
    except TypeError:
        return {"id": ident, "result": None, "error": f'"{name}" takes other arguments\n'}
    try:
        return {"id": ident, "result": command(*params), "error": None}
    except CommandError as error:
        return {"id": ident, "result": None, "error": f"{error}\n"}


async def call(path: Path, method: str) -> str:
    """Run one command in a daemon, as `unixctl.call` does, without stopping the event loop.

    Raises:
        CommandError: no such daemon, no answer in time, or it refused.
    """
    (answer,) = await calls(path, method)
    if isinstance(answer, CommandError):
        raise answer
    return answer


async def calls(path: Path, *methods: str) -> list[str | CommandError]:
    """Run commands in a daemon, sent at once, so that it runs them without anything in between.

    Returns:
        Each command's answer, or its error if it was refused.

    Raises:
        CommandError: no such daemon, or no answer in time.
    """
    reader = unixctl.Reader(1 << 20)
    answers: list[dict[str, Any]] = []

    def take(data: bytes) -> bool:
        answers.extend(reader.feed(data))
        return len(answers) >= len(methods)

    await _exchange(path, [(method,) for method in methods], take, seconds=_CALL_TIMEOUT)
    return [
        str(answer.get("result") or "")
        if answer.get("error") is None
        else CommandError(f"{method}: {str(answer['error']).strip()}")
        for method, answer in zip(methods, answers, strict=False)
    ]


async def search(path: Path, method: str, *params: str, what: bytes) -> bool:
    """Run one command in a daemon and tell whether its answer contains `what`.

    The answer may be of any length and is not kept. To see where it ends without parsing it, the
    daemon is asked for its version too: quotes within a text have a backslash in front, so the id
    of that second answer stands in no text.

    Raises:
        CommandError: no such daemon, no answer in time, or it refused.
    """
    end, failed = b'"id":1', b'"error":"'
    finder = unixctl.Finder([what, end, failed])
    await _exchange(
        path,
        [(method, *params), ("version",)],
        lambda data: end in finder.feed(data),
        seconds=_SEARCH_TIMEOUT,
    )
    if failed in finder.found:
        raise CommandError(f"{path} refused {method} {' '.join(params)}")
    return what in finder.found


async def _exchange(
    path: Path,
    requests: Sequence[tuple[str, ...]],
    take: Callable[[bytes], bool],
    *,
    seconds: float,
) -> None:
    """Send requests, numbered from 0, and give what comes to `take` until that returns True.

    Raises:
        CommandError: no such daemon, or the answer does not come, or not within `seconds`.
    """
    lines = [
        json.dumps({"method": method, "params": params, "id": number})
        for number, (method, *params) in enumerate(requests)
    ]
    try:
        async with asyncio.timeout(seconds):
            stream, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write("".join(lines).encode())
                while data := await stream.read(65536):
                    if take(data):
                        return
            finally:
                writer.close()
    except TimeoutError as error:
        raise CommandError(f"{path} did not answer within {seconds:.0f} s") from error
    except (OSError, ValueError) as error:
        raise CommandError(f"no answer from {path}: {error}") from error
    raise CommandError(f"{path} closed the connection")
