/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The bare loop: packets of one size through a ring of equal slots, from one lcore to another.
 * limit_loop.c is compiled once for every x86-64 processor and once more for each kind of wider
 * copies (rte_memcpy() goes by the compiler's options); LIMIT_ISA() names a function after the
 * compilation that it belongs to.
 */

#ifndef LIMIT_H
#define LIMIT_H

#include "gauge.h"

#if defined(GAUGE_AVX512)
#define LIMIT_ISA(name) name##_avx512
#elif defined(GAUGE_AVX2)
#define LIMIT_ISA(name) name##_avx2
#else
#define LIMIT_ISA(name) name##_base
#endif

#define LIMIT_SLOTS 2048
#define LIMIT_APART (2 * RTE_CACHE_LINE_SIZE) /* processors fetch lines in pairs */

/** Shared by both lcores, in huge-page memory. */
struct limit_ring {
	uint64_t head __rte_aligned(LIMIT_APART);	/**< the sender's */
	uint64_t tail __rte_aligned(LIMIT_APART);	/**< the receiver's */
	uint8_t slots[] __rte_aligned(LIMIT_APART);
};

/** One of the two; in its own memory. */
struct limit_side {
	struct window window;
	struct limit_ring *ring;
	uint32_t size, stride;	/**< bytes of a packet, and from slot to slot */
	uint32_t ahead;		/**< slots: how far ahead a sender fetches what it will write */
	struct rte_mempool *pool; /**< NULL: without mbufs */
	uint8_t *buffers;	/**< BURST of them, `stride` apart; without mbufs */
	uint64_t packets;	/**< within the window */
	uint64_t all;		/**< from the very start */
} __rte_cache_aligned;

#define LIMIT_LOOPS(isa) \
	int limit_send_##isa(void *side); \
	int limit_receive_##isa(void *side)

LIMIT_LOOPS(base);
LIMIT_LOOPS(avx2);
LIMIT_LOOPS(avx512);

#endif /* LIMIT_H */
