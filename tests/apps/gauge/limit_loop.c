/* SPDX-License-Identifier: Apache-2.0 */

/** @file See limit.h. */

#include <rte_memcpy.h>
#include <rte_pause.h>

#include "limit.h"

static inline uint8_t *
slot(const struct limit_side *side, uint64_t index)
{
	return side->ring->slots + (index & (LIMIT_SLOTS - 1)) * (size_t)side->stride;
}

/* false: the time is up. */
static inline bool
go_on(struct limit_side *side, enum phase last)
{
	enum phase phase = phase_now();

	if (unlikely(phase == PHASE_COUNT && !side->window.open)) {
		side->window.open = true;
		side->window.begin = rte_rdtsc();
		side->packets = 0;
	}
	if (unlikely(phase > PHASE_COUNT && side->window.end == 0))
		side->window.end = rte_rdtsc();
	return phase < last;
}

int
LIMIT_ISA(limit_send)(void *opaque)
{
	struct limit_side *side = opaque;
	struct limit_ring *ring = side->ring;
	struct rte_mbuf *pkts[BURST];
	uint64_t head = 0, tail = 0;
	unsigned int i;

	for (;;) {
		while (head + BURST - tail > LIMIT_SLOTS) {
			/* Pairs with limit_receive(): what was read may be overwritten. */
			tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
			if (!go_on(side, PHASE_SENT))
				goto out;
		}
		if (side->pool != NULL && rte_pktmbuf_alloc_bulk(side->pool, pkts, BURST) != 0)
			break;
		for (i = 0; i < BURST; i++) {
			const void *from = side->pool != NULL ? rte_pktmbuf_mtod(pkts[i], void *) :
				side->buffers + i * side->stride;

			/* The line lies in the receiver's cache. */
			if (side->ahead != 0)
				__builtin_prefetch(slot(side, head + i + side->ahead), 1);
			rte_memcpy(slot(side, head + i), from, side->size);
		}
		head += BURST;
		/* Pairs with limit_receive(). */
		__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
		if (side->pool != NULL)
			rte_pktmbuf_free_bulk(pkts, BURST);
		side->packets += BURST;
		side->all += BURST;
		if (!go_on(side, PHASE_SENT))
			break;
	}
out:
	return 0;
}

int
LIMIT_ISA(limit_receive)(void *opaque)
{
	struct limit_side *side = opaque;
	struct limit_ring *ring = side->ring;
	struct rte_mbuf *pkts[BURST];
	uint64_t head = 0, tail = 0;
	unsigned int i;

	for (;;) {
		while (head - tail < BURST) {
			/* First: the sender has returned, so nothing comes after this look. */
			bool more = go_on(side, PHASE_END);

			/* Pairs with limit_send(). */
			head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
			if (head - tail < BURST && !more)
				goto out;
		}
		for (i = 0; i < BURST; i++)
			rte_prefetch0(slot(side, tail + i));
		if (side->pool != NULL && rte_pktmbuf_alloc_bulk(side->pool, pkts, BURST) != 0)
			break;
		for (i = 0; i < BURST; i++) {
			void *to = side->pool != NULL ? rte_pktmbuf_mtod(pkts[i], void *) :
				side->buffers + i * side->stride;

			rte_memcpy(to, slot(side, tail + i), side->size);
		}
		tail += BURST;
		/* Pairs with limit_send(). */
		__atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
		if (side->pool != NULL)
			rte_pktmbuf_free_bulk(pkts, BURST);
		side->packets += side->window.end == 0 ? BURST : 0;
		side->all += BURST;
		go_on(side, PHASE_END);
	}
out:
	return 0;
}
