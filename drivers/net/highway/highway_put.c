/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Frames are written through the cache, or past it. Past it is slower for a receiver whose core is
 * near, and several times faster for one that is far, where each line that is written must first be
 * fetched from the other core's cache. Which of the two it is changes while a VM runs, so a ring
 * times some of its bursts (docs/performance.md, "Near and far").
 */

#include <immintrin.h>

#include <rte_cycles.h>

#include "highway_put.h"

#define WRITE_AHEAD 4096	/* bytes of data that are fetched before their turn */
#define BUFFERS_AHEAD 3		/* the same for buffers */
#define LEAST_LENT 512		/* bytes; shorter frames are not worth a loan */
#define TIMED_EVERY 16		/* bursts, while the receiver is near */
#define TRIED_EVERY 1024	/* bursts, while it is far: then the cache is tried for some */
#define SETTLING 8		/* of those that are not timed yet */
#define LONG_BURST 16		/* frames; shorter ones are not timed, and take the cache */
#define IN_A_ROW 4		/* timed bursts that agree before the ring believes them */
#define FAR_FRAME_NS 12		/* a receiver is far if a burst takes so long for each frame ... */
#define FAR_LINE_NS 5		/* ... and each of its lines */

/* ----------------------------------------------------------------------------------- copying --- */

static inline void
stream_line(uint8_t *to, const uint8_t *from)
{
#ifdef __AVX__
	__m256i *line = (__m256i *)to;

	_mm256_stream_si256(line, _mm256_loadu_si256((const __m256i *)from));
	_mm256_stream_si256(line + 1, _mm256_loadu_si256((const __m256i *)from + 1));
#else
	__m128i *line = (__m128i *)to;
	unsigned int i;

	for (i = 0; i < RTE_CACHE_LINE_SIZE / sizeof(*line); i++)
		_mm_stream_si128(line + i, _mm_loadu_si128((const __m128i *)from + i));
#endif
}

/* Whole lines only: a part of one would be merged in memory. Behind the frame follow zeros. */
static inline void
stream(uint8_t *to, const struct rte_mbuf *mbuf)
{
	const uint8_t *from = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint8_t last[RTE_CACHE_LINE_SIZE] __rte_cache_aligned = { 0 };
	uint32_t left = mbuf->data_len;

	for (; left >= RTE_CACHE_LINE_SIZE; left -= RTE_CACHE_LINE_SIZE) {
		stream_line(to, from);
		to += RTE_CACHE_LINE_SIZE;
		from += RTE_CACHE_LINE_SIZE;
	}
	if (left != 0) {
		rte_memcpy(last, from, left);
		stream_line(to, last);
	}
}

/* Nothing behind the frame is read: it may be somebody else's. */
static inline void
copy(uint8_t *to, const struct rte_mbuf *mbuf)
{
#ifdef __AVX__
	const uint8_t *from = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint32_t length = mbuf->data_len;

	if (likely(mbuf->nb_segs == 1 && length - 32 <= 32)) {
		__m256i first = _mm256_loadu_si256((const __m256i *)from);
		__m256i last = _mm256_loadu_si256((const __m256i *)(from + length - 32));

		_mm256_storeu_si256((__m256i *)to, first);
		_mm256_storeu_si256((__m256i *)(to + length - 32), last);
		return;
	}
#endif
	for (; mbuf != NULL; mbuf = mbuf->next) {
		rte_memcpy(to, rte_pktmbuf_mtod(mbuf, const void *), mbuf->data_len);
		to += mbuf->data_len;
	}
}

/*
 * The lines that are written soon lie in the receiver's cache. Stores leave the store buffer in
 * order, so without this each would wait for its line alone. A prefetch never faults.
 */
static inline void
fetch(const uint8_t *at, uint32_t length)
{
	uint32_t i;

	for (i = 0; i < length; i += RTE_CACHE_LINE_SIZE)
		__builtin_prefetch(at + i, 1);
}

/* -------------------------------------------------------------------------------------- ring --- */

/* Where the frame with this index is to be written. */
enum place {
	IN_DATA,
	IN_BUFFER,
	NOWHERE		/* for now: what last went with the buffer is still to be received */
};

static inline enum place
place_for(const struct highway_producer *ring, uint64_t index, uint32_t length)
{
	if (length < LEAST_LENT || length > ring->buffers.size - HIGHWAY_BUFFER_HEADROOM)
		return IN_DATA;
	if (unlikely(index - ring->tail_seen >= ring->buffers.n))
		return NOWHERE;
	return likely(highway_buffer_free(&ring->buffers, index)) ? IN_BUFFER : IN_DATA;
}

static __rte_always_inline void
write_frame(uint8_t *to, const struct rte_mbuf *mbuf, const bool past_cache)
{
	if (past_cache && likely(mbuf->nb_segs == 1))
		stream(to, mbuf);
	else
		copy(to, mbuf);
}

/*
 * Copy frames while there is room for descriptors and data is not to wrap around; `word` is what
 * all of their descriptors have in common. In a loop with little else to keep in registers.
 */
static __rte_always_inline uint16_t
put_some(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n, uint64_t word,
	 const bool past_cache, const bool lends)
{
	uint64_t *batch = &ring->batch[ring->head - ring->published];
	uint32_t at = ring->data_head, end = highway_producer_end(ring);
	uint8_t *data = ring->mem.data;
	uint16_t i;

	for (i = 0; i < n; i++) {
		const struct rte_mbuf *mbuf = pkts[i];
		uint32_t length = mbuf->pkt_len, need = highway_granules(length);

		if (unlikely(end - at < need) ||
		    (lends && place_for(ring, ring->head + i, length) != IN_DATA))
			break;
		write_frame(data + at, mbuf, past_cache);
		if (!past_cache)
			fetch(data + at + WRITE_AHEAD, length);
		batch[i] = word | at | (uint64_t)length << 32;
		at += need;
	}
	ring->head += i;
	ring->data_head = at;
	return i;
}

/* The same for frames that are written into buffers. */
static __rte_always_inline uint16_t
lend_some(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n, uint64_t word,
	  const bool past_cache)
{
	uint64_t *batch = &ring->batch[ring->head - ring->published];
	/* Where the next frame begins that takes the ring's data. */
	uint32_t at = ring->data_head < ring->mem.data_len ? ring->data_head : 0;
	uint16_t i;

	for (i = 0; i < n; i++) {
		uint64_t index = ring->head + i;
		uint32_t length = pkts[i]->pkt_len;

		if (place_for(ring, index, length) != IN_BUFFER)
			break;
		write_frame(highway_buffer(&ring->buffers, index) + HIGHWAY_BUFFER_HEADROOM,
			    pkts[i], past_cache);
		if (!past_cache)
			fetch(highway_buffer(&ring->buffers, index + BUFFERS_AHEAD) +
			      HIGHWAY_BUFFER_HEADROOM, length);
		batch[i] = word | at | (uint64_t)length << 32;
	}
	ring->head += i;
	return i;
}

/* How many descriptors may be written now that belong to the same batch and lap. */
static inline uint16_t
room(const struct highway_producer *ring, uint16_t n)
{
	uint64_t left = highway_producer_limit(ring) - ring->head;

	left = RTE_MIN(left, HIGHWAY_BATCH - (ring->head - ring->published));
	left = RTE_MIN(left, ring->mem.mask + UINT64_C(1) - (ring->head & ring->mem.mask));
	return (uint16_t)RTE_MIN(left, (uint64_t)n);
}

static __rte_always_inline uint64_t
word_of(const struct highway_producer *ring, enum highway_desc_kind kind)
{
	return highway_desc_word(0, 0, kind, highway_stamp(&ring->mem, ring->head));
}

static __rte_always_inline uint16_t
put(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n, const bool past_cache,
    const bool lends)
{
	uint16_t done = 0, some;

	highway_producer_fetch(ring);
	while (done < n) {
		some = put_some(ring, pkts + done, room(ring, n - done),
				word_of(ring, HIGHWAY_DESC_PACKET), past_cache, lends);
		done += some;
		if (lends) {
			some = lend_some(ring, pkts + done, room(ring, n - done),
					 word_of(ring, HIGHWAY_DESC_BUFFER), past_cache);
			done += some;
			if (some != 0)
				continue;
		}
		if (done == n)
			break;
		if (past_cache)
			_mm_sfence();
		highway_producer_publish(ring);
		if (lends && place_for(ring, ring->head, pkts[done]->pkt_len) == NOWHERE) {
			highway_producer_refresh(ring);
			if (place_for(ring, ring->head, pkts[done]->pkt_len) == NOWHERE)
				break;
			continue;
		}
		if (highway_producer_reserve(ring, pkts[done]->pkt_len) == NULL)
			break;
	}
	if (past_cache)
		_mm_sfence();
	return done;
}

static uint16_t
put_cached(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n)
{
	if (unlikely(ring->buffers.size != 0))
		return put(ring, pkts, n, false, true);
	return put(ring, pkts, n, false, false);
}

static uint16_t
put_streamed(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n)
{
	if (unlikely(ring->buffers.size != 0))
		return put(ring, pkts, n, true, true);
	return put(ring, pkts, n, true, false);
}

/* Did a burst through the cache take as long as one does to a core that is far? */
static bool
was_slow(uint64_t cycles, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t lines = highway_frames_bytes(pkts, n) / RTE_CACHE_LINE_SIZE;
	uint64_t ns = (uint64_t)n * FAR_FRAME_NS + lines * FAR_LINE_NS;

	return cycles > ns * (rte_get_tsc_hz() / 1000000) / 1000;
}

/* A timed burst says that the receiver's core is far, or near. */
static void
judge(struct highway_producer *ring, bool far)
{
	/* A trial of the cache ends at the first slow burst, other bursts are timed one by one. */
	if (far || !ring->far)
		ring->untimed = 0;
	ring->in_a_row = far == ring->far ? 0 : ring->in_a_row + 1;
	if (ring->in_a_row >= IN_A_ROW) {
		ring->far = far;
		ring->in_a_row = 0;
		ring->untimed = 0;
	}
}

uint16_t
HIGHWAY_ISA(highway_put)(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done, wait = ring->far ? TRIED_EVERY : TIMED_EVERY;
	uint64_t tsc;

	if (unlikely(ring->stores == HIGHWAY_STORES_STREAMED))
		return put_streamed(ring, pkts, n);
	if (n < LONG_BURST || unlikely(ring->stores == HIGHWAY_STORES_CACHED))
		return put_cached(ring, pkts, n);
	if (ring->stores == HIGHWAY_STORES_SPARING)
		return put_streamed(ring, pkts, n);
	if (++ring->untimed < wait) {
		if (ring->far)
			return put_streamed(ring, pkts, n);
		return put_cached(ring, pkts, n);
	}
	/* What was streamed has to come back into the caches before they can be fast. */
	if (ring->far && ring->untimed < wait + SETTLING)
		return put_cached(ring, pkts, n);
	tsc = rte_rdtsc();
	done = put_cached(ring, pkts, n);
	tsc = rte_rdtsc() - tsc;
	if (done == n)
		judge(ring, was_slow(tsc, pkts, n));
	return done;
}
