# SPDX-License-Identifier: Apache-2.0
"""The alternatives that are measured beside each other, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.bench.hops import Hops

if TYPE_CHECKING:
    from collections.abc import Callable

    from ovs_highway.bench.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A way to be measured; `circle` if it goes through the switch and back."""

    what: str
    measure: Callable[[Hops, int], Sample]
    circle: bool = False


ALTERNATIVES: Final = {
    "bypass": Alternative(
        what="one sender core to one receiver core, over the bypass", measure=Hops.bypass
    ),
    "bypass_external": Alternative(
        what="the same, external-buffers=1 at the receiver: frames from 512 bytes on are not copied"
        " a second time",
        measure=Hops.bypass_external,
    ),
    "bypass_checked": Alternative(
        what="the same as bypass, highway-mode=checked at both ports", measure=Hops.bypass_checked
    ),
    "memif": Alternative(what="the same two programs over net_memif", measure=Hops.memif),
    "memif_zc_tx": Alternative(
        what="the same, zero-copy=yes at the sender: one copy, by the receiver",
        measure=Hops.memif_zc_tx,
    ),
    "memif_zc_rx": Alternative(
        what="the same, zero-copy=yes at the receiver: one copy, by the sender",
        measure=Hops.memif_zc_rx,
    ),
    "normal": Alternative(
        what="through the switch and back, over the normal channel",
        measure=Hops.normal,
        circle=True,
    ),
    "vhostuser": Alternative(
        what="the same over dpdkvhostuserclient and net_virtio_user",
        measure=Hops.vhostuser,
        circle=True,
    ),
    "vhostuser_packed": Alternative(
        what="the same with packed virtqueues", measure=Hops.vhostuser_packed, circle=True
    ),
    "ovs_memif": Alternative(
        what="the same over net_memif, two queues at each side",
        measure=Hops.ovs_memif,
        circle=True,
    ),
    "limit_bare": Alternative(
        what="the same bytes between the same cores, by a bare loop", measure=Hops.limit_bare
    ),
    "limit_mbufs": Alternative(
        what="the same loop with allocation and free of mbufs", measure=Hops.limit_mbufs
    ),
    "null_tx": Alternative(what="the sender alone, on net_null", measure=Hops.null_tx),
    "null_rx": Alternative(what="the receiver alone, on net_null", measure=Hops.null_rx),
}
