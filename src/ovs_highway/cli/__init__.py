# SPDX-License-Identifier: Apache-2.0
"""The `highway` command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

import ovs_highway
from ovs_highway.cli import (
    bench,
    doctor,
    events_cmd,
    explain_cmd,
    monitor_cmd,
    sandbox_cmd,
    status,
    vm_cmd,
)
from ovs_highway.errors import HighwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Group(click.Group):
    """A group of commands whose errors are one line, and whose status then is not 0."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401 - as click has it
    ) -> Any:  # noqa: ANN401
        call: Callable[..., object] = super().main

        def run() -> object:
            return call(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        try:
            result: object = run()
            sys.stdout.flush()
        except HighwayError as error:
            result = _complain(str(error), 1)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            result = 0
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "highway"
            message = error.format_message().rstrip(".")
            result = _complain(f"{message}; see '{command} --help'", error.exit_code)
        except click.ClickException as error:
            result = _complain(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            result = 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            result = 141
        sys.exit(result if isinstance(result, int) else 0)


def _complain(message: str, status: int) -> int:
    click.echo(f"highway: {' '.join(message.split())}", err=True)
    return status


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ovs_highway.__version__, prog_name="highway")
def main() -> None:
    """See and steer the direct links between the ports of Open vSwitch with DPDK."""


for _module in (status, explain_cmd, events_cmd, monitor_cmd, vm_cmd, sandbox_cmd, doctor, bench):
    _module.register(main)
