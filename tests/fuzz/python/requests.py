# SPDX-License-Identifier: Apache-2.0
"""The control socket of highwayd: JSON-RPC requests, and answers of other daemons."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ovs_highway import unixctl
from ovs_highway.agent import control
from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LIMIT: Final = 64
_WORDS: Final = (b'"id":1', b'"error":"', b"abc")


def _refuse(text: str) -> str:
    raise CommandError(text)


_COMMANDS: Final[dict[str, Callable[..., str]]] = {
    "version": lambda: "1",
    "echo": lambda one: str(one),
    "refuse": _refuse,
}


def _feed(reader: unixctl.Reader, data: bytes, step: int) -> list[dict[str, object]] | None:
    """Feed in pieces; None if it is no stream of requests."""
    found = []
    for at in range(0, len(data), step):
        try:
            found += reader.feed(data[at : at + step])
        except ValueError:
            return None
        assert len(reader._text) <= _LIMIT + step, "it keeps more than its limit"
    return found


def one_input(data: bytes) -> None:
    """Only ValueError is raised; what waits is bounded; every request gets an answer in JSON."""
    step = 1 + (data[0] if data else 0)
    found = _feed(unixctl.Reader(_LIMIT), data[1:], step)
    for request in found or ():
        answer = json.loads(json.dumps(control._answer(_COMMANDS, request)).encode("utf-8"))
        assert (answer["result"] is None) != (answer["error"] is None)
    finder = unixctl.Finder(_WORDS)
    for at in range(1, len(data), step):
        finder.feed(data[at : at + step])
    assert finder.found == {word for word in _WORDS if word in data[1:]}


def seeds() -> Iterable[bytes]:
    """What ovs-appctl sends, and what is like it."""
    yield b'\x07{"method":"version","params":[],"id":0}'
    yield b'\xff{"method":"echo","params":["a"],"id":1} {"method":"refuse","params":["b"],"id":2}'
    yield b'\x20{"id":1,"result":"x","error":null}\n[1,2]'
    yield '\x10{"method":"\\ud800é","params":{"a":[1e999,-0,NaN]},"id":null}'.encode()
    yield b"\x00" + b'{"a":' * 40
    yield b"\x3f" + b" " * 100
