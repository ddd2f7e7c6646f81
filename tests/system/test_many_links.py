# SPDX-License-Identifier: Apache-2.0
"""A receiver with more links than a burst looks at (docs/performance.md, "Receiving")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.system.crossing import Crossing

from ovs_highway.lab.churn import Route

if TYPE_CHECKING:
    from tests.system.scene import Scene

SENDERS: Final = 10
TIMES: Final = 20


def test_no_link_is_forgotten_while_others_are_busy(scene: Scene) -> None:
    """Ten ports send to one, all of them busy, over both channels.

    Steps: ten senders, one receiver; change channels of all.
    Verify: each of them gets through on its link, and nothing is lost, doubled or reordered.
    """
    n_ports = SENDERS + 1
    scene.ports(n_ports)
    routes = [Route(source=number, target=1) for number in range(2, n_ports + 1)]
    with Crossing(scene, routes=routes, n_ports=n_ports, window=64) as crossing:
        crossing.start()
        crossing.change(TIMES)
        receiver = crossing.traffic.xstats(0)
        assert receiver["links"] == SENDERS
        came = [receiver[f"rx_bypass_packets_from_p{route.source}"] for route in routes]
        assert min(came) > 0, came
        crossing.check()
