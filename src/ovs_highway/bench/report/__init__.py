# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: a page, and its figures, from one file of results."""

from ovs_highway.bench.report.page import write

__all__ = ["write"]
