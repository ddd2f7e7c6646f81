# SPDX-License-Identifier: Apache-2.0
"""`python -m ovs_highway.cli` is `highway`."""

from __future__ import annotations

from ovs_highway.cli import main

if __name__ == "__main__":
    main(prog_name="highway")
