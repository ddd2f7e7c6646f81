# SPDX-License-Identifier: Apache-2.0
"""highwayd, the host's driver and the VNFs' drivers are upgraded at different times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import BRIDGE, Scene, Vnf, becomes, eventually
from tests.system.variants import release

from ovs_highway import paths, shm
from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.variants import Release

FLOW: Final = "cookie=1,in_port=1,actions=2"


@pytest.fixture(scope="module")
def following() -> Release:
    """The next release: it accepts this one."""
    return release(1)


@pytest.fixture(scope="module")
def far() -> Release:
    """The one after the next: this one is too old for it."""
    return release(2)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A switch of one test's own."""
    with Sandbox() as switch:
        switch.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-fail-mode=standalone")
        yield switch


def vnf(scene: Scene, number: int, plugin: Path) -> Vnf:
    """Start a testpmd with some release's driver."""
    found = scene.use(
        Vnf(
            f"p{number}",
            vdevs=[f"net_highway0,port=p{number},idle=yield"],
            forward="rxonly",
            plugin=plugin,
            env=scene.sandbox.env,
        )
    )
    found.wait_link_up()
    found.start()
    return found


def restart_highwayd(scene: Scene, of: Release) -> None:
    """End highwayd and start that of a release."""
    scene.sandbox.stop_highwayd()
    scene.sandbox.daemon("highwayd").set_env(**of.env)
    scene.sandbox.start_highwayd()


def restart_switch(scene: Scene, of: Release) -> None:
    """End ovs-vswitchd and start it with the driver of a release."""
    sandbox = scene.sandbox
    extra = sandbox.vsctl("get", "Open_vSwitch", ".", "other_config:dpdk-extra").strip().strip('"')
    extra = extra.replace(str(sandbox.plugin), str(of.plugin))
    sandbox.stop_vswitchd()
    sandbox.vsctl("--no-wait", "set", "Open_vSwitch", ".", f'other_config:dpdk-extra="{extra}"')
    sandbox.start_vswitchd()
    eventually(lambda: (sandbox.rundir / f"{BRIDGE}.mgmt").exists(), "the bridge is back")
    scene.ofctl("del-flows")
    scene.add_flow(FLOW)


@pytest.mark.timeout(300)
def test_one_after_the_other_is_upgraded_under_traffic(
    sandbox: Sandbox, following: Release
) -> None:
    """The next release comes in the order highwayd, receiver, ovs-vswitchd, sender.

    Steps: a bypass of this release; restart highwayd, then p2's VNF, then ovs-vswitchd, then p1's
    VNF, each in the next release.
    Verify: the new highwayd adopts the link of the old one, and its traffic goes on; the new
    ovs-vswitchd adopts the regions, VNFs are not restarted; after each step the bypass is used,
    and all that is sent arrives and is counted.
    """
    with Scene(sandbox) as scene:
        scene.ports(2)
        assert sandbox.plugin is not None
        receiver, sender = vnf(scene, 2, sandbox.plugin), vnf(scene, 1, sandbox.plugin)
        scene.add_flow(FLOW)
        works(scene, sender, receiver)
        link, regions = scene.link(1, 2)["link_id"], scene.region_files("port-")

        sender.flood()
        restart_highwayd(scene, following)
        bypassed, normal = sender.bypassed(), sender.normal()
        eventually(lambda: sender.bypassed() > bypassed + 50_000, "the bypass goes on")
        becomes(lambda: scene.link(1, 2)["state"], "bypass", "the link")
        assert scene.link(1, 2)["link_id"] == link
        assert sender.normal() == normal
        sender.quiet()
        works(scene, sender, receiver)

        receiver.close()
        receiver = vnf(scene, 2, following.plugin)
        works(scene, sender, receiver)

        restart_switch(scene, following)
        works(scene, sender, receiver)
        assert scene.region_files("port-") == regions
        assert scene.log().count(" MiB adopted") == 2

        sender.close()
        sender = vnf(scene, 1, following.plugin)
        works(scene, sender, receiver)
        version = scene.region(1).vnf().abi_version
        assert version == following.version


def works(scene: Scene, sender: Vnf, receiver: Vnf) -> None:
    """The bypass is used, what is sent arrives, and OpenFlow counts it."""
    scene.bypass_on(sender)
    scene.revalidate()
    got, flow = receiver.received_all(), scene.flow(1)
    sent = sender.send(20)
    becomes(receiver.received, got + sent, "the receiver")
    scene.flow_becomes(1, flow + sent)


def test_a_vnf_that_is_too_old_keeps_its_normal_channel(far: Release, following: Release) -> None:
    """highwayd is two releases ahead of a VNF; the switch fits both.

    Steps: a switch of the next release, highwayd of the one after it, p1's VNF of this release.
    Verify: no link, and highwayd's log, the VNF's log and `highway links` say why; what p1 sends
    arrives through the switch.
    """
    with Sandbox(plugin=following.plugin) as sandbox, Scene(sandbox) as scene:
        restart_highwayd(scene, far)
        scene.ports(2)
        receiver = vnf(scene, 2, following.plugin)
        sender = vnf(scene, 1, paths.plugin())
        scene.add_flow(FLOW)
        sender.send(5)
        becomes(receiver.received, sender.sent(), "the receiver")
        assert sender.bypassed() == 0
        why = f"speaks ABI {shm.ABI_OLDEST} to {shm.ABI_VERSION}, highwayd {far.oldest} to"
        assert why in scene.log("highwayd")
        assert why in sender.log.read_text(errors="replace") + sender.output
        eventually(lambda: why in scene.link(1, 2).get("reason", ""), "the link's reason")


def test_a_switch_that_is_too_old_is_refused_on_both_sides(sandbox: Sandbox, far: Release) -> None:
    """highwayd is two releases ahead of the switch.

    Steps: two ports with VNFs and a bypass; restart highwayd in a release that is too new.
    Verify: both logs say why; the bypass goes on as without highwayd.
    """
    with Scene(sandbox) as scene:
        scene.ports(2)
        receiver, sender = scene.vnf(2), scene.vnf(1)
        scene.add_flow(FLOW)
        works(scene, sender, receiver)
        restart_highwayd(scene, far)
        why = f"speaks ABI {shm.ABI_OLDEST} to {shm.ABI_VERSION}, highwayd {far.oldest} to"
        eventually(lambda: why in scene.log("highwayd"), "highwayd says why")
        eventually(lambda: "highwayd refuses it: port p1: ovs-vswitchd" in scene.log(), "OVS too")
        sent, got = sender.sent(), receiver.received_all()
        sender.send(10)
        becomes(receiver.received, got + (sender.sent() - sent), "the receiver")
