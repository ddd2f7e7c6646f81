# SPDX-License-Identifier: Apache-2.0
"""highwayd carries out policy: gates, links, purges; with a real ovsdb-server."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from ovs_highway import protocol, shm
from ovs_highway.agent import control
from ovs_highway.errors import CommandError
from ovs_highway.shm import LinkFlag, Off
from ovs_highway.unixctl import Finder

from .conftest import put_rule, wait_for
from .database import needs_ovs
from .fake_vswitchd import FakeVswitchd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovs_highway.lab.stand_in import FakeSwitch, FakeVnf

    from .conftest import Lab
    from .database import Database

CHECKED = LinkFlag.CHECKED | LinkFlag.PEER_CHECKS
NO_LABEL = (
    "vnf1 and vnf2 have no highway-trust label in common; set external_ids:highway-trust, or"
    " highway-mode=checked on both"
)


@pytest.fixture
def vswitchd(idle_lab: Lab) -> Iterator[FakeVswitchd]:
    daemon = FakeVswitchd(idle_lab.ovs_rundir)
    yield daemon
    daemon.close()


@pytest.fixture
def ports(database: Database, idle_lab: Lab) -> tuple[FakeSwitch, FakeSwitch]:
    """Two ports that trust each other, with a rule from the first to the second."""
    for name in ("vnf1", "vnf2"):
        database.add_port(name, name)
    idle_lab.start()
    one, two = idle_lab.switch("vnf1"), idle_lab.switch("vnf2")
    one.want(two)
    return one, two


def links(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.ask("highway/links"))["links"]
    return found


def bring_up(*vnfs: FakeVnf) -> bool:
    """Have both ends take a link; return whether it is checked."""
    ids = {vnf.accept_link() for vnf in vnfs}
    assert len({vnf.await_update().region_id for vnf in vnfs} | ids) == 1
    told = [vnf.flags[link_id] for vnf in vnfs for link_id in ids]
    shown = {link.flags for vnf in vnfs for link in vnf.links.values()}
    assert shown == {tuple(told)}
    assert set(told) in ({shm.FREE}, {CHECKED})
    return told[0] == CHECKED


def take_down(*vnfs: FakeVnf, updated: bool = False) -> str:
    """Have both ends give a link up; return the reason they were told."""
    (reason,) = {vnf.give_up_link(updated=updated) for vnf in vnfs}
    return reason


# gates -----------------------------------------------------------------------------------------


@needs_ovs
@pytest.mark.parametrize(
    ("do", "undo", "reason"),
    [
        (
            "set Interface vnf1 ingress_policing_rate=1000",
            "set Interface vnf1 ingress_policing_rate=0",
            "ingress policing, ingress_policing_rate=1000 on interface vnf1",
        ),
        (
            "set Interface vnf1 ingress_policing_kpkts_rate=1",
            "set Interface vnf1 ingress_policing_kpkts_rate=0",
            "ingress policing, ingress_policing_kpkts_rate=1 on interface vnf1",
        ),
        (
            "set Port vnf1 qos=@q -- --id=@q create QoS type=egress-policer",
            "clear Port vnf1 qos",
            "QoS on port vnf1",
        ),
        (
            'set Bridge br0 netflow=@n -- --id=@n create NetFlow targets="127.0.0.1:9"',
            "clear Bridge br0 netflow",
            "NetFlow on bridge br0",
        ),
        (
            "add-br br1 -- set Bridge br1 netflow=@n"
            ' -- --id=@n create NetFlow targets="127.0.0.1:9"'
            " -- add-port br0 to1 -- set Interface to1 type=patch options:peer=to0"
            " -- add-port br1 to0 -- set Interface to0 type=patch options:peer=to1",
            "del-port br0 to1",
            "NetFlow on bridge br1",
        ),
        (
            "set Bridge br0 external_ids:highway=off",
            "set Interface vnf1 external_ids:highway=on",
            "external_ids:highway=off on bridge br0",
        ),
        (
            "set Open_vSwitch . external_ids:highway-mode=off",
            "set Bridge br0 external_ids:highway-mode=auto",
            "external_ids:highway-mode=off on Open_vSwitch",
        ),
        (
            "set Interface vnf1 external_ids:highway-mode=fast",
            "set Interface vnf1 external_ids:highway-mode=auto",
            "external_ids:highway-mode=fast on interface vnf1 is not auto, checked, p2p or off",
        ),
    ],
)
def test_the_gate_follows_the_database(
    database: Database, idle_lab: Lab, do: str, undo: str, reason: str
) -> None:
    database.add_port("vnf1", "vnf1")
    idle_lab.start()
    one = idle_lab.switch("vnf1")
    wait_for(lambda: "vnf1: added" in idle_lab.log(), "the port is known")
    assert one.region.gate().off_policy == 0
    database.vsctl(*do.split())
    wait_for(lambda: one.region.gate().off_policy == Off.POLICY, "the port is off")
    assert one.region.gate().off_text == reason
    database.vsctl(*undo.split())
    wait_for(lambda: one.region.gate().off_policy == 0, "the port is on")


# links -----------------------------------------------------------------------------------------


@needs_ovs
def test_labels_and_modes_decide_about_the_link(
    database: Database, idle_lab: Lab, ports: tuple[FakeSwitch, FakeSwitch]
) -> None:
    lab = idle_lab
    vnfs = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    assert not bring_up(*vnfs)
    database.vsctl("remove", "Interface", "vnf2", "external_ids", "highway-trust")
    assert take_down(*vnfs) == NO_LABEL
    wait_for(lambda: not lab.link_files(), "the link's region is gone")
    (link,) = links(lab)
    assert (link["id"], link["reason"]) == (None, NO_LABEL)
    database.vsctl("set", "Interface", "vnf1", "external_ids:highway-mode=checked")
    wait_for(
        lambda: links(lab)[0]["reason"].endswith("highway-mode=checked on vnf2"),
        "the reason names the other port",
    )
    database.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-mode=checked")
    assert bring_up(*vnfs)
    database.vsctl("set", "Interface", "vnf2", "external_ids:highway-trust=lab")
    (link_id,) = vnfs[0].links
    for flags in (LinkFlag.PEER_CHECKS, shm.FREE):
        for vnf in vnfs:
            vnf.await_update()
            assert vnf.flags[link_id] == flags
    assert vnfs[0].links[link_id].flags == (shm.FREE, shm.FREE)
    database.vsctl("set", "Interface", "vnf2", "external_ids:highway-trust=other")
    assert take_down(*vnfs) == "policy wants it checked"
    assert bring_up(*vnfs)
    database.vsctl("remove", "Interface", "vnf1", "external_ids", "highway-mode")
    database.vsctl("set", "Bridge", "br0", "external_ids:highway-mode=p2p")
    assert take_down(*vnfs).startswith("highway-mode=p2p at vnf1 and vnf2")


@needs_ovs
def test_a_driver_that_knows_one_kind_of_link_gets_another_when_it_changes(
    database: Database, idle_lab: Lab, ports: tuple[FakeSwitch, FakeSwitch]
) -> None:
    for name in ("vnf1", "vnf2"):
        database.vsctl("set", "Interface", name, "external_ids:highway-mode=checked")
    database.vsctl("remove", "Interface", "vnf1", "external_ids", "highway-trust")
    known = "highway-mode=checked on vnf2"
    wait_for(lambda: known not in links(idle_lab)[0]["reason"], "highwayd follows")
    old = idle_lab.vnf("vnf1", abi=shm.ABI_DIRECTED - 1).attach()
    vnfs = old, idle_lab.vnf("vnf2").attach()
    if not bring_up(*vnfs):  # the label was still there
        take_down(*vnfs)
        assert bring_up(*vnfs)
    database.vsctl("set", "Interface", "vnf1", "external_ids:highway-trust=lab")
    assert take_down(*vnfs) == "it need not be checked"
    assert not bring_up(*vnfs)


@needs_ovs
@pytest.mark.parametrize("honest", [True, False])
def test_a_new_highwayd_believes_what_drivers_report(
    database: Database, idle_lab: Lab, ports: tuple[FakeSwitch, FakeSwitch], honest: bool
) -> None:
    lab = idle_lab
    for name in ("vnf1", "vnf2"):
        database.vsctl("set", "Interface", name, "external_ids:highway-mode=checked")
    database.vsctl("remove", "Interface", "vnf1", "external_ids", "highway-trust")
    one, two = ports
    vnfs = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    if not bring_up(*vnfs):  # the label was still there
        take_down(*vnfs)
        assert bring_up(*vnfs)
    lab.end(signal.SIGKILL)
    for peer in (one, two, *vnfs):
        peer.sock.close()
    (link_id,) = vnfs[0].links
    if not honest:
        vnfs[1].flags[link_id] = shm.FREE
    lab.start()
    again = lab.switch("vnf1"), lab.switch("vnf2")
    again[0].want(again[1])
    for vnf in vnfs:
        vnf.connect()
        vnf.attach()
    if honest:
        for vnf in vnfs:
            assert vnf.await_update().region_id == link_id
    else:
        # The link may be adopted before the database was read.
        assert take_down(*vnfs, updated=True) == "policy wants it checked"
        assert bring_up(*vnfs)


def test_a_driver_that_does_not_check_gets_no_link(
    database: Database, idle_lab: Lab, ports: tuple[FakeSwitch, FakeSwitch]
) -> None:
    for name in ("vnf1", "vnf2"):
        database.vsctl("set", "Interface", name, "external_ids:highway-mode=checked")
        database.vsctl("remove", "Interface", name, "external_ids", "highway-trust")
    wait_for(lambda: links(idle_lab)[0]["reason"] == "no VNF attached at vnf1", "the rule is known")
    vnfs = idle_lab.vnf("vnf1").attach(), idle_lab.vnf("vnf2").attach()
    for vnf in vnfs:
        added = vnf.expect(protocol.LinkAdd)
        assert added.flags == CHECKED
        vnf.send(protocol.LinkAdded(link_id=added.link_id))
    for vnf in vnfs:
        removed = vnf.expect(protocol.LinkRemove)
        assert "does not heed what it was told" in removed.text
        vnf.send(protocol.LinkRemoved(link_id=removed.link_id))
    wait_for(
        lambda: (
            "does not heed" in links(idle_lab)[0]["reason"]
            and "next try in" in links(idle_lab)[0]["reason"]
        ),
        "it is tried again later",
    )


def test_without_a_database_no_link_is_made(idle_lab: Lab) -> None:
    (idle_lab.ovs_rundir / "db.sock").touch()
    idle_lab.start()
    one, two = idle_lab.switch("vnf1"), idle_lab.switch("vnf2")
    vnfs = idle_lab.vnf("vnf1").attach(), idle_lab.vnf("vnf2").attach()
    one.want(two)
    reason = "highwayd has not found both ports in the OVS database yet"
    wait_for(lambda: [link["reason"] for link in links(idle_lab)] == [reason], "it is said why")
    assert vnfs[0].quiet()


# purges ----------------------------------------------------------------------------------------


@needs_ovs
def test_mirrors_that_change_are_followed_by_a_purge(
    database: Database, idle_lab: Lab, vswitchd: FakeVswitchd
) -> None:
    def purges() -> int:
        return vswitchd.asked.count("revalidator/purge")

    database.add_port("vnf1", "vnf1")
    idle_lab.start()
    wait_for(lambda: "follows the OVSDB" in idle_lab.log(), "the database is read")
    database.vsctl("add-port", "br0", "tap")
    database.vsctl(
        *("--id=@m", "create", "Mirror", "name=m", "select_all=true"),
        *("--", "set", "Bridge", "br0", "mirrors=@m"),
    )
    wait_for(lambda: purges() == 1, "a mirror that comes")
    database.vsctl("set", "Mirror", "m", "external_ids:other=thing")
    database.vsctl(
        *("--id=@p", "get", "Port", "tap"),
        *("--", "set", "Mirror", "m", "select_all=false", "select_dst_port=@p"),
        *("--", "set", "Open_vSwitch", ".", "next_cfg=7", "cur_cfg=6"),
    )
    time.sleep(0.5)
    assert purges() == 1, "OVS was told before it had carried out the change"
    database.vsctl("set", "Open_vSwitch", ".", "cur_cfg=7")
    wait_for(lambda: purges() == 2, "a mirror that changes")
    database.vsctl("clear", "Bridge", "br0", "mirrors")
    wait_for(lambda: purges() == 3, "a mirror that goes")


@needs_ovs
def test_a_highwayd_that_finds_a_mirror_purges(
    database: Database, idle_lab: Lab, vswitchd: FakeVswitchd
) -> None:
    database.vsctl(
        *("--id=@m", "create", "Mirror", "name=m", "select_all=true"),
        *("--", "set", "Bridge", "br0", "mirrors=@m"),
    )
    idle_lab.start()
    wait_for(lambda: "revalidator/purge" in vswitchd.asked, "it purges")


# fin_timeout -----------------------------------------------------------------------------------


@needs_ovs
def test_fin_timeout_turns_the_ports_of_its_bridge_off(
    database: Database,
    idle_lab: Lab,
    vswitchd: FakeVswitchd,
    ports: tuple[FakeSwitch, FakeSwitch],
) -> None:
    one, two = ports
    vswitchd.flows["br0"] = " tcp,in_port=1 actions=fin_timeout(idle_timeout=5),output:2\n"
    put_rule(one, 0, two)
    time.sleep(0.5)
    assert vswitchd.asked == [], "OVS was asked though no rule is for TCP"
    put_rule(one, 1, two, protocol=6)
    wait_for(lambda: two.region.gate().off_policy == Off.POLICY, "the other port is off, too")
    assert one.region.gate().off_text == "an OpenFlow rule of bridge br0 has fin_timeout"
    put_rule(one, 1, two, protocol=6, live=False)  # as the switch does with ports that are off
    asked = len(vswitchd.asked)
    wait_for(lambda: len(vswitchd.asked) > asked + 1, "it is asked as long as it was found")
    assert one.region.gate().off_policy == Off.POLICY
    vswitchd.flows["br0"] = " tcp,in_port=1 actions=output:2\n"
    for port in ports:
        wait_for(lambda port=port: not port.region.gate().off_policy, "it is on")  # type: ignore[misc]
    asked = len(vswitchd.asked)
    time.sleep(1.5)
    assert len(vswitchd.asked) <= asked + 1, "OVS is still asked, for no reason"
    assert set(vswitchd.asked) == {"bridge/dump-flows br0", "version"}


def test_words_are_found_wherever_a_stream_is_cut() -> None:
    text = b"..abc..de.f...abcde"
    for first, second in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        finder = Finder([b"abc", b"de", b"fg", b"."])
        for piece in (text[:first], text[first:second], text[second:]):
            finder.feed(piece)
        assert finder.found == {b"abc", b"de", b"."}


@pytest.mark.parametrize("length", [0, 65536, 3_000_000])
def test_a_word_is_found_in_an_answer_of_any_length(tmp_path: Path, length: int) -> None:
    daemon = FakeVswitchd(tmp_path)
    text = 'note="id":1,"error":"' + "x" * length
    daemon.flows = {"with": text + "fin_timeout(", "without": text + "fin_timeout"}

    def search(bridge: str) -> bool:
        found = control.search(daemon.path, "bridge/dump-flows", bridge, what=b"fin_timeout(")
        return asyncio.run(found)

    assert search("with")
    assert not search("without")
    with pytest.raises(CommandError, match=re.escape("refused bridge/dump-flows br9")):
        search("br9")
    daemon.close()


def test_a_rule_for_tcp_is_found_among_others(lab: Lab) -> None:
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    assert not one.region.matches_tcp()
    for slot in (0, 5, one.region.n_rules - 1):
        put_rule(one, slot, two)
    put_rule(one, 1, two, protocol=6, live=False)
    assert not one.region.matches_tcp()
    for slot in (0, 5, one.region.n_rules - 1):
        put_rule(one, slot, two, protocol=6)
        assert one.region.matches_tcp()
        put_rule(one, slot, two, protocol=6, live=False)
        assert not one.region.matches_tcp()
