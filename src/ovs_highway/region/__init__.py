# SPDX-License-Identifier: Apache-2.0
"""Port regions and link regions: find, make, open, check, read.

Whoever maps a region may write into it, so geometry is checked once, on opening, and kept as a
private copy; all later reads are bounded by that copy. A region is mapped, never copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovs_highway.errors import RegionError
from ovs_highway.region._alone import go_on_alone, stop_alone
from ovs_highway.region._cut import survive_cuts
from ovs_highway.region._files import SHM_DIR, region_dirs, region_name, region_paths, unlink_region
from ovs_highway.region._fixed import available as fixed_length_available
from ovs_highway.region._link import LinkEnd, LinkRegion
from ovs_highway.region._port import Gate, PortRegion, Rule, SwitchState, VnfState

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SHM_DIR",
    "Gate",
    "LinkEnd",
    "LinkRegion",
    "PortRegion",
    "Rule",
    "SwitchState",
    "VnfState",
    "file_of",
    "fixed_length_available",
    "go_on_alone",
    "open_links",
    "open_ports",
    "region_dirs",
    "region_name",
    "region_paths",
    "stop_alone",
    "survive_cuts",
    "unlink_region",
]


def file_of(port: PortRegion) -> Path | None:
    """Return the file of a port's region, None if it has none any more."""
    files = region_paths(port.tag, "port").get(port.name, [])
    return next((path for path in files if port.is_file(path)), None)


def open_ports(tag: str, *, writable: bool = False) -> tuple[dict[str, PortRegion], list[str]]:
    """Open all port regions of a tag; return them by name, and why others were left out."""
    found: dict[str, PortRegion] = {}
    problems = []
    for name, files in sorted(region_paths(tag, "port").items()):
        for path in files:
            try:
                region = PortRegion.open(path, writable=writable)
            except RegionError as error:
                problems.append(str(error))
                continue
            if region.name != name or region.tag != tag or name in found:
                problems.append(f"region {path} is not that of port {name}; remove the file")
                region.close()
                continue
            found[name] = region
    return found, problems


def open_links(tag: str, *, writable: bool = False) -> tuple[list[LinkRegion], list[str]]:
    """Open all link regions of a tag; return them, and why others were left out."""
    found, problems = [], []
    for files in region_paths(tag, "link").values():
        for path in files:
            try:
                found.append(LinkRegion.open(path, writable=writable))
            except RegionError as error:
                problems.append(str(error))
    return found, problems
