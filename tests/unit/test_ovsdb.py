# SPDX-License-Identifier: Apache-2.0
"""What highwayd does on word of the OVS database, with a real ovsdb-server."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from ovs_highway import paths, protocol
from ovs_highway.agent.policy import why_port_off
from ovs_highway.ovsdb import Interface, Snapshot, devargs_port
from ovs_highway.shm import Off

from .conftest import wait_for
from .database import needs_ovs

if TYPE_CHECKING:
    from .conftest import Lab
    from .database import Database


def shown(lab: Lab, name: str) -> dict[str, object]:
    ports = json.loads(lab.ask("highway/show"))["ports"]
    return next((port for port in ports if port["name"] == name), {})


@needs_ovs
def test_show_names_bridge_and_interface(database: Database, idle_lab: Lab) -> None:
    idle_lab.start()
    database.add_port("eth-of-vnf1", "vnf1")
    idle_lab.switch("vnf1")
    wait_for(lambda: shown(idle_lab, "vnf1").get("bridge"), "the database is read")
    port = shown(idle_lab, "vnf1")
    assert (port["bridge"], port["interface"], port["policy"]) == ("br0", "eth-of-vnf1", None)


@needs_ovs
def test_settings_of_the_database_reach_the_regions(database: Database, idle_lab: Lab) -> None:
    database.add_port("vnf1", "vnf1")
    idle_lab.start()
    one = idle_lab.switch("vnf1")
    database.vsctl("set", "Open_vSwitch", ".", "other_config:tx-flush-interval=50")
    wait_for(lambda: one.region.gate().tx_flush_us == 50, "the flush interval arrives")
    database.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-fail-mode=standalone")
    wait_for(lambda: one.region.gate().standalone, "the fail mode arrives")
    database.vsctl("set", "Interface", "vnf1", "external_ids:highway=off")
    wait_for(lambda: one.region.gate().off_policy == Off.POLICY, "the policy arrives")
    assert one.region.gate().off_text == "external_ids:highway=off on interface vnf1"
    database.vsctl("remove", "Interface", "vnf1", "external_ids", "highway")
    wait_for(lambda: one.region.gate().off_policy == 0, "the policy is taken back")


@needs_ovs
def test_a_deleted_port_takes_everything_with_it(database: Database, idle_lab: Lab) -> None:
    lab = idle_lab
    for name in ("vnf1", "vnf2"):
        database.add_port(name, name)
    lab.start()
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    a, b = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    one.want(two)
    a.accept_link()
    b.accept_link()
    for vnf in (a, b):
        vnf.await_update()
    database.vsctl("del-port", "vnf1")
    one.close()
    assert a.expect(protocol.PortGone).region_id == one.region_id
    assert a.give_up_link() == "port vnf1 was deleted"
    assert b.give_up_link() == "port vnf1 was deleted"
    a.expect_eof()
    wait_for(lambda: not lab.link_files(), "the link's region is gone")
    socket = lab.rundir / "ports" / "vnf1" / "sock"
    wait_for(lambda: not socket.exists(), "its socket is gone")
    assert socket.parent.exists(), "a container that was given the directory has lost it"
    assert not one.path.exists()
    assert shown(lab, "vnf1") == {}
    assert two.path.exists()
    database.add_port("vnf1", "vnf1")
    lab.switch("vnf1").want(two)
    lab.vnf("vnf1").attach().accept_link()


@needs_ovs
def test_a_port_is_kept_while_its_switch_or_the_database_is_away(
    database: Database, idle_lab: Lab
) -> None:
    lab = idle_lab
    database.add_port("vnf1", "vnf1")
    lab.start()
    one = lab.switch("vnf1")
    wait_for(lambda: shown(lab, "vnf1").get("bridge"), "the database is read")
    one.close()
    a = lab.vnf("vnf1").attach()
    assert a.quiet(1.0)
    database.stop()
    wait_for(lambda: "has lost the OVSDB" in lab.log(), "the database's end is noticed")
    assert a.quiet(1.0)
    database.start()
    wait_for(lambda: lab.log().count("highwayd follows the OVSDB") == 2, "the database is back")
    assert a.quiet(0.5)
    database.vsctl("del-port", "vnf1")
    a.expect(protocol.PortGone)


@needs_ovs
def test_a_port_deleted_while_highwayd_was_away_is_cleared_away(
    database: Database, idle_lab: Lab
) -> None:
    lab = idle_lab
    lab.start()
    one = lab.switch("vnf1")
    lab.end(signal.SIGKILL)
    one.close()
    lab.start()
    wait_for(lambda: not one.path.exists(), "the region is removed")
    wait_for(lambda: not paths.vnf_socket("vnf1", lab.rundir).exists(), "the socket is removed")


@pytest.mark.parametrize(
    ("devargs", "port"),
    [
        ("net_highway_vnf1,role=switch", "vnf1"),
        ("net_highway_vnf1", "vnf1"),
        ("net_highway_", None),
        ("0000:01:00.0", None),
        ("", None),
    ],
)
def test_ports_are_found_by_their_devargs(devargs: str, port: str | None) -> None:
    assert devargs_port(devargs) == port


def test_policy_is_silent_about_ports_it_does_not_know() -> None:
    assert why_port_off(Snapshot(connected=True), "vnf1") is None
    interface = Interface(
        port="vnf1", name="i1", bridge="br0", ofport=1, external_ids={"highway": "off"}
    )
    snapshot = Snapshot(connected=False, ports={"vnf1": interface})
    assert why_port_off(snapshot, "vnf1") == "external_ids:highway=off on interface i1"
