/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The two ends of a ring in shared memory (struct highway_ring). Each end keeps its own index and
 * the checked place of the ring in private memory; what the other end writes is read once, checked,
 * and only then used. A ring whose other end wrote something impossible is `broken` and not
 * touched again.
 *
 * A consumer knows a published descriptor by its stamp, so that it polls the line that it will read
 * anyway. The producer keeps the descriptors of a burst to itself until it publishes them, and then
 * writes the first one last: nobody sees a part of them. The shared head is for everybody else,
 * and for producers that write no stamps (docs/performance.md, "The ring").
 */

#ifndef HIGHWAY_RING_H
#define HIGHWAY_RING_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_memcpy.h>

#include "highway_shm.h"

#define HIGHWAY_BATCH 32 /* descriptors that are published together */
#define HIGHWAY_LOOKS 16 /* looks for a stamp before one at the shared head */

/** Where a ring lies; made once from checked geometry. */
struct highway_ring_mem {
	struct highway_ring *ctl;
	uint64_t *desc;		/**< struct highway_desc, as whole words */
	uint8_t *data;
	uint32_t mask;		/**< ring_size - 1 */
	uint32_t shift;		/**< ring_size as a power of two */
	uint32_t data_len;	/**< bytes */
};

/** A pool of buffers in a link region, that of a ring; `size` is 0 if there is none. */
struct highway_buffers {
	uint8_t *states;	/**< [n] 1: the receiver's application reads it */
	uint8_t *data;
	uint32_t size;		/**< bytes of each, with headroom */
	uint32_t n;		/**< a power of two */
};

/** How frames are written: see highway_put.c. */
enum highway_stores {
	HIGHWAY_STORES_AUTO,
	HIGHWAY_STORES_CACHED,
	HIGHWAY_STORES_STREAMED,
	HIGHWAY_STORES_SPARING	/**< long bursts past the cache: what the switch does by itself */
};

/** The writing end. */
struct highway_producer {
	struct highway_ring_mem mem;
	uint64_t head;		/**< next index to write; may be ahead of what is published */
	uint64_t published;
	uint64_t tail_seen;	/**< the consumer's index when last looked at */
	uint32_t data_head;	/**< bytes: where the next frame may start */
	uint32_t data_tail;	/**< bytes: where the oldest unconsumed frame starts */
	bool broken;
	/* Of highway_put(): */
	struct highway_buffers buffers;
	enum highway_stores stores;
	bool far;		/**< the consumer's core, as it seems */
	uint8_t in_a_row;	/**< timed bursts that say otherwise */
	uint16_t untimed;	/**< bursts since the last that was timed */
	uint64_t batch[HIGHWAY_BATCH];	/**< descriptors from `published` to `head` */
};

/** The reading end. */
struct highway_consumer {
	struct highway_ring_mem mem;
	uint64_t tail;		/**< next index to read; may be ahead of what is published */
	uint64_t head_seen;	/**< the shared head when last looked at */
	uint32_t looks;		/**< in vain, since that */
	bool unstamped;		/**< what was read last had no stamp: look at the head each time */
	bool broken;
};

/** Bytes of a ring's data that a frame takes. */
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
	mem->shift = (uint32_t)__builtin_ctz(ring_size);
	mem->data_len = ring_data;
}

/** The buffer of the descriptor with this index. */
static inline uint32_t
highway_buffer_of(const struct highway_buffers *buffers, uint64_t index)
{
	return (uint32_t)index & (buffers->n - 1);
}

static inline uint8_t *
highway_buffer(const struct highway_buffers *buffers, uint64_t index)
{
	return buffers->data + (size_t)highway_buffer_of(buffers, index) * buffers->size;
}

/** Does nobody read a buffer any more? Once the descriptor that it last went with was consumed. */
static inline bool
highway_buffer_free(const struct highway_buffers *buffers, uint64_t index)
{
	/* Pairs with the end of a loan. */
	return __atomic_load_n(&buffers->states[highway_buffer_of(buffers, index)],
			       __ATOMIC_ACQUIRE) == 0;
}

/** What tells that the descriptor in a slot is the one with this index. Never 0. */
static inline uint8_t
highway_stamp(const struct highway_ring_mem *mem, uint64_t index)
{
	return (uint8_t)(index >> mem->shift) | HIGHWAY_STAMPED;
}

static inline struct highway_desc
highway_desc_of(uint64_t word)
{
	union {
		uint64_t word;
		struct highway_desc desc;
	} u = { .word = word };

	return u.desc;
}

/* In registers: stores of single fields that are read back as a word would stall. */
static inline uint64_t
highway_desc_word(uint32_t offset, uint32_t length, enum highway_desc_kind kind, uint8_t stamp)
{
	return offset | (uint64_t)length << 32 | (uint64_t)kind << 48 | (uint64_t)stamp << 56;
}

static inline struct highway_desc
highway_desc_read(const struct highway_ring_mem *mem, uint64_t index)
{
	/* Pairs with highway_producer_publish(): a stamp that is there vouches for the frame. */
	return highway_desc_of(__atomic_load_n(&mem->desc[index & mem->mask], __ATOMIC_ACQUIRE));
}

/**
 * How far a ring is published. A producer that was killed may have stamped more than the shared
 * head says.
 */
static inline uint64_t
highway_ring_published(const struct highway_ring_mem *mem)
{
	uint64_t index = __atomic_load_n(&mem->ctl->head, __ATOMIC_ACQUIRE);
	uint32_t i;

	for (i = 0; i < HIGHWAY_BATCH; i++, index++) {
		if (highway_desc_read(mem, index).stamp != highway_stamp(mem, index))
			break;
	}
	return index;
}

/** Nobody is to read this descriptor any more. */
static inline void
highway_ring_clear(const struct highway_ring_mem *mem, uint64_t index)
{
	__atomic_store_n(&mem->desc[index & mem->mask], 0, __ATOMIC_RELEASE);
}

/**
 * Take stamps away from here on: a producer that was killed has left some of a batch, and a hostile
 * one what it liked. No producer writes meanwhile.
 */
static inline void
highway_ring_unstamp(const struct highway_ring_mem *mem, uint64_t index)
{
	uint32_t i;

	for (i = 0; i <= mem->mask; i++, index++) {
		if (highway_desc_read(mem, index).stamp == highway_stamp(mem, index))
			highway_ring_clear(mem, index);
	}
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
	p->published = p->head;
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
	if (unlikely(tail < p->tail_seen || tail > p->published)) {
		highway_producer_break(p);
		return;
	}
	p->tail_seen = tail;
	if (tail == p->head) {
		p->data_head = 0;
		p->data_tail = 0;
		return;
	}
	oldest = tail == p->published ? highway_desc_of(p->batch[0]) :
					highway_desc_read(&p->mem, tail);
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
	uint64_t index;

	p->broken = false;
	p->head = highway_ring_published(&p->mem);
	p->published = p->head;
	highway_ring_unstamp(&p->mem, p->head);
	__atomic_store_n(&p->mem.ctl->head, p->head, __ATOMIC_RELEASE);
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
	/* The last one that takes data: where BUFFER says that what follows begins is not its end. */
	for (index = p->head; index != p->tail_seen; index--) {
		last = highway_desc_read(&p->mem, index - 1);
		if (last.kind != HIGHWAY_DESC_BUFFER)
			break;
	}
	if (index == p->tail_seen) {
		last.offset = p->data_tail;
		last.length = 0;
	}
	if (!highway_desc_valid(&p->mem, last) || p->data_tail >= p->mem.data_len ||
	    ((p->data_tail | last.offset) & (HIGHWAY_GRANULE - 1)) != 0) {
		highway_producer_break(p);
		return -EBADMSG;
	}
	p->data_head = RTE_MIN(last.offset + highway_granules(last.length), p->mem.data_len);
	return 0;
}

/** Fetch the lines of the next descriptors; the consumer has them, and polls the first one. */
static inline void
highway_producer_fetch(const struct highway_producer *p)
{
	uint32_t i;

	for (i = 0; i < HIGHWAY_BATCH; i += RTE_CACHE_LINE_SIZE / sizeof(*p->mem.desc))
		__builtin_prefetch(&p->mem.desc[(p->head + i) & p->mem.mask], 1);
}

/** What `head` cannot pass without a look at the consumer. */
static inline uint64_t
highway_producer_limit(const struct highway_producer *p)
{
	return p->tail_seen + p->mem.mask + 1;
}

/** Up to where data may be written from `data_head` on, without wrapping around. */
static inline uint32_t
highway_producer_end(const struct highway_producer *p)
{
	/* Full and empty must not look alike. */
	return p->data_head >= p->data_tail ? p->mem.data_len : p->data_tail - 1;
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

/** Let the consumer see everything that was committed. */
static inline void
highway_producer_publish(struct highway_producer *p)
{
	uint32_t n = (uint32_t)(p->head - p->published), i;
	uint64_t *first = &p->mem.desc[p->published & p->mem.mask];

	if (n == 0)
		return;
	i = n;
#ifdef RTE_ARCH_X86_64
	/* A quarter of the stores, which leave in order here; each word is whole at any time. */
	if ((p->published & p->mem.mask) + n <= p->mem.mask + UINT64_C(1)) {
		for (; i >= 5; i -= 4) {
			rte_compiler_barrier();
			rte_mov32((uint8_t *)(first + i - 4),
				  (const uint8_t *)(p->batch + i - 4));
		}
	}
#endif
	while (--i > 0)
		__atomic_store_n(&p->mem.desc[(p->published + i) & p->mem.mask], p->batch[i],
				 __ATOMIC_RELAXED);
	/* Pairs with highway_desc_read(): all of the batch is there when its first stamp is. */
	__atomic_store_n(first, p->batch[0], __ATOMIC_RELEASE);
	p->published = p->head;
	/* Pairs with highway_consumer_look(). */
	__atomic_store_n(&p->mem.ctl->head, p->head, __ATOMIC_RELEASE);
}

/**
 * Take the place that the last reserve gave. What was committed before may be published, to make
 * room.
 */
static inline void
highway_producer_commit(struct highway_producer *p, uint32_t length, enum highway_desc_kind kind)
{
	uint64_t word = highway_desc_word(p->data_head, length, kind, highway_stamp(&p->mem, p->head));

	if (unlikely(p->head - p->published == HIGHWAY_BATCH))
		highway_producer_publish(p);
	p->batch[p->head - p->published] = word;
	p->data_head += highway_granules(length);
	p->head++;
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
	c->looks = 0;
	c->unstamped = false;
	c->head_seen = highway_ring_published(&c->mem);
	c->tail = __atomic_load_n(&c->mem.ctl->tail, __ATOMIC_ACQUIRE);
	if (c->head_seen - c->tail > (uint64_t)c->mem.mask + 1)
		return -EBADMSG;
	return 0;
}

/** Look at the shared head: for producers that write no stamps. */
static inline void
highway_consumer_look(struct highway_consumer *c)
{
	/* Pairs with highway_producer_publish(). */
	uint64_t head = __atomic_load_n(&c->mem.ctl->head, __ATOMIC_ACQUIRE);

	c->looks = 0;
	c->unstamped = c->tail != 0 && highway_desc_read(&c->mem, c->tail - 1).stamp == 0;
	/* It follows the stamps, if there are any. */
	if (c->tail - head <= HIGHWAY_BATCH)
		return;
	if (unlikely(head - c->tail > (uint64_t)c->mem.mask + 1)) {
		c->broken = true;
		return;
	}
	c->head_seen = head;
}

/** Is the descriptor `ahead` of the next one published? Then read it. */
static inline bool
highway_consumer_peek(const struct highway_consumer *c, uint32_t ahead, struct highway_desc *desc)
{
	uint64_t index = c->tail + ahead;

	*desc = highway_desc_read(&c->mem, index);
	return desc->stamp == highway_stamp(&c->mem, index) || index < c->head_seen;
}

/** Is there something to read? */
static inline bool
highway_consumer_ready(struct highway_consumer *c)
{
	struct highway_desc desc;

	if (highway_consumer_peek(c, 0, &desc))
		return true;
	if (likely(++c->looks < HIGHWAY_LOOKS && !c->unstamped))
		return false;
	highway_consumer_look(c);
	return !c->broken && c->tail < c->head_seen;
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
