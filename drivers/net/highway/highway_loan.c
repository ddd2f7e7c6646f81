/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <rte_malloc.h>

#include "highway_loan.h"

/* The last mbuf that had the buffer is freed, by whatever thread. */
static void
end_loan(void *address __rte_unused, void *opaque)
{
	struct highway_loan *loan = opaque;

	/* Pairs with highway_buffer_free(): all that was read has been read. */
	__atomic_store_n(&loan->all->buffers.states[loan->number], 0, __ATOMIC_RELEASE);
	/* Nothing is touched after this: pairs with highway_loans_out(). */
	__atomic_store_n(&loan->out, 0, __ATOMIC_RELEASE);
}

struct highway_loans *
highway_loans_make(const struct highway_buffers *buffers)
{
	struct highway_loans *loans;
	uint32_t i;

	loans = rte_zmalloc("highway_loans", sizeof(*loans) +
			    buffers->n * sizeof(loans->loan[0]), RTE_CACHE_LINE_SIZE);
	if (loans == NULL)
		return NULL;
	loans->buffers = *buffers;
	for (i = 0; i < buffers->n; i++) {
		struct highway_loan *loan = &loans->loan[i];

		loan->shared.free_cb = end_loan;
		loan->shared.fcb_opaque = loan;
		loan->all = loans;
		loan->number = i;
		/* Left by an earlier life of the port: nobody reads any more. */
		buffers->states[i] = 0;
	}
	return loans;
}

bool
highway_loans_out(const struct highway_loans *loans)
{
	uint32_t i;

	for (i = 0; loans != NULL && i < loans->buffers.n; i++) {
		if (__atomic_load_n(&loans->loan[i].out, __ATOMIC_ACQUIRE) != 0)
			return true;
	}
	return false;
}

bool
highway_loans_fit(const struct rte_mempool *pool)
{
	return (rte_pktmbuf_priv_flags((struct rte_mempool *)(uintptr_t)pool) &
		RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF) == 0;
}
