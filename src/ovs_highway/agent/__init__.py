# SPDX-License-Identifier: Apache-2.0
"""highwayd: hands regions to drivers, makes and removes links, applies policy."""
