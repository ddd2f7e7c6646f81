# SPDX-License-Identifier: Apache-2.0
"""`highway doctor`: judge whether this machine can run the highway, and say what to do."""

from __future__ import annotations

import enum
import itertools
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.table import Table

from ovs_highway.agent.policy import way_verdict
from ovs_highway.cli.facts import gather

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ovs_highway.cli.facts import Facts, Switch

# Of 2 MiB: OVS's default memory, eight ports and a VNF.
HUGE_NEEDED: Final = 512


class Level(enum.StrEnum):
    """How a check came out; only `FAIL` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: what was found, and what to do unless it is in order."""

    name: str
    level: Level
    found: str
    advice: str = ""


def judge(facts: Facts) -> list[Check]:
    """Judge what was found out about a machine."""
    return [
        *_permissions(facts),
        *_regions(facts),
        *_huge_pages(facts),
        *_versions(facts),
        *_driver(facts),
        *_switch(facts),
        *_highwayd(facts),
        *_links(facts),
    ]


def _permissions(facts: Facts) -> Iterator[Check]:
    if facts.root:
        yield _ok("permissions", "root")
    else:
        yield _fail(
            "permissions", "not root", "run as root: huge pages and the switch's sockets need it"
        )


def _regions(facts: Facts) -> Iterator[Check]:
    if facts.lengths_fixed:
        yield _ok("regions", "VNFs cannot cut them short (Landlock)")
    else:
        yield _warn(
            "regions",
            "a hostile VNF may cut them short: no Landlock of ABI 3",
            "Linux 6.2 or later, with 'landlock' in /sys/kernel/security/lsm;"
            " docs/security.md says what else helps",
        )


def _huge_pages(facts: Facts) -> Iterator[Check]:
    found = f"{facts.huge_total} of 2 MiB, {facts.huge_free} free"
    advice = "sysctl vm.nr_hugepages=1536"
    if facts.huge_total == 0:
        yield _fail("huge pages", "none of 2 MiB", advice)
    elif facts.huge_total < HUGE_NEEDED:
        yield _warn("huge pages", found, f"{advice} (switch and VNFs want {HUGE_NEEDED} or more)")
    elif facts.huge_free == 0:
        yield _warn("huge pages", found, f"{advice}, or end a program that holds them")
    else:
        yield _ok("huge pages", found)
    if facts.huge_mount is None:
        yield _fail(
            "hugetlbfs", "not mounted", "mount -t hugetlbfs -o pagesize=2M hugetlbfs /dev/hugepages"
        )
    else:
        yield _ok("hugetlbfs", facts.huge_mount)


def _versions(facts: Facts) -> Iterator[Check]:
    if facts.dpdk_version:
        yield _ok("DPDK", facts.dpdk_version)
    else:
        yield _fail("DPDK", "not installed", "apt-get install dpdk openvswitch-switch-dpdk")
    if facts.vswitchd is not None:
        yield _ok("Open vSwitch", f"{facts.vswitchd_version}, with DPDK: {facts.vswitchd}")
    else:
        yield _fail(
            "Open vSwitch", "no ovs-vswitchd with DPDK", "apt-get install openvswitch-switch-dpdk"
        )


def _driver(facts: Facts) -> Iterator[Check]:
    driver = facts.driver
    if driver is None:
        yield _fail("driver", "not built, not installed", "run 'make install' in the source tree")
        return
    if driver.error:
        advice = "run 'make clean build'"
        if facts.installed == driver.path:
            advice = f"remove {driver.path} at once: no DPDK program starts with it"
        yield _fail("driver", f"{driver.path} does not load: {driver.error}", advice)
    elif driver.built_for != driver.runs_with:
        yield _fail(
            "driver",
            f"{driver.path} is for DPDK {driver.built_for}, installed is {driver.runs_with}",
            "run 'make clean install' in the source tree",
        )
    else:
        yield _ok("driver", f"{driver.path} for DPDK {driver.built_for}")
    if facts.installed is not None:
        yield _ok("plugin folder", str(facts.installed))
    elif facts.switch is not None and _names_driver(facts.switch):
        yield _ok("plugin folder", "not installed; the switch loads the driver by its dpdk-extra")
    else:
        yield _warn(
            "plugin folder",
            "the driver is not installed",
            "run 'make install', or give DPDK programs '-d' with its file",
        )


def _names_driver(switch: Switch) -> bool:
    return "librte_net_highway" in switch.other_config.get("dpdk-extra", "")


def _switch(facts: Facts) -> Iterator[Check]:
    switch = facts.switch
    if switch is None:
        yield _warn(
            "switch",
            f"no Open vSwitch answers in {facts.ovs_rundir}",
            "start it, set OVS_RUNDIR, or try 'highway sandbox'",
        )
        return
    config = switch.other_config
    version = f"OVS {switch.version or facts.vswitchd_version}"
    if not switch.dpdk_initialized:
        advice = "ovs-vsctl set Open_vSwitch . other_config:dpdk-init=true, and restart OVS"
        if config.get("dpdk-init", "false") in ("true", "try"):
            advice = "see ovs-vswitchd.log, and restart OVS"
        yield _fail("switch", f"{version}: DPDK is not initialised", advice)
    elif switch.dpdk_version and switch.dpdk_version != facts.dpdk_version:
        yield _warn(
            "switch",
            f"{version} runs DPDK {switch.dpdk_version}, not {facts.dpdk_version}",
            "restart OVS after updates of DPDK",
        )
    else:
        yield _ok("switch", f"{version}, DPDK {switch.dpdk_version}")
    yield from _options(switch)


def _options(switch: Switch) -> Iterator[Check]:
    config = switch.other_config
    if config.get("hw-offload") == "true":
        yield _ok("hw-offload", "true")
    else:
        yield _warn(
            "hw-offload",
            config.get("hw-offload", "not set"),
            "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true, and restart OVS",
        )
    if "--no-pci" in config.get("dpdk-extra", "").split():
        yield _ok("dpdk-extra", config["dpdk-extra"])
    else:
        yield _warn(
            "dpdk-extra",
            config.get("dpdk-extra", "not set"),
            "add --no-pci unless OVS is to take network cards, and restart OVS",
        )
    if "pmd-cpu-mask" in config:
        yield _ok("pmd-cpu-mask", config["pmd-cpu-mask"])
    else:
        yield _warn(
            "pmd-cpu-mask",
            "not set: one core per NUMA node",
            "ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask=0x2, for instance",
        )


def _highwayd(facts: Facts) -> Iterator[Check]:
    if facts.highwayd:
        yield _ok("highwayd", f"running in {facts.rundir}")
    else:
        yield _warn("highwayd", f"not running in {facts.rundir}", "start highwayd")


def _links(facts: Facts) -> Iterator[Check]:
    """May any two ports have a link that is not proven to be point-to-point?"""
    pairs = list(itertools.combinations(facts.terms, 2))
    verdicts = [way_verdict(one, other) for one, other in pairs]
    allowed = sum(verdict.allowed for verdict in verdicts)
    if allowed:
        yield _ok("links", f"allowed for {allowed} of {len(pairs)} pairs of ports")
    elif pairs:
        yield _warn(
            "links",
            f"allowed for no pair of the {len(facts.terms)} ports, but where all that a port sends"
            f" goes to one other port: {verdicts[0].reason}",
            "ovs-vsctl set Interface PORT external_ids:highway-trust=LABEL, the same for ports that"
            " trust each other; or set Open_vSwitch . external_ids:highway-mode=checked",
        )


def _ok(name: str, found: str) -> Check:
    return Check(name=name, level=Level.OK, found=found)


def _warn(name: str, found: str, advice: str) -> Check:
    return Check(name=name, level=Level.WARN, found=found, advice=advice)


def _fail(name: str, found: str, advice: str) -> Check:
    return Check(name=name, level=Level.FAIL, found=found, advice=advice)


def worst(checks: Sequence[Check]) -> Level:
    """Return the worst level of all checks."""
    order = list(Level)
    return max((check.level for check in checks), key=order.index, default=Level.OK)


@click.command("doctor", short_help="Check the machine, the driver and the switch.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print.",
)
@click.pass_context
def doctor(ctx: click.Context, form: str) -> None:
    """Check huge pages, driver, versions, Open vSwitch's options and permissions.

    The exit status is 0 unless a check fails; warnings do not count.
    """
    checks = judge(gather())
    result = worst(checks)
    if form == "json":
        report = {"status": result, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(report, indent=2))
    elif sys.stdout.isatty():
        _print_table(checks)
    else:
        for check in checks:
            advice = f" -- {check.advice}" if check.advice else ""
            click.echo(f"{check.level:<4}  {check.name}: {check.found}{advice}")
    ctx.exit(1 if result is Level.FAIL else 0)


def _print_table(checks: Sequence[Check]) -> None:
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    table = Table("", "check", "found", "what to do", box=None, pad_edge=False)
    for check in checks:
        level = f"[{colours[check.level]}]{check.level}[/]"
        table.add_row(level, check.name, check.found, check.advice)
    Console(highlight=False).print(table)


def register(group: click.Group) -> None:
    """Add the command to a group."""
    group.add_command(doctor)
