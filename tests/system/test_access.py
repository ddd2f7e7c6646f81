# SPDX-License-Identifier: Apache-2.0
"""What an unprivileged user gets at, in namespaces of its own: its own port, and nothing else.

The threat model is docs/security.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.system.hostile import Scribbler
from tests.system.scene import Vnf, becomes, eventually

from ovs_highway import paths, protocol, shm, unixctl
from ovs_highway.lab.stand_in import FakeVnf
from ovs_highway.shm import Role, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.scene import Scene

    from ovs_highway.lab import Sandbox

NOBODY: Final = 65534
TENANT, OTHER, MEMBER, GROUP = 47001, 47002, 47003, 47100
PROGRAM: Final = Path(__file__).with_name("access") / "stranger.py"
UNPRIVILEGED: Final = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
LINES: Final = 80
"""Of a log, that whoever may do what he likes may cause within seconds."""


@pytest.fixture(autouse=True)
def _passable(sandbox: Sandbox) -> None:
    """Have the run directory as open as the default one: strangers are to get as far as sockets."""
    sandbox.rundir.chmod(0o711)


def user(uid: int, *groups: int) -> list[str]:
    """Return what runs a program as a user without any privilege."""
    others = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", others, *UNPRIVILEGED]


def begin(uid: int, task: str, *arguments: object, groups: tuple[int, ...] = ()) -> Any:  # noqa: ANN401 - a Popen of text
    """Start a task of `stranger.py` as a user, in namespaces of its own."""
    python = os.path.realpath(sys.executable)
    own = [] if uid == 0 else ["unshare", "--mount", "--net", "--ipc", *user(uid, *groups)]
    words = [word if isinstance(word, str) else json.dumps(word) for word in arguments]
    child = subprocess.Popen(
        [*own, python, "-", task, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert child.stdin is not None
    child.stdin.write(PROGRAM.read_text())
    child.stdin.close()
    return child


def result(child: Any) -> Any:  # noqa: ANN401 - JSON
    """Return what a task returns."""
    with child:
        said = child.stdout.read()
    assert child.returncode == 0
    return json.loads(said)


def stranger(uid: int, task: str, *arguments: object, groups: tuple[int, ...] = ()) -> Any:  # noqa: ANN401 - JSON
    """Run a task of `stranger.py`."""
    return result(begin(uid, task, *arguments, groups=groups))


def hello(port: str, token: bytes = b"") -> str:
    """Return a VNF's greeting."""
    message = protocol.Hello(role=Role.VNF, name=port, epoch=7, driver="test", token=token)
    return protocol.encode(message).hex()


def answer(said: dict[str, Any]) -> tuple[Status, str] | str:
    """Return how highwayd has answered a greeting."""
    if "answer" not in said:
        return str(said["error"])
    (message,) = protocol.Decoder().feed(bytes.fromhex(said["answer"]))
    assert isinstance(message, protocol.Welcome)
    return message.status, message.text


def given(scene: Scene, port: str, **settings: object) -> None:
    """Set `external_ids` of a port, and wait until highwayd has given its socket away."""
    path = paths.vnf_socket(port, scene.sandbox.rundir)
    words = [
        f"external_ids:highway-{key.replace('_', '-')}={value}" for key, value in settings.items()
    ]
    scene.sandbox.vsctl("set", "Interface", port, *words)
    wanted = (settings.get("user", 0), settings.get("group", 0))
    becomes(lambda: (path.stat().st_uid, path.stat().st_gid), wanted, f"the owner of {path}")


def test_a_stranger_gets_at_nothing(scene: Scene) -> None:
    """Somebody on the host, or in a container that shows too much, without any privilege.

    Steps: two ports, a link, two VNFs as root; as `nobody` connect to every socket; open, truncate
    and remove each region file; list and write the directories; open the descriptors and the memory
    of highwayd, ovs-vswitchd and the VNFs.
    Verify: nothing works.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    rundir = scene.sandbox.rundir
    sockets = [str(path) for path in rundir.rglob("*") if path.is_socket()]
    assert {"switch.sock", "highwayd.ctl", "sock"} <= {Path(path).name for path in sockets}
    regions = [str(path) for path in scene.region_files()]
    assert len(regions) == 3
    files = [*regions, str(rundir / "highwayd.pid"), str(rundir / "events.jsonl")]
    pids = [scene.sandbox.daemon(name).pid for name in ("highwayd", "ovs-vswitchd")]
    pids += [receiver.pid, sender.pid]
    folders = [str(rundir), str(rundir / "ports")]
    assert stranger(NOBODY, "reach", sockets, files, folders, pids) == []
    assert "connect" in str(stranger(0, "reach", sockets[:1], [], [], []))  # it can tell


def test_a_port_is_for_its_user_or_group(scene: Scene) -> None:
    """`highway-user` and `highway-group`, by the socket's mode and by the peer's credentials.

    Steps: p1 is for a user, p2 for a group, p3 for nobody in particular; greet at each as that
    user, another one, a member of the group, and root; then give p1 to somebody else while its user
    is attached; then to a user that does not exist.
    Verify: whom a port is for gets its region, which it cannot cut short, open again or open to
    others; all others are kept out by the kernel, or are refused with a reason; who has lost a port
    is cut off, and highwayd says so.
    """
    scene.ports(3)
    given(scene, "p1", user=TENANT)
    given(scene, "p2", group=GROUP)
    rundir = scene.sandbox.rundir
    expected: dict[tuple[int, tuple[int, ...], str], object] = {
        (TENANT, (), "p1"): Status.OK,
        (OTHER, (), "p1"): "Permission denied",
        (0, (), "p1"): f"uid 0 may not: it is for highway-user {TENANT}",
        (MEMBER, (GROUP,), "p2"): Status.OK,
        (OTHER, (), "p2"): "Permission denied",
        (TENANT, (), "p2"): "Permission denied",
        (TENANT, (GROUP,), "p3"): "Permission denied",
        (0, (), "p3"): Status.OK,
    }
    for (uid, groups, port), what in expected.items():
        path = paths.vnf_socket(port, rundir)
        eventually(lambda port=port: not attached(scene, port), f"{port} is free")  # type: ignore[misc]
        said = stranger(uid, "attach", str(path), hello(port), groups=groups)
        found = answer(said)
        if what is Status.OK:
            assert (found[0], said["regions"]) == (Status.OK, 1), (uid, port, found)
            assert said["worked"] == [] or uid == 0, (uid, port)
            assert "truncate" not in said["worked"]
        elif isinstance(found, str):
            assert found == what, (uid, port)
        else:
            assert found[0] is Status.REFUSED
            assert str(what) in found[1]
            assert str(what) in scene.log("highwayd")
    eventually(lambda: not attached(scene, "p1"), "p1 is free")
    child = begin(TENANT, "flood", str(paths.vnf_socket("p1", rundir)), hello("p1"), "", "60")
    eventually(lambda: attached(scene, "p1"), "the tenant is attached")
    given(scene, "p1", user=OTHER)
    eventually(lambda: not attached(scene, "p1"), "the tenant is cut off")
    with child:
        child.kill()
    assert f"is cut off: uid {TENANT} may not: it is for highway-user {OTHER}" in scene.log(
        "highwayd"
    )
    scene.sandbox.vsctl("set", "Interface", "p1", "external_ids:highway-user=no-such-user")
    eventually(
        lambda: "highway-user=no-such-user is unknown here; nobody may" in scene.log("highwayd"),
        "highwayd complains",
    )
    said = stranger(0, "attach", str(paths.vnf_socket("p1", rundir)), hello("p1"))
    assert answer(said)[0] is Status.REFUSED
    given(scene, "p1", user=TENANT)


def attached(scene: Scene, port: str) -> bool:
    """Tell whether a VNF is at a port."""
    control = paths.control_socket(scene.sandbox.rundir)
    ports = json.loads(unixctl.call(control, "highway/show"))["ports"]
    return any(one["name"] == port and one["vnf_pid"] for one in ports)


@contextlib.contextmanager
def unprivileged(scene: Scene, uid: int, token_file: Path) -> Iterator[Vnf]:
    """Start a testpmd at p1 as a user who has nothing but its port's socket and a token."""
    home = scene.sandbox.rundir / f"home-{uid}"
    home.mkdir()
    plugin = scene.sandbox.plugin
    assert plugin is not None
    # The source tree may be root's alone.
    shutil.copy(plugin, home)
    os.chown(home, uid, uid)
    vnf = Vnf(
        f"p1-{uid}",
        vdevs=[f"net_highway0,port=p1,idle=yield,token-file={token_file}"],
        forward="rxonly",
        env={**scene.sandbox.env, "XDG_RUNTIME_DIR": str(home)},
        plugin=home / plugin.name,
    )
    vnf.command_line[:0] = user(uid)
    with vnf:
        yield vnf


def test_an_unprivileged_vnf_with_a_token_has_a_bypass(scene: Scene) -> None:
    """The least rights that an unmodified DPDK program needs, and a secret besides.

    Steps: p1 is for a user who has to show a token; a testpmd of that user with a wrong one, then
    with the right one, which sends to p2; highwayd is killed and started anew.
    Verify: the first stays down, and both ends say why, without the token; the second is up, takes
    the bypass, and holds no capability; the new highwayd lets it in again and adopts its link.
    """
    scene.ports(2)
    secret = scene.sandbox.rundir / "token"
    secret.write_text("a wrong secret, and a long one\n")
    os.chown(secret, TENANT, TENANT)
    secret.chmod(0o400)
    right = b"the right secret, also long\n"
    given(scene, "p1", user=TENANT, token_sha256=hashlib.sha256(right).hexdigest())
    receiver = scene.vnf(2)
    scene.add_flow("in_port=1,actions=2")
    with unprivileged(scene, TENANT, secret) as vnf:
        eventually(lambda: "a wrong token: highway-token-sha256 is set" in vnf.output, "it is told")
        assert not vnf.link_status()
        assert "a wrong token" in scene.log("highwayd")
        assert "secret" not in scene.log("highwayd")
        secret.write_bytes(right)
        vnf.wait_link_up()  # it looks into the file again
        vnf.start()
        scene.bypass_on(vnf)
        status = Path(f"/proc/{vnf.pid}/status").read_text()
        assert re.search(r"CapEff:\s+0+\n", status), status
        assert re.search(rf"Uid:\s+{TENANT}\s", status), status
        becomes(receiver.received, vnf.sent(), "what p2 has received")
        (link,) = scene.region_files("link-")
        scene.sandbox.kill_highwayd()
        scene.sandbox.start_highwayd()

        def adopted() -> bool:
            control = paths.control_socket(scene.sandbox.rundir)
            found = json.loads(unixctl.call(control, "highway/links"))["links"]
            return any(one["phase"] == "active" and link.name.endswith(one["id"]) for one in found)

        eventually(adopted, "the link is adopted")
        scene.bypass_on(vnf)


def highwayd_has(scene: Scene) -> tuple[int, int]:
    """Return highwayd's open descriptors, and the lines of its log and of its events."""
    pid = scene.sandbox.daemon("highwayd").pid
    events = paths.events_file(scene.sandbox.rundir).read_text()
    lines = scene.log("highwayd").count("\n") + events.count("\n")
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), lines


LINK_ADDED: Final = protocol.encode(protocol.LinkAdded(link_id=99)).hex()
HALF: Final = LINK_ADDED[:200]
LOG: Final = protocol.encode(protocol.Log(level=4, text="x" * 200)).hex()
FLOODS: Final[dict[str, tuple[Callable[[str], tuple[str, ...]], str]]] = {
    "connections": (lambda s: ("silent", s, "60"), "there are 16 connections already"),
    "half-messages": (
        lambda s: ("half", s, hello("p1") + HALF),
        "did not end a message within 5 s",
    ),
    "noise": (lambda s: ("half", s, "ab" * 9000), "bytes that are no control message"),
    "descriptors": (lambda s: ("descriptors", s, HALF), "more file descriptors than any message"),
    "messages": (
        lambda s: ("flood", s, hello("p1"), LINK_ADDED, "3"),
        "sends more than 500 messages a second",
    ),
    "lines": (lambda s: ("flood", s, hello("p1"), LOG, "3"), "xxxxx"),
    "restarts": (lambda s: ("come_and_go", s, hello("p1"), "4"), "come and go too often"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_vnf_cannot_exhaust_highwayd(scene: Scene, name: str) -> None:
    """All that a VNF can have much of, at its own port.

    Steps: the user whose p1 is opens many connections, begins messages and does not end them, sends
    noise, descriptors, messages or lines for the log without reading an answer, comes and goes;
    meanwhile another VNF comes to p2.
    Verify: p2's is let in and served; highwayd says what is wrong; afterwards it is the same
    process, has no descriptor more than before, and p1's user is let in again; log and record of
    events have grown by some lines only.
    """
    scene.ports(2)
    given(scene, "p1", user=TENANT)
    make, said = FLOODS[name]
    socket = str(paths.vnf_socket("p1", scene.sandbox.rundir))
    pid = scene.sandbox.daemon("highwayd").pid
    stranger(TENANT, "attach", socket, hello("p1"))
    eventually(lambda: not attached(scene, "p1"), "p1 is free")
    start = len(scene.log("highwayd"))
    descriptors, lines = highwayd_has(scene)
    child = begin(TENANT, *make(socket))
    eventually(lambda: said in scene.log("highwayd")[start:], f"highwayd says '{said}'")
    vnf = FakeVnf(scene.sandbox.rundir, "p2")
    vnf.attach()
    assert attached(scene, "p2")
    vnf.close()
    what = result(child)
    assert what != "still open"
    eventually(lambda: highwayd_has(scene)[0] <= descriptors, "descriptors are closed")

    def let_in() -> bool:
        return answer(stranger(TENANT, "attach", socket, hello("p1")))[0] is Status.OK

    eventually(let_in, "p1's user is let in again")
    assert highwayd_has(scene)[1] - lines < LINES, scene.log("highwayd")[start:]
    assert scene.sandbox.daemon("highwayd").pid == pid
    assert "Traceback" not in scene.log("highwayd")


def test_files_of_others_are_no_regions(scene: Scene) -> None:
    """Everybody may put files into /dev/shm, and region files have names that can be foreseen.

    Steps: as the region of a port that does not exist put a copy of another one's, owned by a user,
    and a link to such a copy; start highwayd anew.
    Verify: it takes up neither, and says why.
    """
    scene.ports(1)
    with scene.region(1) as region:
        content = bytes(shm.ffi.buffer(region.raw, region.size)).replace(b"p1", b"p8", 1)
    tag = paths.region_tag(scene.sandbox.rundir)
    planted = Path("/dev/shm") / f"ovs-highway-{tag}-port-p8"
    link = planted.with_name(f"ovs-highway-{tag}-port-p9")
    try:
        planted.write_bytes(content)
        os.chown(planted, TENANT, TENANT)
        link.symlink_to(planted)
        scene.sandbox.restart_highwayd()
        log = scene.log("highwayd")
        assert f"ignored: region {planted} is a file of uid {TENANT}; remove it" in log
        assert f"ignored: region {link} cannot be opened" in log
        shown = unixctl.call(paths.control_socket(scene.sandbox.rundir), "highway/show")
        names = {one["name"] for one in json.loads(shown)["ports"]}
        assert "p1" in names
        assert names.isdisjoint({"p8", "p9"})
    finally:
        planted.unlink()
        link.unlink()


@contextlib.contextmanager
def highwayd_with(scene: Scene, capabilities: str) -> Iterator[None]:
    """Have highwayd started with these, as in `setpriv --bounding-set`; empty: as ours."""
    daemon, sandbox = scene.sandbox.daemon("highwayd"), scene.sandbox
    command = list(daemon.command)
    less = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    try:
        sandbox.stop_highwayd()
        daemon.command[:0] = less if capabilities else []
        sandbox.start_highwayd()
        yield
    finally:
        sandbox.stop_highwayd()
        daemon.command[:] = command
        sandbox.start_highwayd()


NO_CAPABILITIES, CHOWN_ONLY, BOTH = 0, 1, 3


@pytest.mark.parametrize(
    ("capabilities", "kept"),
    [("-all", NO_CAPABILITIES), ("-all,+chown", CHOWN_ONLY), ("", BOTH)],
)
def test_highwayd_needs_no_more_than_two_capabilities(
    scene: Scene, capabilities: str, kept: int
) -> None:
    """The privileges that docs/security.md names.

    Steps: start highwayd with no capability, with CAP_CHOWN, and with all; add ports, VNFs and a
    rule, give one port to a user; delete a port.
    Verify: it keeps CAP_CHOWN and CAP_DAC_OVERRIDE at most; with none at all there is a bypass, and
    the region of a port that is deleted goes; without CAP_CHOWN only giving a socket away fails,
    with a line that names what is missing.
    """
    with highwayd_with(scene, capabilities):
        scene.ports(3)
        pid = scene.sandbox.daemon("highwayd").pid
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            found = dict(line.split(":\t") for line in status.read_text().splitlines()[:60])
            held = [int(found[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapInh")]
            assert held == [kept, kept, kept, 0]
            assert found["NoNewPrivs"] == "1"
        _, sender = scene.vnf(2), scene.vnf(1)
        scene.add_flow("in_port=1,actions=2")
        scene.bypass_on(sender)
        start = len(scene.log("highwayd"))
        if kept:
            given(scene, "p3", user=TENANT)
            socket = paths.vnf_socket("p3", scene.sandbox.rundir)
            assert answer(stranger(TENANT, "attach", str(socket), hello("p3")))[0] is Status.OK
        else:
            scene.sandbox.vsctl("set", "Interface", "p3", f"external_ids:highway-user={TENANT}")
            eventually(
                lambda: "highwayd needs CAP_CHOWN" in scene.log("highwayd")[start:],
                "highwayd says what it lacks",
            )
        scene.sandbox.del_port("br0", "p3")
        eventually(lambda: not scene.region_files("port-p3"), "the region of p3 is gone")


def test_new_regions_are_clean(scene: Scene) -> None:
    """What one VNF has left in memory is not shown to the next.

    Steps: fill the whole regions of a port and of its link with a pattern; delete the port and add
    it again, so that huge pages change hands; let a link be made anew.
    Verify: the new regions have the pattern nowhere.
    """
    pattern = bytes(range(1, 251))

    def write(path: Path) -> int:
        with Scribbler(path) as region:
            whole = pattern * (region.size // len(pattern))
            region.memory[: len(whole)] = whole
            return region.size

    def link_files() -> list[Path]:
        return scene.region_files("link-")

    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.close()
    receiver.close()
    old = [*scene.region_files("port-"), *link_files()]
    inodes = {path.stat().st_ino for path in old}
    assert len(old) >= 2
    for path in old:
        write(path)
    scene.sandbox.vsctl("del-port", "p1", "--", "del-port", "p2")
    eventually(lambda: not scene.region_files(), "all regions are gone")
    scene.ports(2)
    scene.add_flow("in_port=1,actions=2")
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.bypass_on(sender)
    new = scene.region_files()
    assert len(new) == 3
    assert inodes.isdisjoint(path.stat().st_ino for path in new)
    for path in new:
        with Scribbler(path) as region:
            assert region.memory.find(pattern[100:110]) < 0, path
