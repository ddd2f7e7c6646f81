/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Frames that a receiver's application reads where the sender has written them: buffers in a link's
 * region that are lent to mbufs as DPDK's external buffers.
 *
 * Each descriptor of a ring has a buffer, in turn. A sender writes a frame there, in place of the
 * ring's data, if nobody reads what last was in it; else it takes the ring's data. So nothing waits
 * for an application that keeps its mbufs, and it cannot keep more than there are buffers.
 */

#ifndef HIGHWAY_LOAN_H
#define HIGHWAY_LOAN_H

#include <rte_mbuf.h>

#include "highway_ring.h"

/** A buffer, as its receiver lends it. */
struct highway_loan {
	struct rte_mbuf_ext_shared_info shared;
	struct highway_loans *all;
	uint32_t number;
	uint32_t out;		/**< 1: some mbuf has it; atomic */
};

/** The buffers of a ring, at its receiver. */
struct highway_loans {
	struct highway_buffers buffers;
	struct highway_loan loan[];
};

/** NULL: no memory. */
struct highway_loans *highway_loans_make(const struct highway_buffers *buffers);

/** Has the application any of them? Only while nothing is received into them. */
bool highway_loans_out(const struct highway_loans *loans);

/** Can mbufs of this pool have external buffers? */
bool highway_loans_fit(const struct rte_mempool *pool);

static inline struct highway_loan *
highway_loan_at(struct highway_loans *loans, uint64_t index)
{
	return &loans->loan[highway_buffer_of(&loans->buffers, index)];
}

/** The loan of a descriptor; NULL: it is out, or the frame would not fit. */
static inline struct highway_loan *
highway_loan_of(struct highway_loans *loans, uint64_t index, uint32_t length)
{
	struct highway_loan *loan = highway_loan_at(loans, index);

	/* Pairs with the end of the loan. */
	if (__atomic_load_n(&loan->out, __ATOMIC_ACQUIRE) != 0 ||
	    length > loans->buffers.size - HIGHWAY_BUFFER_HEADROOM)
		return NULL;
	return loan;
}

/** Lend a buffer to an mbuf that has just been allocated. */
static inline void
highway_loan_begin(struct highway_loan *loan, struct rte_mbuf *mbuf)
{
	const struct highway_buffers *buffers = &loan->all->buffers;

	loan->out = 1;
	/* The consumer's index is published later, and only then does the sender look. */
	__atomic_store_n(&buffers->states[loan->number], 1, __ATOMIC_RELAXED);
	rte_mbuf_ext_refcnt_set(&loan->shared, 1);
	rte_pktmbuf_attach_extbuf(mbuf, highway_buffer(buffers, loan->number), RTE_BAD_IOVA,
				  (uint16_t)buffers->size, &loan->shared);
	mbuf->data_off = HIGHWAY_BUFFER_HEADROOM;
}

#endif /* HIGHWAY_LOAN_H */
