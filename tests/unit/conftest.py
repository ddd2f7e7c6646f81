# SPDX-License-Identifier: Apache-2.0
"""Peers for highwayd: a switch side and VNFs that speak the protocol over the real sockets."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest

from ovs_highway import paths, region, shm, unixctl
from ovs_highway.errors import CommandError
from ovs_highway.lab.stand_in import PATIENCE, FakeSwitch, FakeVnf, Peer, port_path
from ovs_highway.shm import CData, ffi

from .database import Database
from .fake_ovsdb import FakeOvsdb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")


def wait_for(check: Callable[[], T], what: str) -> T:
    """Return what `check` returns as soon as it is true; nothing says how soon that has to be."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := check():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain until {what}")


@dataclass
class Lab:
    """A run directory with a highwayd of its own."""

    rundir: Path
    ovs_rundir: Path
    daemon: subprocess.Popen[bytes] | None = None
    database: FakeOvsdb | None = None
    peers: list[Peer] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return paths.region_tag(self.rundir)

    def port_path(self, name: str) -> Path:
        return port_path(self.rundir, name)

    def start(self) -> None:
        if not (self.ovs_rundir / "db.sock").exists():
            self.database = FakeOvsdb(self.ovs_rundir / "db.sock")
        log = (self.rundir / "highwayd.log").open("ab")
        with log:
            self.daemon = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ovs_highway.agent.daemon"),
                    *("--rundir", str(self.rundir), "--ovs-rundir", str(self.ovs_rundir)),
                ],
                stderr=log,
            )
        wait_for(self.answers, "highwayd answers")

    def answers(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, self.log()
        try:
            self.ask("version")
        except CommandError:
            return False
        return True

    def ask(self, method: str) -> str:
        return unixctl.call(paths.control_socket(self.rundir), method, timeout=PATIENCE)

    def log(self) -> str:
        return (self.rundir / "highwayd.log").read_text(encoding="utf-8")

    def end(self, number: signal.Signals) -> int:
        """End highwayd with a signal; return its exit status."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        status = self.daemon.wait(PATIENCE)
        self.daemon = None
        return status

    def switch(self, name: str) -> FakeSwitch:
        if self.database is not None:
            self.database.add_port(name)
        peer = FakeSwitch(self.rundir, name)
        self.peers.append(peer)
        return peer

    def vnf(self, name: str, *, epoch: int | None = None, abi: int = shm.ABI_VERSION) -> FakeVnf:
        peer = FakeVnf(self.rundir, name, epoch=epoch, abi=abi)
        self.peers.append(peer)
        return peer

    def peer(self, path: Path) -> Peer:
        peer = Peer(path)
        self.peers.append(peer)
        return peer

    def link_files(self) -> list[Path]:
        return [path for files in region.region_paths(self.tag, "link").values() for path in files]

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        if self.daemon is not None:
            self.end(signal.SIGKILL)
        if self.database is not None:
            self.database.close()
        for path in paths.region_files(self.rundir):
            path.unlink()


def put_rule(
    switch: FakeSwitch, slot: int, peer: FakeSwitch, *, protocol: int = 17, live: bool = True
) -> None:
    """Put a rule in force, or take it out: UDP port 80 goes to the peer."""
    port = switch.region
    assert port._mem is not None
    whole = ffi.from_buffer(port._mem)
    rules: CData = ffi.cast("struct highway_rule *", whole + port._rules_offset)
    rule = rules[slot]
    rule.peer_id, rule.generation, rule.live = peer.region_id, slot + 1, (slot + 1) * live
    rule.peer_name = peer.name.encode()
    fill_key(rule.key, rule.mask)
    rule.key.ip_proto = protocol
    counters: CData = ffi.cast("struct highway_counter *", whole + port._counters_offset)
    counters[slot].packets, counters[slot].bytes = 5, 320
    del rules, rule, counters
    ffi.release(whole)
    port.changed()


def fill_key(key: CData, mask: CData) -> None:
    key.eth_type, mask.eth_type = 0x0008, 0xFFFF
    mask.vlan_tci = 0x0010
    mask.ip_frag = 3
    key.ip_proto, mask.ip_proto = 17, 0xFF
    key.l4_dst, mask.l4_dst = 80 << 8, 0xFFFF


@pytest.fixture
def idle_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab whose highwayd is not started yet."""
    (tmp_path / "ovs").mkdir()
    (tmp_path / "hw").mkdir()
    lab = Lab(tmp_path / "hw", tmp_path / "ovs")
    yield lab
    print(lab.log() if (lab.rundir / "highwayd.log").exists() else "")
    lab.close()


@pytest.fixture
def lab(idle_lab: Lab) -> Lab:
    """A lab with a running highwayd."""
    idle_lab.start()
    return idle_lab


@pytest.fixture
def database(idle_lab: Lab) -> Iterator[Database]:
    """A database with bridge `br0`, for the highwayd of `idle_lab`."""
    database = Database(idle_lab.ovs_rundir)
    database.start()
    database.vsctl("add-br", "br0")
    yield database
    database.stop()
