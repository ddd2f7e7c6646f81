# SPDX-License-Identifier: Apache-2.0
"""Run the `highway` command against a sandbox, as its user would."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from ovs_highway.errors import SandboxError

if TYPE_CHECKING:
    from ovs_highway.lab import Sandbox


def highway(sandbox: Sandbox, *words: str) -> str:
    """Run `highway WORDS`; return what it prints.

    Raises:
        SandboxError: it failed; the message is its own.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ovs_highway.cli", *words],
        env=sandbox.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        said = " | ".join(done.stderr.split("\n")).strip(" |") or f"status {done.returncode}"
        raise SandboxError(f"'highway {' '.join(words)}' failed: {said}")
    return done.stdout


def links(sandbox: Sandbox) -> str:
    """Return what `highway links` says, in one line.

    Raises:
        SandboxError: it failed.
    """
    lines = highway(sandbox, "links", "--interval", "0").splitlines()
    return " | ".join(" ".join(line.split()) for line in lines)
