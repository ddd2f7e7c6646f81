# SPDX-License-Identifier: Apache-2.0
"""highwayd as a process, with drivers that speak the protocol over its real sockets."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ovs_highway import paths, protocol, region, shm, unixctl
from ovs_highway.lab.stand_in import make_port_file
from ovs_highway.region import LinkRegion
from ovs_highway.shm import Off, Phase, Role, Status

from .conftest import wait_for

if TYPE_CHECKING:
    from ovs_highway.lab.stand_in import FakeSwitch, FakeVnf

    from .conftest import Lab


def pair_up(lab: Lab) -> tuple[FakeSwitch, FakeSwitch, FakeVnf, FakeVnf]:
    """Two ports with a VNF each and an active link between them."""
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    a, b = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    one.want(two)
    assert a.accept_link() == b.accept_link()
    for vnf in (a, b):
        assert vnf.await_update().phase is Phase.ACTIVE
    return one, two, a, b


def test_a_link_comes_up_when_it_is_wanted_and_both_vnfs_are_there(lab: Lab) -> None:
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    one.want(two)
    a = lab.vnf("vnf1").attach()
    assert a.quiet()
    (status,) = json.loads(lab.ask("highway/links"))["links"]
    assert status["ports"] == ["vnf1", "vnf2"]
    assert status["reason"] == "no VNF attached at vnf2"
    b = lab.vnf("vnf2").attach(started=False)
    assert b.quiet()
    two.region.raw.vnf_state.started = 1
    link_id = a.accept_link()
    assert b.quiet() is False
    assert b.accept_link() == link_id
    link = a.await_update()
    assert link.phase is Phase.ACTIVE
    assert link.names == ("vnf1", "vnf2")
    assert link.port_ids == (one.region.region_id, two.region.region_id)
    assert int(link.raw.active_ns) > 0
    assert len(lab.link_files()) == 1


def test_sockets_are_for_their_owner_only(lab: Lab) -> None:
    lab.switch("vnf1")
    for path in (
        paths.switch_socket(lab.rundir),
        paths.control_socket(lab.rundir),
        paths.vnf_socket("vnf1", lab.rundir),
    ):
        assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(paths.vnf_socket("vnf1", lab.rundir).parent) == ["sock"]


def test_the_death_of_a_vnf_removes_its_link_and_is_noted(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    change = one.region.gate().change
    a.close()
    assert "vnf1 went away" in b.give_up_link()
    wait_for(lambda: not lab.link_files(), "the link's region is gone")
    assert not one.region.vnf().attached
    assert not one.region.vnf().started
    assert one.region.gate().change > change
    assert two.region.vnf().attached
    again = lab.vnf("vnf1").attach()
    assert again.accept_link() == b.accept_link()


def test_the_death_of_the_switch_is_noted_and_links_stay(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    port = region.PortRegion.open(one.path)
    with port:
        change = port.gate().change
        one.close()
        wait_for(lambda: not port.switch().attached, "the switch's death is noted")
        assert port.gate().change > change
    assert a.quiet(0.5)
    assert b.quiet(0.1)
    back = lab.switch("vnf1")
    back.want(two)
    assert a.quiet(0.3)
    assert len(lab.link_files()) == 1


def test_a_stopped_vnf_loses_its_link_and_gets_another(lab: Lab) -> None:
    one, _, a, b = pair_up(lab)
    one.region.raw.vnf_state.started = 0
    assert "has not started" in a.give_up_link()
    b.give_up_link()
    wait_for(lambda: not lab.link_files(), "the link's region is gone")
    one.region.raw.vnf_state.started = 1
    assert a.accept_link() == b.accept_link()


def test_a_second_vnf_is_sent_away_until_the_first_is_gone(lab: Lab) -> None:
    lab.switch("vnf1")
    first = lab.vnf("vnf1").attach()
    second = lab.vnf("vnf1")
    welcome = second.expect(protocol.Welcome)
    assert welcome.status is Status.LATER
    assert welcome.text == f"port vnf1 is already in use by pid {os.getpid()}"
    second.expect_eof()
    for _ in range(20):
        again = lab.vnf("vnf1")
        assert again.expect(protocol.Welcome).status is Status.LATER
    assert lab.log().count("already in use") == 1
    first.close()
    wait_for(lambda: "the VNF has gone" in lab.log(), "the first VNF's end is noticed")
    lab.vnf("vnf1").attach()


def test_a_second_highwayd_is_refused(lab: Lab) -> None:
    command = [sys.executable, "-m", "ovs_highway.agent.daemon", "--rundir", str(lab.rundir)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "already running" in result.stderr
    assert lab.answers()


def test_abi_versions_that_do_not_meet_are_refused_by_name(lab: Lab) -> None:
    lab.switch("vnf1")
    peer = lab.peer(paths.vnf_socket("vnf1", lab.rundir))
    peer.send(protocol.Hello(role=Role.VNF, name="vnf1", abi_version=9, abi_oldest=8))
    welcome = peer.expect(protocol.Welcome)
    assert welcome.status is Status.REFUSED
    assert "ABI 8 to 9" in welcome.text
    assert f"highwayd {shm.ABI_OLDEST} to {shm.ABI_VERSION}" in welcome.text
    peer.expect_eof()


def test_a_newer_driver_that_still_knows_this_version_is_welcome(lab: Lab) -> None:
    lab.switch("vnf1")
    peer = lab.peer(paths.vnf_socket("vnf1", lab.rundir))
    peer.send(protocol.Hello(role=Role.VNF, name="vnf1", abi_version=9, abi_oldest=1, epoch=1))
    welcome = peer.expect(protocol.Welcome)
    assert (welcome.status, welcome.abi_version) == (Status.OK, shm.ABI_VERSION)


def test_bad_regions_are_refused_with_a_reason(lab: Lab) -> None:
    path = lab.rundir / "bad"
    good = {"name": "vnf1", "tag": lab.tag}
    stories = [
        ({**good, "tag": "0" * 16}, "HIGHWAY_RUNDIR"),
        ({**good, "name": "other"}, "belongs to port other"),
        ({**good, "change": lambda raw: setattr(raw.header, "magic", 1)}, "wrong magic"),
        ({**good, "change": lambda raw: setattr(raw, "n_queues", 99)}, "99 queues"),
    ]
    for arguments, words in stories:
        make_port_file(path, **arguments)  # type: ignore[arg-type]
        with path.open("r+b") as file:
            peer = lab.peer(paths.switch_socket(lab.rundir))
            peer.send(protocol.Hello(role=Role.SWITCH, name="vnf1"), fd=file.fileno())
        welcome = peer.expect(protocol.Welcome)
        assert welcome.status is Status.REFUSED
        assert words in welcome.text
        peer.expect_eof()
    peer = lab.peer(paths.switch_socket(lab.rundir))
    peer.send(protocol.Hello(role=Role.SWITCH, name="vnf1"))
    assert "0 regions" in peer.expect(protocol.Welcome).text
    peer = lab.peer(paths.switch_socket(lab.rundir))
    peer.send(protocol.Hello(role=Role.SWITCH, name="../../x"))
    assert "letters, digits" in peer.expect(protocol.Welcome).text
    assert os.listdir(lab.rundir / "ports") == []


def test_a_vnf_at_the_wrong_port_is_refused(lab: Lab) -> None:
    lab.switch("vnf1")
    peer = lab.peer(paths.vnf_socket("vnf1", lab.rundir))
    peer.send(protocol.Hello(role=Role.VNF, name="vnf2"))
    welcome = peer.expect(protocol.Welcome)
    assert welcome.status is Status.REFUSED
    assert welcome.text == "this is the socket of port vnf1, not of vnf2"


def test_hostile_bytes_close_their_connection_and_nothing_else(lab: Lab) -> None:
    _, _, a, b = pair_up(lab)
    sockets = [
        paths.switch_socket(lab.rundir),
        paths.vnf_socket("vnf1", lab.rundir),
        paths.control_socket(lab.rundir),
    ]
    dice = random.Random(4)
    hello = protocol.encode(protocol.Hello(role=Role.VNF, name="vnf1"))
    attacks = [
        dice.randbytes(5000),
        shm.MSG_MAGIC.to_bytes(4, "little") * 2000,
        hello[:-1] + b"\xff" + hello,
        protocol.encode(protocol.Want(peer_id=1, rules=1)),
        b'{"method": "exit"' + b" " * 100_000,
        b"[" * 70_000,
    ]
    for path in sockets:
        for attack in attacks:
            peer = lab.peer(path)
            try:
                peer.sock.sendall(attack)
                peer.sock.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            peer.expect_eof()
    assert a.quiet(0.05)
    assert b.quiet(0.05)
    assert len(lab.link_files()) == 1
    assert "Traceback" not in lab.log()


def test_a_vnf_that_breaks_the_protocol_is_cut_off(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    a.send(protocol.Purge(token=1))
    a.expect_eof()
    assert "vnf1 went away" in b.give_up_link()
    assert "Purge, which it never should" in lab.log()
    lab.vnf("vnf1").attach()
    with one.path.open("rb") as file:
        b.send(protocol.Log(level=6, text="x"), fd=file.fileno())
    b.expect_eof()
    assert two.quiet(0.05)


def test_a_talkative_vnf_cannot_fill_the_log(lab: Lab) -> None:
    one = lab.switch("vnf1")
    a = lab.vnf("vnf1").attach()
    for _ in range(50):
        a.send(*[protocol.Log(level=4, text="blah")] * 50)
    a.send(protocol.LinkAdded(link_id=4711))
    assert a.expect(protocol.LinkRemove).link_id == 4711
    assert lab.log().count("blah") < 500
    assert one.quiet(0.05)


def test_a_refused_link_is_explained_and_tried_again(lab: Lab) -> None:
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    a, b = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    one.want(two)
    b.accept_link()
    added = a.expect(protocol.LinkAdd)
    a.send(
        protocol.LinkAdded(
            link_id=added.link_id, status=Status.REFUSED, text="no memory in the VNF"
        )
    )
    b.give_up_link()
    reason = json.loads(lab.ask("highway/links"))["links"][0]["reason"]
    assert "refused by the VNF at vnf1: no memory in the VNF" in reason
    assert a.accept_link() == b.accept_link()


def test_highwayd_killed_and_back_adopts_ports_and_links(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    (link_file,) = lab.link_files()
    lab.end(signal.SIGKILL)
    for peer in (one, two, a, b):
        peer.expect_eof()
    assert region.PortRegion.open(one.path).vnf().attached
    lab.start()
    for vnf in (a, b):
        vnf.sock.close()
        vnf.connect()
        vnf.attach()
    for vnf in (a, b):
        assert vnf.await_update().phase is Phase.ACTIVE
    for name in ("vnf1", "vnf2"):
        switch = lab.switch(name)
        switch.want(two if name == "vnf1" else one)
    assert a.quiet(4.0)
    assert b.quiet(0.1)
    assert lab.link_files() == [link_file]


def test_a_link_that_only_one_end_kept_is_made_anew(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    (old,) = lab.link_files()
    lab.end(signal.SIGKILL)
    b.close()
    a.sock.close()
    lab.start()
    back = lab.switch("vnf1")
    lab.switch("vnf2")
    a.connect()
    a.attach()
    fresh = lab.vnf("vnf2").attach()
    back.want(two)
    assert "did not report it" in a.give_up_link()
    assert a.accept_link() == fresh.accept_link()
    assert old not in lab.link_files()
    assert one.region_id == back.region_id


def test_vnfs_that_do_not_come_back_count_as_dead_after_a_grace(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    lab.end(signal.SIGKILL)
    lab.start()
    with region.PortRegion.open(one.path) as port:
        assert port.vnf().attached
        wait_for(lambda: not port.switch().attached, "the switch counts as dead")
        wait_for(lambda: not port.vnf().attached, "the VNF counts as dead")
    wait_for(lambda: not lab.link_files(), "the link is removed")
    for peer in (two, a, b):
        peer.close()


def test_a_switch_that_has_the_region_locked_is_alive_though_not_connected(lab: Lab) -> None:
    one = lab.switch("vnf1")
    with region.PortRegion.open(one.path) as port:
        assert port.lock()
        one.close()
        time.sleep(0.5)
        assert port.switch().attached
    with region.PortRegion.open(one.path) as port:
        wait_for(lambda: not port.switch().attached, "the switch counts as dead")


def test_sigterm_removes_sockets_and_leaves_regions(lab: Lab) -> None:
    one, _, _, _ = pair_up(lab)
    files = paths.region_files(lab.rundir)
    change = one.region.gate().change
    assert lab.end(signal.SIGTERM) == 0
    assert paths.region_files(lab.rundir) == files
    assert not list(lab.rundir.glob("**/*sock"))
    assert not (lab.rundir / "highwayd.ctl").exists()
    assert one.region.vnf().attached
    assert one.region.switch().attached
    assert one.region.gate().change == change


def test_exit_over_the_control_socket_ends_it(lab: Lab) -> None:
    lab.ask("exit")
    assert lab.daemon is not None
    assert lab.daemon.wait(20) == 0
    lab.daemon = None


def test_the_lease_counts_up_while_highwayd_lives(lab: Lab) -> None:
    one = lab.switch("vnf1")
    lease = one.region.gate().lease
    wait_for(lambda: one.region.gate().lease >= lease + 2, "the lease counts up")
    lab.end(signal.SIGKILL)
    lease = one.region.gate().lease
    time.sleep(1.2)
    assert one.region.gate().lease == lease


def test_the_flag_for_all_reaches_new_ports(lab: Lab) -> None:
    (lab.rundir / "off-all").touch()
    one = lab.switch("vnf1")
    assert one.region.gate().off_operator == Off.ALL
    assert one.region.gate().change > 0
    (lab.rundir / "off-all").unlink()
    wait_for(lambda: not one.region.gate().off_operator, "the flag's end is noticed")


def test_a_port_made_anew_is_handed_to_its_vnf(lab: Lab) -> None:
    one, two, a, b = pair_up(lab)
    one.close()
    one.path.unlink()
    make_port_file(one.path, name="vnf1", tag=lab.tag, n_queues=2)
    again = lab.switch("vnf1")
    seen = {type(message) for message in (a.expect(protocol.Message) for _ in range(2))}
    assert seen == {protocol.PortRegion, protocol.LinkRemove}
    (fd,) = a.fds
    a.fds.clear()
    link_id, link = a.links.popitem()
    link.close()
    a.send(protocol.LinkRemoved(link_id=link_id))
    with region.PortRegion(fd) as port:
        assert port.region_id == again.region_id
        assert port.n_queues == 2
        port.raw.vnf_state.epoch = a.epoch
        port.raw.vnf_state.attached = port.raw.vnf_state.started = 1
    b.give_up_link()
    again.want(two)
    assert a.accept_link() == b.accept_link()
    assert a.links[next(iter(a.links))].n_queues == (2, 1)


def test_a_purge_is_answered_even_if_there_is_no_switch_to_purge(lab: Lab) -> None:
    one = lab.switch("vnf1")
    one.send(protocol.Purge(token=42))
    assert one.expect(protocol.Purged).token == 42
    assert "could not be told" in lab.log()


def test_a_purge_runs_in_ovs_vswitchd(lab: Lab) -> None:
    one = lab.switch("vnf1")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(lab.ovs_rundir / "ovs-vswitchd.77.ctl"))
        (lab.ovs_rundir / "ovs-vswitchd.pid").write_text("77\n")
        server.listen()
        server.settimeout(20)
        one.send(protocol.Purge(token=1))
        conn, _ = server.accept()
        with conn:
            requests = unixctl.Reader().feed(conn.recv(4096))
            methods = ["revalidator/pause", "revalidator/purge", "revalidator/resume"]
            assert [request["method"] for request in requests] == methods
            assert one.quiet(0.2)
            for request in requests:
                answer = {"id": request["id"], "result": "", "error": None}
                conn.sendall(json.dumps(answer).encode())
            assert one.expect(protocol.Purged).token == 1


def test_a_full_mesh_of_many_ports_comes_up_and_stays_small(lab: Lab) -> None:
    names = [f"p{number:02}" for number in range(64)]
    switches = [lab.switch(name) for name in names]
    vnfs = {name: lab.vnf(name).attach() for name in names}
    for one, two in zip(switches, [*switches[1:], switches[0]], strict=True):
        one.want(two)
    for vnf in vnfs.values():
        vnf.accept_link()
        vnf.accept_link()
    for vnf in vnfs.values():
        vnf.await_update()
        vnf.await_update()
    assert len(lab.link_files()) == 64
    assert lab.daemon is not None
    status = Path(f"/proc/{lab.daemon.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])
    assert resident < 100 << 10, f"{resident} KiB resident with 64 ports"


def test_leftovers_of_a_killed_highwayd_are_cleared_away(idle_lab: Lab) -> None:
    lab = idle_lab
    broken = paths.REGION_DIRS[-1] / region.region_name(lab.tag, "link", "0" * 15 + "1")
    broken.write_bytes(bytes(8192))
    stale = lab.rundir / "ports" / "gone" / "sock"
    stale.parent.mkdir(parents=True)
    stale.touch()
    with LinkRegion.create(
        tag=lab.tag,
        link_id=2,
        names=("x", "y"),
        port_ids=(1, 2),
        n_queues=(1, 1),
        ring_size=64,
    ):
        pass
    lab.start()
    assert not broken.exists()
    assert not stale.exists()
    wait_for(lambda: not lab.link_files(), "the orphan is removed")
