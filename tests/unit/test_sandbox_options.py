# SPDX-License-Identifier: Apache-2.0
"""What a sandbox tells Open vSwitch, and what it refuses before it starts anything."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ovs_highway.cli import main, sandbox_cmd
from ovs_highway.errors import SetupError
from ovs_highway.lab import rundir
from ovs_highway.lab.sandbox import SandboxOptions, check_plugin


def parameter(name: str) -> click.Parameter:
    return next(param for param in sandbox_cmd.sandbox.params if param.name == name)


CONTEXT = click.Context(sandbox_cmd.sandbox)


def test_the_defaults_keep_off_network_cards_and_take_the_last_core() -> None:
    config = SandboxOptions(plugin=Path("/usr/lib/x.so")).database("hw1")
    assert config["dpdk-extra"].split()[0] == "--no-pci"
    assert config["dpdk-extra"].endswith("-d /usr/lib/x.so")
    assert config["pmd-cpu-mask"] == f"0x{1 << max(os.sched_getaffinity(0)):x}"
    assert (config["dpdk-init"], config["hw-offload"]) == ("true", "true")
    assert config["dpdk-socket-mem"] == "512"


def test_options_and_further_config_are_taken() -> None:
    options = SandboxOptions(
        pmd_cpu_mask="3",
        offload=False,
        other_config={"max-idle": "5000", "dpdk-extra": "--log-level=8"},
    )
    config = options.database("hw1")
    assert (config["hw-offload"], config["pmd-cpu-mask"]) == ("false", "0x3")
    assert config["max-idle"] == "5000"
    assert "--no-pci" in config["dpdk-extra"]
    assert config["dpdk-extra"].endswith("--log-level=8")


@pytest.mark.parametrize("value", ["", "zz", "0", "-1", "0x100000000000000000"])
def test_a_core_mask_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(click.BadParameter):
        sandbox_cmd.parse_mask(CONTEXT, parameter("pmd_cpu_mask"), value)


def test_a_core_mask_may_have_a_prefix() -> None:
    core = min(os.sched_getaffinity(0))
    text = f"0x{1 << core:x}"
    assert sandbox_cmd.parse_mask(CONTEXT, parameter("pmd_cpu_mask"), text) == text[2:]


def test_other_config_needs_key_and_value() -> None:
    param = parameter("other_config")
    assert sandbox_cmd.parse_config(CONTEXT, param, ("a=b=c", "d=")) == {"a": "b=c", "d": ""}
    with pytest.raises(click.BadParameter, match="KEY=VALUE"):
        sandbox_cmd.parse_config(CONTEXT, param, ("max-idle",))


@pytest.mark.parametrize(
    "arguments", [["--pmd-cpu-mask", "zz"], ["--socket-mem", "1"], ["--other-config", "x"]]
)
def test_wrong_options_are_one_line_and_not_status_0(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["sandbox", *arguments, "--", "true"])
    assert result.exit_code == 2
    assert result.stderr.startswith("highway: ")
    assert result.stderr.count("\n") == 1


def test_without_a_terminal_a_command_is_needed() -> None:
    result = CliRunner().invoke(main, ["sandbox"])
    assert result.exit_code == 1
    assert "highway sandbox -- COMMAND" in result.stderr


def test_a_plugin_that_dpdk_would_refuse_is_refused_first(tmp_path: Path) -> None:
    plugin = tmp_path / "driver.so"
    with pytest.raises(SetupError, match="make build"):
        check_plugin(plugin)
    plugin.touch()
    tmp_path.chmod(0o777)
    with pytest.raises(SetupError, match="everybody may write"):
        check_plugin(plugin)


def test_what_a_killed_sandbox_left_is_swept(tmp_path: Path) -> None:
    dead, living = tmp_path / "hw-dead", tmp_path / "hw-living"
    for directory, owner in ((dead, "4194999 1"), (living, rundir.identity(os.getpid()))):
        directory.mkdir()
        (directory / "owner").write_text(owner)
    assert rundir.sweep(tmp_path) == [dead]
    assert not dead.exists()
    assert living.exists()
