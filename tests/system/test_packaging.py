# SPDX-License-Identifier: Apache-2.0
"""Files for packages and administrators are well-formed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[2] / "packaging/apparmor/usr.bin.highwayd"


def parse(profile: Path) -> subprocess.CompletedProcess[str]:
    """Compile a profile without loading it."""
    parser = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
    assert parser is not None, "as root: apt-get install apparmor"
    return subprocess.run(
        [parser, "--skip-kernel-load", "--skip-cache", profile],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_apparmor_profile_is_well_formed(tmp_path: Path) -> None:
    done = parse(PROFILE)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "profile"
    broken.write_text(PROFILE.read_text().replace("capability chown", "capability chwon"))
    assert parse(broken).returncode != 0
