# SPDX-License-Identifier: Apache-2.0
"""Sockets that come and go with their ports."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from ovs_highway.agent.server import Listener

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("turns", range(5))
def test_a_socket_may_close_while_somebody_connects(
    tmp_path: Path, turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps: connect, go round the event loop some times, and close.

    Verify: nothing is said of it, and the client sees the end of its connection or is served.
    """
    served: list[socket.socket] = []

    async def serve(sock: socket.socket) -> None:
        served.append(sock)
        sock.close()

    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            listener = Listener(tmp_path / "s", serve, group)
            await asyncio.sleep(0.01)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(listener.path))
                for _ in range(turns):
                    await asyncio.sleep(0)
                listener.close()
                await asyncio.sleep(0.01)
                client.settimeout(5)
                try:
                    assert client.recv(1) == b""
                except ConnectionResetError:
                    assert not served

    asyncio.run(scene())
    assert not caplog.records
    assert not (tmp_path / "s").exists()
