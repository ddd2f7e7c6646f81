/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The two ends of a ring in shared memory (struct highway_ring). Each end keeps its own index and
 * the checked place of the ring in private memory; what the other end writes is read once, checked,
 * and only then used. A ring whose other end wrote something impossible is `broken` and not
 * touched again.
 */

#ifndef HIGHWAY_RING_H
#define HIGHWAY_RING_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "highway_shm.h"

#define HIGHWAY_WRITE_AHEAD (16 * HIGHWAY_GRANULE) /* bytes of data fetched before their turn */
#define HIGHWAY_DESC_AHEAD 16 /* descriptors, likewise */

/** Where a ring lies; made once from checked geometry. */
struct highway_ring_mem {
	struct highway_ring *ctl;
	uint64_t *desc;		/**< struct highway_desc, as whole words */
	uint8_t *data;
	uint32_t mask;		/**< ring_size - 1 */
	uint32_t data_len;	/**< bytes */
};

/** The writing end. */
struct highway_producer {
	struct highway_ring_mem mem;
	uint64_t head;		/**< next index to write; may be ahead of what is published */
	uint64_t tail_seen;	/**< the consumer's index when last looked at */
	uint32_t data_head;	/**< bytes: where the next frame may start */
	uint32_t data_tail;	/**< bytes: where the oldest unconsumed frame starts */
	bool broken;
};

/** The reading end. */
struct highway_consumer {
	struct highway_ring_mem mem;
	uint64_t tail;		/**< next index to read; may be ahead of what is published */
	uint64_t head_seen;	/**< the producer's index when last looked at */
	bool broken;
};

static inline uint32_t
highway_granules(uint32_t length)
{
	return (length + HIGHWAY_GRANULE - 1) & ~(uint32_t)(HIGHWAY_GRANULE - 1);
}

static inline void
highway_ring_place(struct highway_ring_mem *mem, void *base, uint32_t ring_size,
		   uint32_t ring_data)
{
	mem->ctl = base;
	mem->desc = RTE_PTR_ADD(base, HIGHWAY_RING_DESC_OFFSET);
	mem->data = RTE_PTR_ADD(mem->desc, (size_t)ring_size * sizeof(struct highway_desc));
	mem->mask = ring_size - 1;
	mem->data_len = ring_data;
}

static inline struct highway_desc
highway_desc_read(const struct highway_ring_mem *mem, uint64_t index)
{
	union {
		uint64_t word;
		struct highway_desc desc;
	} u;

	u.word = __atomic_load_n(&mem->desc[index & mem->mask], __ATOMIC_RELAXED);
	return u.desc;
}

static inline bool
highway_desc_valid(const struct highway_ring_mem *mem, struct highway_desc desc)
{
	return desc.offset < mem->data_len && desc.length <= mem->data_len - desc.offset;
}

/* --------------------------------------------------------------------------------- producer --- */

/** Never write to this ring again: it looks full for good. */
static inline void
highway_producer_break(struct highway_producer *p)
{
	p->broken = true;
	p->tail_seen = p->head - p->mem.mask - 1;
	p->data_head = 0;
	p->data_tail = 0;
}

/** Look at the consumer's index again. */
static inline void
highway_producer_refresh(struct highway_producer *p)
{
	/* Pairs with highway_consumer_publish(): what was consumed may be overwritten. */
	uint64_t tail = __atomic_load_n(&p->mem.ctl->tail, __ATOMIC_ACQUIRE);
	struct highway_desc oldest;

	if (tail == p->tail_seen || unlikely(p->broken))
		return;
	if (unlikely(tail < p->tail_seen || tail > p->head)) {
		highway_producer_break(p);
		return;
	}
	p->tail_seen = tail;
	if (tail == p->head) {
		p->data_head = 0;
		p->data_tail = 0;
		return;
	}
	oldest = highway_desc_read(&p->mem, tail);
	if (unlikely(oldest.offset >= p->mem.data_len ||
		     (oldest.offset & (HIGHWAY_GRANULE - 1)) != 0)) {
		highway_producer_break(p);
		return;
	}
	p->data_tail = oldest.offset;
}

/** Take up a ring, also one that an earlier process has written to. 0, or -EBADMSG. */
static inline int
highway_producer_attach(struct highway_producer *p)
{
	struct highway_desc last;

	p->broken = false;
	p->head = __atomic_load_n(&p->mem.ctl->head, __ATOMIC_ACQUIRE);
	p->tail_seen = __atomic_load_n(&p->mem.ctl->tail, __ATOMIC_ACQUIRE);
	p->data_head = 0;
	p->data_tail = 0;
	if (p->head - p->tail_seen > (uint64_t)p->mem.mask + 1) {
		highway_producer_break(p);
		return -EBADMSG;
	}
	if (p->head == p->tail_seen)
		return 0;
	last = highway_desc_read(&p->mem, p->tail_seen);
	p->data_tail = last.offset;
	last = highway_desc_read(&p->mem, p->head - 1);
	if (!highway_desc_valid(&p->mem, last) || p->data_tail >= p->mem.data_len ||
	    ((p->data_tail | last.offset) & (HIGHWAY_GRANULE - 1)) != 0) {
		highway_producer_break(p);
		return -EBADMSG;
	}
	p->data_head = RTE_MIN(last.offset + highway_granules(last.length), p->mem.data_len);
	return 0;
}

/** Place for a frame as far as is known without a look at the consumer; NULL if there is none. */
static inline uint8_t *
highway_producer_fit(struct highway_producer *p, uint32_t length)
{
	uint32_t need = highway_granules(length);
	uint32_t at = p->data_head;

	if (unlikely(p->head - p->tail_seen > p->mem.mask))
		return NULL;
	if (at >= p->data_tail) {
		if (unlikely(p->mem.data_len - at < need)) {
			if (p->data_tail <= need)
				return NULL;
			at = 0;
		}
	} else if (p->data_tail - at <= need) {
		return NULL;
	}
	p->data_head = at;
	return p->mem.data + at;
}

/**
 * Place for a frame of `length` bytes; NULL if the ring is full or broken. Nothing is taken until
 * highway_producer_commit().
 */
static inline uint8_t *
highway_producer_reserve(struct highway_producer *p, uint32_t length)
{
	uint8_t *place = highway_producer_fit(p, length);

	if (likely(place != NULL))
		return place;
	highway_producer_refresh(p);
	if (unlikely(p->broken))
		return NULL;
	return highway_producer_fit(p, length);
}

/** Take the place that the last reserve gave. */
static inline void
highway_producer_commit(struct highway_producer *p, uint32_t length, enum highway_desc_kind kind)
{
	union {
		uint64_t word;
		struct highway_desc desc;
	} u = {
		.desc = {
			.offset = p->data_head,
			.length = (uint16_t)length,
			.kind = (uint8_t)kind,
		},
	};

	__atomic_store_n(&p->mem.desc[p->head & p->mem.mask], u.word, __ATOMIC_RELAXED);
	p->data_head += highway_granules(length);
	p->head++;
	/* The lines that are written soon lie in the consumer's cache. Stores leave the store
	 * buffer in order, so without this each would wait for its line alone. A prefetch never faults.
	 */
	__builtin_prefetch(p->mem.data + p->data_head + HIGHWAY_WRITE_AHEAD, 1);
	if ((p->head & (RTE_CACHE_LINE_SIZE / sizeof(struct highway_desc) - 1)) == 0)
		__builtin_prefetch(&p->mem.desc[(p->head + HIGHWAY_DESC_AHEAD) & p->mem.mask], 1);
}

/** Let the consumer see everything that was committed. */
static inline void
highway_producer_publish(struct highway_producer *p)
{
	/* Pairs with highway_consumer_available(). */
	__atomic_store_n(&p->mem.ctl->head, p->head, __ATOMIC_RELEASE);
}

/** Reserve, fill and commit a marker; false if the ring is full. */
static inline bool
highway_producer_mark(struct highway_producer *p, enum highway_desc_kind kind, const void *body,
		      uint32_t length)
{
	uint8_t *place = highway_producer_reserve(p, length);

	if (place == NULL)
		return false;
	memcpy(place, body, length);
	highway_producer_commit(p, length, kind);
	return true;
}

/* --------------------------------------------------------------------------------- consumer --- */

/** Take up a ring where the shared index stands. 0, or -EBADMSG. */
static inline int
highway_consumer_attach(struct highway_consumer *c)
{
	c->broken = false;
	c->head_seen = __atomic_load_n(&c->mem.ctl->head, __ATOMIC_ACQUIRE);
	c->tail = __atomic_load_n(&c->mem.ctl->tail, __ATOMIC_ACQUIRE);
	if (c->head_seen - c->tail > (uint64_t)c->mem.mask + 1)
		return -EBADMSG;
	return 0;
}

/** How many descriptors may be read now. */
static inline uint64_t
highway_consumer_available(struct highway_consumer *c)
{
	if (c->head_seen == c->tail) {
		/* Pairs with highway_producer_publish(). */
		uint64_t head = __atomic_load_n(&c->mem.ctl->head, __ATOMIC_ACQUIRE);

		if (unlikely(head - c->tail > (uint64_t)c->mem.mask + 1)) {
			c->broken = true;
			return 0;
		}
		c->head_seen = head;
	}
	return c->head_seen - c->tail;
}

/** Give everything that was consumed back to the producer. */
static inline void
highway_consumer_publish(struct highway_consumer *c)
{
	/* Pairs with highway_producer_refresh(). */
	__atomic_store_n(&c->mem.ctl->tail, c->tail, __ATOMIC_RELEASE);
}

/** Copy a marker's body out of the ring; false if the descriptor does not hold one. */
static inline bool
highway_marker_read(const struct highway_consumer *c, struct highway_desc desc, void *body,
		    uint32_t length)
{
	if (!highway_desc_valid(&c->mem, desc) || desc.length != length)
		return false;
	memcpy(body, c->mem.data + desc.offset, length);
	return true;
}

#endif /* HIGHWAY_RING_H */
