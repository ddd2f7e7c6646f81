# SPDX-License-Identifier: Apache-2.0
"""What the tests of OVS's features share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.system.features.trio import Trio
from tests.system.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.lab import Sandbox


@pytest.fixture(scope="module")
def _trio(sandbox: Sandbox) -> Iterator[Trio]:
    with Scene(sandbox) as scene:
        yield Trio(scene)


@pytest.fixture
def trio(_trio: Trio) -> Trio:
    """Three ports with VNFs, for all tests of a module, without flows or features."""
    _trio.reset()
    return _trio
