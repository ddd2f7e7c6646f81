# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: alternatives measured in turn, medians, and the facts of the machine.

`stats` and `schedule` are pure, `machine` reads the machine, `record` writes results, and each
suite (`quick`) says what is measured.
"""
