# SPDX-License-Identifier: Apache-2.0
"""Service graphs: read, checked, placed, and planned against what is there; nothing is run here."""
