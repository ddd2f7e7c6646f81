# SPDX-License-Identifier: Apache-2.0
"""The detector's verdicts on a real OVS, against ofproto/trace of random packets."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.system.detector.tables import NAMES, PATCH, PORTS, draw, packet
from tests.system.scene import eventually

from ovs_highway import paths, unixctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.lab import Sandbox

REPORT = Path(__file__).resolve().parents[3] / "build/detector-completeness.json"
PACKETS = 24


class World:
    """Two bridges with a patch between them, their ports, and the two who judge."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.files = sandbox.rundir / "random-tables"
        for bridge, numbers in PORTS.items():
            sandbox.add_bridge(bridge)
            for number in numbers:
                sandbox.add_port(bridge, NAMES[number], number)
        for bridge, peer in (("br0", "br1"), ("br1", "br0")):
            sandbox.vsctl(
                *("add-port", bridge, f"to-{peer}", "--", "set", "Interface", f"to-{peer}"),
                *("type=patch", f"options:peer=to-{bridge}", f"ofport_request={PATCH}"),
            )
        show = sandbox.appctl("dpif/show")
        self.dp_ports = {name: number for name, number in re.findall(r"(p\d+) \d+/(\d+):", show)}
        self._vswitchd = unixctl.vswitchd_socket(sandbox.rundir)
        self._highwayd = paths.control_socket(sandbox.rundir)

    def close(self) -> None:
        for bridge in PORTS:
            self.sandbox.vsctl("del-br", bridge)

    def load(self, seed: int) -> int:
        """Put random tables into the switch; return how many flows."""
        tables = draw(seed)
        count = 0
        for bridge in PORTS:
            self.sandbox.ofctl("-O", "OpenFlow15", "del-flows", bridge)
            self.sandbox.ofctl("-O", "OpenFlow15", "del-groups", bridge)
            self._until_flows(bridge, 0)
            self.files.write_text("\n".join(tables.groups[bridge]))
            self.sandbox.ofctl("-O", "OpenFlow15", "add-groups", bridge, str(self.files))
            self.files.write_text("\n".join(tables.flows[bridge]))
            self.sandbox.ofctl("-O", "OpenFlow15", "add-flows", bridge, str(self.files))
            flows = self.sandbox.ofctl("-O", "OpenFlow15", "dump-flows", bridge)
            there = sum("actions=" in line for line in flows.splitlines())
            self._until_flows(bridge, there)
            count += there
        return count

    def _until_flows(self, bridge: str, count: int) -> None:
        def same() -> bool:
            told = self.detector()["bridges"].get(bridge, {})
            return told.get("flows") == count and not told.get("blocked")

        eventually(same, f"the detector follows {count} flows of {bridge}")

    def detector(self) -> dict[str, Any]:
        """Return what the detector says of all bridges and ports."""
        found: dict[str, Any] = json.loads(unixctl.call(self._highwayd, "highway/detector"))
        return found

    def trace(self, bridge: str, number: int, what: str) -> str | None:
        """Return the port to which OVS would send a packet unchanged, None if it would not."""
        flow = f"in_port={number},{what}"
        text = unixctl.call(self._vswitchd, "ofproto/trace", bridge, flow)
        found = re.search(r"^Datapath actions: (.*)$", text, re.MULTILINE)
        assert found is not None, text
        names = [name for name, number in self.dp_ports.items() if number == found[1]]
        return names[0] if names else None


@pytest.fixture
def world(sandbox: Sandbox) -> Iterator[World]:
    world = World(sandbox)
    yield world
    world.close()


def compare(world: World, seeds: range) -> tuple[int, Counter[str]]:
    """Compare verdicts with traces; return the number of yes, and the missed ones by reason."""
    right, missed = 0, Counter[str]()
    for seed in seeds:
        world.load(seed)
        chance = random.Random(seed)
        verdicts = world.detector()["ports"]
        for bridge, numbers in PORTS.items():
            for number in numbers:
                verdict = verdicts[NAMES[number]]
                ends = set()
                for _ in range(PACKETS):
                    ends.add(world.trace(bridge, number, packet(chance)))
                    if verdict["peer"] is None and (len(ends) > 1 or None in ends):
                        break
                if verdict["peer"] is not None:
                    assert ends == {verdict["peer"]}, f"seed {seed}, {NAMES[number]}: {verdict}"
                    right += 1
                elif len(ends) == 1 and None not in ends:
                    missed[verdict["kind"]] += 1
    return right, missed


def test_what_is_called_p2p_is_so_in_ofproto_trace(world: World) -> None:
    """Steps: random tables. Verify: each yes by traces; each missed yes is in the report."""
    right, missed = compare(world, range(40))
    print(f"p-2-p and proven: {right}; p-2-p in all traces and not proven: {dict(missed)}")
    assert right > 20, "too few proofs to tell"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_what_is_called_p2p_is_so_in_ofproto_trace_long(world: World) -> None:
    """As above, 1,500 tables; the report goes to build/."""
    right, missed = compare(world, range(1000, 2500))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({"proven": right, "missed": dict(missed)}, indent=2) + "\n")
    assert right > 500, "too few proofs to tell"
