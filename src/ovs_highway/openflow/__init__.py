# SPDX-License-Identifier: Apache-2.0
"""An OpenFlow client that follows a bridge's flows, groups and ports."""
