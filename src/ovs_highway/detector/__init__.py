# SPDX-License-Identifier: Apache-2.0
"""The p-2-p link detector: which ports send everything that they receive to one other port."""
