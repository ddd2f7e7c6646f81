# SPDX-License-Identifier: Apache-2.0
"""Frames written through the cache or past it: `stores=` of the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.system.crossing import Crossing

if TYPE_CHECKING:
    from tests.system.scene import Scene

TIMES: Final = 20


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("stores", ["cached", "streamed", "auto"])
def test_frames_of_any_length_arrive_as_they_were(scene: Scene, stores: str, segments: int) -> None:
    """Whole lines of memory are written, whatever the length of the frame.

    Steps: send frames of 60 to 1,514 bytes, in one segment or three, in bursts of any length, over
    both channels; change channels.
    Verify: nothing is lost, doubled, reordered or changed.
    """
    scene.ports(2)
    devargs = f"idle=yield,stores={stores}"
    sizes = "60-1514,60-200"
    with Crossing(scene, devargs=devargs, sizes=sizes, segments=segments) as crossing:
        crossing.start()
        crossing.change(TIMES)
        crossing.check()
