# SPDX-License-Identifier: Apache-2.0
"""What highwayd is to a VM: ports, links and sessions, as far as VMs have to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovs_highway import region
from ovs_highway.agent.vm.machine import Host, RegionFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from ovs_highway.agent.links import Links
    from ovs_highway.agent.ports import Ports
    from ovs_highway.agent.vm.channel import PortChannel


class VmHost(Host):
    """The `Host` of all VMs."""

    def __init__(
        self,
        ports: Ports,
        links: Links,
        serve: Callable[[str, PortChannel], Awaitable[None]],
        news: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._ports = ports
        self._links = links
        self._serve = serve
        self._news = news
        self._now = now

    async def serve(self, name: str, channel: PortChannel) -> None:
        """Serve the VNF at a port for its life."""
        await self._serve(name, channel)

    def port_id(self, name: str) -> int | None:
        """Return the id of a port's region, None if there is no such port now."""
        port = self._ports.get(name)
        if port is None or port.deleted or not port.region.linked:
            return None
        return port.region.region_id

    def port_file(self, name: str) -> RegionFile | None:
        """Return the same region as a file, which takes a look into all places of regions."""
        port = self._ports.get(name)
        if port is None or port.deleted or (path := region.file_of(port.region)) is None:
            return None
        return RegionFile(region_id=port.region.region_id, path=path, size=port.region.size)

    def link_ids(self) -> Collection[int]:
        """Return the links that are not over yet."""
        return self._links.link_ids()

    def link_ends(self, link_id: int) -> Collection[str]:
        """Return the ports of a link, nothing if there is no such link."""
        return self._links.ends(link_id)

    def link_failed(self, channel: PortChannel, link_id: int, reason: str) -> None:
        """A link's region could not be plugged in for this VNF."""
        port = self._ports.get(channel.name)
        if port is None or port.vnf is None or port.vnf.channel is not channel:
            return
        session, now = port.vnf.session, self._now()
        self._links.added(channel.name, session, link_id, ok=False, text=reason, now=now)
        self._news()

    def news(self) -> None:
        """Something changed that links may depend on."""
        self._news()
