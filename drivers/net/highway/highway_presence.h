/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#ifndef HIGHWAY_PRESENCE_H
#define HIGHWAY_PRESENCE_H

#include "highway.h"

static inline void
highway_presence_enter(struct highway_presence *presence)
{
	__atomic_store_n(&presence->count, presence->count + 1, __ATOMIC_RELAXED);
	/* The processor may still do a later load before this store; the membarrier of
	 * highway_wait_for_queues() rules that out for it. Here only the compiler is held.
	 */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void
highway_presence_exit(struct highway_presence *presence)
{
	/* Pairs with the loads in highway_wait_for_queues(). */
	__atomic_store_n(&presence->count, presence->count + 1, __ATOMIC_RELEASE);
}

#endif /* HIGHWAY_PRESENCE_H */
