# SPDX-License-Identifier: Apache-2.0
"""A VNF that sends frames of one's own making, and otherwise is as all others."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from scapy.utils import wrpcap
from tests.system.scene import BURST, Count, Vnf, becomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scapy.packet import Packet
    from tests.system.scene import Scene


class Player(Vnf):
    """A testpmd between port `p<number>` and a file; each `send` plays the whole file once.

    The file has a burst of 32 frames for each `send`, or as many as there are if they are more:
    `frames` are repeated to fill it.
    """

    __test__ = False

    def __init__(self, scene: Scene, number: int, frames: Sequence[Packet]) -> None:
        self.name = f"player-p{number}"
        file = Path(scene.sandbox.rundir) / f"{self.name}.pcap"
        self.frames = list(itertools.islice(itertools.cycle(frames), max(BURST, len(frames))))
        wrpcap(str(file), self.frames)
        super().__init__(
            self.name,
            vdevs=[f"net_highway0,port=p{number},idle=yield", f"net_pcap1,rx_pcap={file}"],
            forward="io",
            app_args=("--disable-link-check", "--no-flush-rx"),
            env=scene.sandbox.env,
        )

    def launch(self) -> None:
        """Start it, so that it receives and does not send."""
        super().launch()
        self.command("port stop 1")
        self.wait_link_up()
        self.command("port start 1")

    def send(self, bursts: int = 1) -> Count:
        """Play the file so many times; return what was sent."""
        before = self.sent()
        for _ in range(bursts):
            played = self.sent().packets
            self.command("stop")
            self.command("port stop 1")
            self.command("port start 1")
            self.start()
            becomes(lambda: self.sent().packets, played + len(self.frames), "frames played")
        return self.sent() - before
