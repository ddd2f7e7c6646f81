# SPDX-License-Identifier: Apache-2.0
"""Run one os-ken application: `run.py PORT FILE`; it listens on 127.0.0.1."""

import sys

from os_ken.lib import hub

hub.patch(thread=False)

from os_ken import cfg, log  # noqa: E402 - after the patch
from os_ken.base.app_manager import AppManager  # noqa: E402
from os_ken.controller import controller  # noqa: E402, F401 - registers its options

cfg.CONF(["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", sys.argv[1]], project="os_ken")
log.init_log()
AppManager.run_apps([sys.argv[2]])
