# SPDX-License-Identifier: Apache-2.0
"""What the set-up steps share: one line per step, one line per failure, quiet commands."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build"
PLUGIN: Final = BUILD / "meson/drivers/net/highway/librte_net_highway.so"


class StepError(Exception):
    """A step cannot be done; the message is one line and says what to do."""


def say(step: str, text: str) -> None:
    """Print one line about a step."""
    print(f"{step}: {text}", flush=True)


def is_root() -> bool:
    """Tell whether this process may change the machine."""
    return os.geteuid() == 0


def run(
    command: Sequence[str | Path],
    *,
    doing: str,
    hint: str = "",
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
) -> str:
    """Run a command silently and return its standard output.

    Raises:
        StepError: it failed; the end of its output has been printed to standard error.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise StepError(f"{doing}: {words[0]} is missing; run 'make setup' as root") from error
    except subprocess.TimeoutExpired as error:
        raise StepError(f"{doing}: {words[0]} did not end within {timeout:.0f} s") from error
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip().splitlines()[-25:]
        print("\n".join(f"    {line}" for line in tail), file=sys.stderr)
        advice = f"; {hint}" if hint else "; see the lines above"
        raise StepError(f"{doing} failed ({words[0]} ended with status {done.returncode}){advice}")
    return done.stdout


def pkg_config(*arguments: str) -> str:
    """Ask pkg-config about libdpdk.

    Raises:
        StepError: DPDK's development files are not installed.
    """
    try:
        done = subprocess.run(
            ["pkg-config", *arguments, "libdpdk"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise StepError("pkg-config is missing; run 'make setup' as root") from error
    if done.returncode != 0:
        raise StepError("libdpdk is missing; run 'make setup' as root, or install libdpdk-dev")
    return done.stdout.strip()


def dpdk_version() -> str:
    """Return the version of the installed DPDK, such as `22.11.11`."""
    return pkg_config("--modversion")


def digest(*parts: str | bytes | Path) -> str:
    """Return a hash of texts and of the contents of files."""
    state = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part
        state.update(data.encode() if isinstance(data, str) else data)
        state.update(b"\0")
    return state.hexdigest()


def stamp_matches(stamp: Path, value: str) -> bool:
    """Tell whether a stamp file says that the step was done for this very input."""
    try:
        return stamp.read_text().strip() == value
    except OSError:
        return False


def write_stamp(stamp: Path, value: str) -> None:
    """Record that a step was done for this input."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(value + "\n")
