/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * A pool of mbufs without DPDK's memory: each is a piece of its own, which ends with its buffer.
 */

#include <errno.h>
#include <stdlib.h>

#include <rte_ether.h>
#include <rte_mempool.h>

#include "fuzz.h"
#include "highway_shm.h"

#define MOST 1024
#define HEADER RTE_ALIGN_CEIL(sizeof(struct rte_mempool_objhdr), RTE_CACHE_LINE_SIZE)

struct stack {
	unsigned int n;
	void *mbufs[MOST];
};

void (*fuzz_pool_hook)(void);

static int
put(struct rte_mempool *pool, void *const *mbufs, unsigned int n)
{
	struct stack *stack = pool->pool_data;

	CHECK(stack->n + n <= pool->size);
	memcpy(stack->mbufs + stack->n, mbufs, n * sizeof(*mbufs));
	stack->n += n;
	return 0;
}

static int
get(struct rte_mempool *pool, void **mbufs, unsigned int n)
{
	struct stack *stack = pool->pool_data;
	unsigned int i;

	if (fuzz_pool_hook != NULL)
		fuzz_pool_hook();
	if (stack->n < n)
		return -ENOBUFS;
	for (i = 0; i < n; i++)
		mbufs[i] = stack->mbufs[--stack->n];
	return 0;
}

static unsigned int
count(const struct rte_mempool *pool)
{
	return ((const struct stack *)pool->pool_data)->n;
}

/* Its memory is there already. */
static int
allocate(struct rte_mempool *pool)
{
	(void)pool;
	return 0;
}

static const struct rte_mempool_ops ops = {
	.name = "fuzz",
	.alloc = allocate,
	.enqueue = put,
	.dequeue = get,
	.get_count = count,
};

unsigned int
fuzz_pool_count(const struct rte_mempool *pool)
{
	return count(pool);
}

struct rte_mempool *
fuzz_pool(unsigned int n, uint16_t buf_len)
{
	struct rte_mempool *pool = fuzz_memory(sizeof(*pool) +
					       sizeof(struct rte_pktmbuf_pool_private));
	struct rte_pktmbuf_pool_private *private = rte_mempool_get_priv(pool);
	struct stack *stack = fuzz_memory(sizeof(*stack));
	static int index = -1;

	if (index < 0)
		index = rte_mempool_register_ops(&ops);
	CHECK(n <= MOST && index >= 0);
	pool->ops_index = index;
	pool->pool_data = stack;
	pool->size = n;
	private->mbuf_data_room_size = buf_len;
	for (; stack->n < n; stack->n++) {
		/* In front of an mbuf is what the pool says of it. */
		struct rte_mbuf *mbuf = RTE_PTR_ADD(fuzz_memory(HEADER + sizeof(*mbuf) + buf_len),
						    HEADER);

		mbuf->buf_addr = mbuf + 1;
		mbuf->buf_len = buf_len;
		mbuf->pool = pool;
		mbuf->nb_segs = 1;
		mbuf->port = RTE_MBUF_PORT_INVALID;
		rte_mbuf_refcnt_set(mbuf, 1);
		stack->mbufs[stack->n] = mbuf;
	}
	return pool;
}

struct rte_mbuf *
fuzz_frame(struct rte_mempool *pool, uint32_t length, uint32_t segment)
{
	struct rte_mbuf *head = NULL, **last = &head;
	uint32_t left = length, some, n = 0;

	do {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

		CHECK(mbuf != NULL);
		some = ++n < FUZZ_SEGMENTS ? RTE_MIN(segment, left) : left;
		CHECK(some <= mbuf->buf_len);
		mbuf->data_len = (uint16_t)some;
		mbuf->data_off = (uint16_t)(mbuf->buf_len - some);
		if (head != NULL)
			head->nb_segs++;
		*last = mbuf;
		last = &mbuf->next;
		left -= some;
	} while (left != 0);
	head->pkt_len = length;
	return head;
}

void
fuzz_check_received(const struct rte_mbuf *mbuf, bool scatter)
{
	const struct rte_mbuf *segment;
	uint32_t length = 0, n = 0;
	const uint8_t *bytes;

	for (segment = mbuf; segment != NULL; segment = segment->next, n++) {
		CHECK(segment->data_off + segment->data_len <= segment->buf_len);
		/* An application would read it: the sanitizer looks at both ends. */
		bytes = rte_pktmbuf_mtod(segment, const uint8_t *);
		CHECK(segment->data_len != 0 &&
		      bytes[0] + bytes[segment->data_len - 1] <= 2 * UINT8_MAX);
		length += segment->data_len;
	}
	CHECK(length == mbuf->pkt_len && n == mbuf->nb_segs && (scatter || n == 1));
	CHECK(length >= RTE_ETHER_HDR_LEN && length <= HIGHWAY_MAX_FRAME);
}

/* ------------------------------------------------------------------------- the application --- */

static struct rte_mbuf *held[FUZZ_HELD];
static unsigned int n_held;

void
fuzz_hold(struct rte_mbuf *mbuf)
{
	if (n_held == FUZZ_HELD)
		fuzz_release();
	held[n_held++] = mbuf;
}

void
fuzz_release(void)
{
	while (n_held != 0) {
		fuzz_check_received(held[--n_held], true);
		rte_pktmbuf_free(held[n_held]);
	}
}
