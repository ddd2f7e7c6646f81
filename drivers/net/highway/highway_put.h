/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Several frames at once into a ring.
 */

#ifndef HIGHWAY_PUT_H
#define HIGHWAY_PUT_H

#include "highway_copy.h"

/**
 * Copy frames into a ring, as many as there is room for. Some may be
 * published, to make room; the caller publishes the rest.
 *
 * @param pkts frames for which highway_frame_ok() holds
 * @return how many
 */
uint16_t HIGHWAY_ISA(highway_put)(struct highway_producer *ring, struct rte_mbuf **pkts,
				  uint16_t n);

#endif /* HIGHWAY_PUT_H */
