# SPDX-License-Identifier: Apache-2.0
"""`make demo`: what the highway does, on a chain of unmodified dpdk-testpmd processes."""
