/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#ifndef HIGHWAY_PATTERN_H
#define HIGHWAY_PATTERN_H

#include <stdbool.h>

#include <rte_flow.h>

#include "highway_shm.h"

/**
 * Read a pattern.
 *
 * @param[out] usable false if its packets never take the bypass (fragments)
 * @return 0; -ENOTSUP if it is not understood: an item or a bit that is not known, items that
 *   contradict each other or do not begin with ETH, which says which frames are meant
 */
int highway_pattern_parse(const struct rte_flow_item *items, struct highway_key *key,
			  struct highway_key *mask, bool *usable);

#endif /* HIGHWAY_PATTERN_H */
