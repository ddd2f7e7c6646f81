/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Frames between mbufs and rings, for both roles.
 */

#ifndef HIGHWAY_COPY_H
#define HIGHWAY_COPY_H

#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_memcpy.h>

#include "highway_isa.h"
#include "highway_loan.h"
#include "highway_ring.h"

#define HIGHWAY_BURST 64 /* the most that one pass of the loops below moves */

/** What went by in a call of highway_take(). */
struct highway_taken {
	uint16_t packets;	/**< mbufs handed over */
	uint16_t lent;		/**< of them, those that have a buffer of the ring's */
	uint16_t too_long;	/**< frames that no mbuf could take */
	bool no_mbuf;
	uint64_t bytes;
	uint16_t off;		/**< frames taken off the ring, handed over or not */
	uint64_t off_bytes;
};

/** What mbufs are made of, and for whom. */
struct highway_mbufs {
	struct rte_mempool *pool;
	uint16_t port_id;
	bool scatter;		/**< chain mbufs for a frame that does not fit one */
	bool external;		/**< they may have buffers that are lent */
	uint32_t tag;		/**< for `hash.fdir.hi` */
};

/**
 * Take frames out of a ring, up to the first descriptor that is none: copied, or in buffers that
 * are lent. The caller publishes. A descriptor that cannot be makes the ring `broken`.
 *
 * @param loans the ring's buffers, NULL if it has none
 * @param n at most HIGHWAY_BURST
 */
void HIGHWAY_ISA(highway_take)(struct highway_consumer *ring, struct highway_loans *loans,
			       const struct highway_mbufs *mbufs, struct rte_mbuf **pkts,
			       uint16_t n, struct highway_taken *done);

/** A frame that may travel; others are dropped and counted as errors. */
static inline bool
highway_frame_ok(const struct rte_mbuf *mbuf)
{
	return mbuf->pkt_len >= RTE_ETHER_HDR_LEN && mbuf->pkt_len <= HIGHWAY_MAX_FRAME;
}

/** How many frames at the front may travel. */
static inline uint16_t
highway_frames_ok(struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t run;

	for (run = 0; run < n && likely(highway_frame_ok(pkts[run])); run++)
		;
	return run;
}

static inline uint64_t
highway_frames_bytes(struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t bytes = 0;
	uint16_t i;

	for (i = 0; i < n; i++)
		bytes += pkts[i]->pkt_len;
	return bytes;
}

#endif /* HIGHWAY_COPY_H */
