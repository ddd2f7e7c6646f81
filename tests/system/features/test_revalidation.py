# SPDX-License-Identifier: Apache-2.0
"""OVS forgets, relearns and revalidates its datapath flows: no packet and no count is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import becomes, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.features.trio import Trio

# What an operator can do to OVS's flow cache, how to take it back, and whether OVS offloads flows
# in between. After `dpctl/del-flows` it makes no datapath flow for the same packets again ("ukey
# installation fails") until it revalidates; without megaflows it does not offload at all.
COMMANDS: Final = {
    "del-flows": (("dpctl/del-flows",), ("revalidator/purge",), False),
    "purge": (("revalidator/purge",), ("revalidator/wait",), True),
    "megaflows": (("upcall/disable-megaflows",), ("upcall/enable-megaflows",), False),
    "ufid": (("upcall/disable-ufid",), ("upcall/enable-ufid",), True),
    "pause": (("revalidator/pause",), ("revalidator/resume",), True),
    "limit": (("upcall/set-flow-limit", "1"), ("upcall/set-flow-limit", "200000"), True),
}


@pytest.fixture
def switched(trio: Trio) -> Iterator[Trio]:
    """The three ports, with their bypasses allowed again at the end."""
    yield trio
    trio.scene.highway("on", "--all")


@pytest.mark.parametrize(
    "allowed", [True, pytest.param(False, marks=pytest.mark.long)], ids=["bypass", "normal"]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_change_of_the_flow_cache_loses_nothing(
    switched: Trio, name: str, *, allowed: bool
) -> None:
    """One command, with the bypass and without.

    Steps: send; let OVS look at its flows; give the command; send; take it back; send.
    Verify: all arrives and the flow counts all; where OVS does not offload in between, the bypass
    is off in between; it is on again in the end, if it is allowed.
    """
    trio, (change, back, offloads) = switched, COMMANDS[name]
    if not allowed:
        trio.scene.highway("off", "--all")
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    start, received = trio.one.sent(), trio.two.received_all()
    use = trio.scene.bypass_on if allowed else trio.scene.bypass_off
    use(trio.one)
    trio.scene.revalidate()

    trio.scene.sandbox.appctl(*change)
    passed = trio.pass_on()
    assert passed.two == passed.sent
    (use if offloads else trio.scene.bypass_off)(trio.one)
    if name == "del-flows":
        assert trio.scene.datapath_flows() == []

    trio.scene.sandbox.appctl(*back)
    passed = trio.pass_on()
    assert passed.two == passed.sent
    use(trio.one)
    becomes(lambda: trio.two.received() - received, trio.one.sent() - start, "received by p2")
    trio.scene.flow_becomes(1, trio.one.sent() - start)


def test_a_storm_of_purges_and_settings_under_load(trio: Trio) -> None:
    """Everything at once, again and again, while p1 floods.

    Steps: flood; 10 times: delete all datapath flows, purge, wait for the revalidators, and give
    max-idle, max-revalidator and the flow limit other values; stop.
    Verify: flow and port counters never run backwards; at the end what p1 sent is what the port
    shows, the receiver has all but what OVS dropped and counted, and the bypass is in use.
    """
    before = trio.one.sent()
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    sandbox = trio.scene.sandbox
    port, second = trio.scene.port(1).rx, trio.scene.port(2)
    start, received = trio.one.sent(), trio.two.received_all()
    shown, bypassed = trio.scene.flow(1), trio.one.bypassed()
    trio.one.flood()
    for number in range(10):
        sandbox.appctl("dpctl/del-flows")
        sandbox.appctl("revalidator/purge")
        sandbox.vsctl(
            *("--no-wait", "set", "Open_vSwitch", ".", f"other_config:max-idle={500 + number}"),
            f"other_config:max-revalidator={50 + 10 * number}",
        )
        sandbox.appctl("upcall/set-flow-limit", str(1 + number % 2 * 1000))
        sandbox.appctl("revalidator/wait")
        now = trio.scene.flow(1)
        assert shown.packets <= now.packets
        assert trio.scene.port(1).rx.packets >= port.packets
        shown = now
    trio.scene.sandbox.vsctl(
        *("set", "Open_vSwitch", ".", "other_config:max-idle=60000"),
        "other_config:max-revalidator=100",
    )
    sandbox.appctl("upcall/set-flow-limit", "200000")
    sent = trio.one.quiet() - start
    assert trio.one.bypassed() > bypassed
    becomes(lambda: trio.scene.port(1).rx - port, sent, "received from p1")
    got = settled(trio.two.received) - received
    dropped = trio.scene.port(2).tx_dropped - second.tx_dropped
    assert got == trio.scene.port(2).tx - second.tx
    assert got.packets + dropped == sent.packets
    assert trio.scene.flow(1).packets <= (trio.one.sent() - before).packets
    trio.bypass()
