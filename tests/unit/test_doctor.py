# SPDX-License-Identifier: Apache-2.0
"""The doctor's judgement of faked machines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ovs_highway.agent.policy import Mode, Terms
from ovs_highway.cli import doctor as module
from ovs_highway.cli import facts, main
from ovs_highway.cli.doctor import Check, Level, judge, worst
from ovs_highway.cli.facts import Driver, Facts, Switch
from ovs_highway.view import AgentView

PLUGIN = Path("/usr/lib/dpdk/pmds-23.0/librte_net_highway.so")
SWITCH = Switch(
    version="3.1.0",
    dpdk_version="22.11.11",
    dpdk_initialized=True,
    other_config={
        "dpdk-init": "true",
        "hw-offload": "true",
        "pmd-cpu-mask": "0x2",
        "dpdk-extra": "--no-pci",
    },
)
HEALTHY = Facts(
    root=True,
    lengths_fixed=True,
    huge_total=1536,
    huge_free=1000,
    huge_mount="/dev/hugepages",
    driver=Driver(path=PLUGIN, built_for="22.11.11", runs_with="22.11.11"),
    installed=PLUGIN,
    dpdk_version="22.11.11",
    vswitchd=Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"),
    vswitchd_version="3.1.0",
    ovs_rundir=Path("/var/run/openvswitch"),
    switch=SWITCH,
    highwayd=True,
    rundir=Path("/run/ovs-highway"),
    terms=(Terms(port="a", trust="x"), Terms(port="b", trust="x"), Terms(port="c")),
)


def check(name: str, **changes: Any) -> Check:  # noqa: ANN401 - fields of any type
    found = judge(dataclasses.replace(HEALTHY, **changes))
    return next(check for check in found if check.name == name)


def configured(**changes: str) -> Switch:
    config = {**SWITCH.other_config, **{k.replace("_", "-"): v for k, v in changes.items()}}
    return dataclasses.replace(SWITCH, other_config={k: v for k, v in config.items() if v})


def test_a_healthy_machine_passes_without_advice() -> None:
    checks = judge(HEALTHY)
    assert worst(checks) is Level.OK
    assert not any(check.advice for check in checks)


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("permissions", Level.FAIL, {"root": False}),
        ("regions", Level.WARN, {"lengths_fixed": False}),
        ("huge pages", Level.FAIL, {"huge_total": 0, "huge_free": 0}),
        ("huge pages", Level.WARN, {"huge_total": 100}),
        ("huge pages", Level.WARN, {"huge_free": 0}),
        ("hugetlbfs", Level.FAIL, {"huge_mount": None}),
        ("DPDK", Level.FAIL, {"dpdk_version": ""}),
        ("Open vSwitch", Level.FAIL, {"vswitchd": None}),
        ("driver", Level.FAIL, {"driver": None}),
        ("plugin folder", Level.WARN, {"installed": None}),
        ("switch", Level.WARN, {"switch": None}),
        ("switch", Level.FAIL, {"switch": dataclasses.replace(SWITCH, dpdk_initialized=False)}),
        ("switch", Level.WARN, {"switch": dataclasses.replace(SWITCH, dpdk_version="22.11.3")}),
        ("hw-offload", Level.WARN, {"switch": configured(hw_offload="")}),
        ("dpdk-extra", Level.WARN, {"switch": configured(dpdk_extra="--in-memory")}),
        ("pmd-cpu-mask", Level.WARN, {"switch": configured(pmd_cpu_mask="")}),
        ("highwayd", Level.WARN, {"highwayd": False}),
        ("links", Level.WARN, {"terms": (Terms(port="a"), Terms(port="b", trust="x"))}),
    ],
)
def test_each_fault_is_found_with_something_to_do(
    name: str, level: Level, changes: dict[str, Any]
) -> None:
    found = check(name, **changes)
    assert found.level is level
    assert found.advice


def test_it_counts_the_pairs_that_may_have_a_link() -> None:
    assert check("links").found == "allowed for 1 of 3 pairs of ports"
    names = [found.name for found in judge(dataclasses.replace(HEALTHY, terms=HEALTHY.terms[:1]))]
    assert "links" not in names
    shown: dict[str, dict[str, Any]] = {
        "a": {"mode": "checked", "trust": ""},
        "b": {"mode": None, "trust": None},
        "c": {"mode": "auto", "trust": "x"},
    }
    assert facts.link_terms(AgentView(running=True, ports=shown)) == (
        Terms(port="a", mode=Mode.CHECKED),
        Terms(port="c", trust="x"),
    )


def test_a_driver_for_another_dpdk_fails() -> None:
    driver = Driver(path=PLUGIN, built_for="22.11.7", runs_with="22.11.11")
    found = check("driver", driver=driver)
    assert found.level is Level.FAIL
    assert "22.11.7" in found.found
    assert "22.11.11" in found.found


def test_an_installed_driver_that_does_not_load_must_go_at_once() -> None:
    found = check("driver", driver=Driver(path=PLUGIN, error="undefined symbol: x"))
    assert found.level is Level.FAIL
    assert f"remove {PLUGIN}" in found.advice


def test_a_driver_loaded_by_option_need_not_be_installed() -> None:
    switch = configured(dpdk_extra="--no-pci -d /root/build/librte_net_highway.so")
    assert check("plugin folder", installed=None, switch=switch).level is Level.OK


def test_ovs_vsctl_maps_are_read() -> None:
    text = r'{dpdk-extra="--no-pci -d /a,b=c \"q\"", dpdk-init="true", max-idle=500}'
    assert facts.map_column(text) == {
        "dpdk-extra": '--no-pci -d /a,b=c "q"',
        "dpdk-init": "true",
        "max-idle": "500",
    }
    assert facts.map_column("{}") == {}


def test_the_mount_of_2_mib_pages_is_found() -> None:
    giant = "none /mnt/huge1G hugetlbfs rw,pagesize=1024M 0 0\n"
    small = "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n"
    assert facts.huge_mount(giant) is None
    assert facts.huge_mount(giant + small) == "/dev/hugepages"


def test_json_has_every_check_and_the_status_follows_the_worst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "gather", lambda: HEALTHY)
    result = CliRunner().invoke(main, ["doctor", "--format", "json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["status"] == "ok"
    assert len(report["checks"]) == len(judge(HEALTHY))
    monkeypatch.setattr(module, "gather", lambda: dataclasses.replace(HEALTHY, driver=None))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "fail  driver: not built" in result.stdout


def test_a_file_that_is_no_library_is_reported_not_raised(tmp_path: Path) -> None:
    plugin = tmp_path / "x.so"
    plugin.write_text("nonsense")
    assert facts.probe(plugin).error
