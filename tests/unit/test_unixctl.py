# SPDX-License-Identifier: Apache-2.0
"""Requests of ovs-appctl, taken out of a stream."""

from __future__ import annotations

import tracemalloc

from ovs_highway import unixctl


def test_space_between_requests_is_not_kept() -> None:
    """Feed two requests with much more space around them than a request may have bytes.

    Verify: both come out, and the space takes no memory.
    """
    reader = unixctl.Reader(64)
    found = []
    tracemalloc.start()
    try:
        for part in (b'{"id":1} ', b'\n{"id":2}', b""):
            found += reader.feed(part)
            for _ in range(100):
                found += reader.feed(b" \n\t\r" * 1000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [{"id": 1}, {"id": 2}]
    assert kept < 100_000
