#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check what every file of the tree must keep to: place of C, licence tags, no local paths."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
C_DIRS: Final = ("drivers/", "tests/apps/", "tests/fuzz/")
C_SUFFIXES: Final = (".c", ".h", ".cc", ".cpp", ".hpp")
UNTAGGED: Final = ("LICENSES/",)
UNTAGGED_SUFFIXES: Final = (".json", ".png", ".svg", ".typed", ".txt", ".csv", ".pcap", ".bin")
# Put together from parts, so that this file does not find itself.
LOCAL: Final = re.compile("(?<![A-Za-z0-9_.$}>-])/" + "work/")


def files() -> list[str]:
    """Return the files of the tree, new ones included and ignored ones not.

    Raises:
        SystemExit: this is no git checkout.
    """
    done = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"check: {done.stderr.strip()}; run it in a git checkout")
    return sorted({name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()})


def faults(name: str, text: str) -> list[str]:
    """Return what is wrong with one file."""
    found = []
    suffix = Path(name).suffix
    if suffix in C_SUFFIXES and not name.startswith(C_DIRS):
        found.append(f"C lives in {', '.join(C_DIRS)} only")
    if not name.startswith(UNTAGGED) and suffix not in UNTAGGED_SUFFIXES:
        wanted = "BSD-3-Clause" if name.startswith("drivers/") else "Apache-2.0"
        head = "\n".join(text.splitlines()[:10])
        tag = re.search(r"SPDX-License-Identifier:\s*(\S+)", head)
        if tag is None:
            found.append(f"no SPDX-License-Identifier: {wanted} in its first lines")
        elif tag[1] != wanted:
            found.append(f"its licence is {tag[1]}, not {wanted}")
    found += [
        f"line {number} names a path of one machine only"
        for number, line in enumerate(text.splitlines(), 1)
        if LOCAL.search(line)
    ]
    return found


def main() -> int:
    """Check all files; return the exit status."""
    names = files()
    bad = 0
    for name in names:
        data = (ROOT / name).read_bytes()
        if b"\0" in data[:4096]:
            continue
        for fault in faults(name, data.decode(errors="replace")):
            print(f"{name}: {fault}")
            bad += 1
    print(f"check: {len(names)} files, {bad or 'no'} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
