/* SPDX-License-Identifier: Apache-2.0 */

/** @file What the machine itself can do: limit.h with its two sides. */

#include <string.h>

#include <rte_cpuflags.h>
#include <rte_malloc.h>

#include "dialogue.h"
#include "limit.h"

/* The widest first. */
static const struct variant {
	const char *name;
	int flag;
	int (*send)(void *side), (*receive)(void *side);
} variants[] = {
	{ "avx512", RTE_CPUFLAG_AVX512F, limit_send_avx512, limit_receive_avx512 },
	{ "avx2", RTE_CPUFLAG_AVX2, limit_send_avx2, limit_receive_avx2 },
	{ "base", RTE_CPUFLAG_SSE4_2, limit_send_base, limit_receive_base },
};

static struct limit_side sender, receiver;
static const struct variant *variant;

static int
send(__rte_unused void *opaque)
{
	return variant->send(&sender);
}

static int
receive(__rte_unused void *opaque)
{
	return variant->receive(&receiver);
}

static const struct variant *
choose(const char *isa)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(variants); i++) {
		if ((*isa == '\0' || strcmp(isa, variants[i].name) == 0) &&
		    rte_cpu_get_flag_enabled((enum rte_cpu_flag_t)variants[i].flag) > 0)
			return &variants[i];
	}
	return NULL;
}

/* Whether to fetch ahead depends on how far apart the cores are: both are tried. */
static const uint32_t distances[] = { 0, 64 };

struct found {
	double mpps, seconds, trip;
	uint32_t ahead;
	uint64_t sent, received;
};

static struct found
measure(const struct limit_side *from, const struct limit_side *to, double seconds)
{
	struct found found = { .ahead = from->ahead };

	sender = *from;
	receiver = *to;
	from->ring->head = 0;
	from->ring->tail = 0;
	found.trip = phase_run(seconds, send, receive);
	found.seconds = window_seconds(&receiver.window);
	found.mpps = (double)receiver.packets / found.seconds / 1e6;
	found.sent = sender.all;
	found.received = receiver.all;
	return found;
}

static void
answer(FILE *out, const struct found *found)
{
	fputs("{", out);
	put_number(out, "tsc_hz", rte_get_tsc_hz());
	put_number(out, "sent", found->sent);
	put_number(out, "received", found->received);
	put_number(out, "ahead", found->ahead);
	fprintf(out, "\"round_trip_ns\": %.1f, ", found->trip);
	fprintf(out, "\"isa\": \"%s\", \"seconds\": %.6f, \"mpps\": %.6f, "
		"\"cycles_per_packet\": %.3f}\n", variant->name, found->seconds, found->mpps,
		(double)rte_get_tsc_hz() / (found->mpps * 1e6));
}

/* NULL: the better of all distances is answered. */
static const char *
best(FILE *out, struct limit_side *from, const struct limit_side *to, double seconds)
{
	struct found best = { 0 }, found;
	unsigned int i;

	for (i = 0; i < RTE_DIM(distances); i++) {
		from->ahead = distances[i];
		found = measure(from, to, seconds / RTE_DIM(distances));
		if (found.sent != found.received)
			return "limit: mbufs ran out";
		if (found.mpps > best.mpps)
			best = found;
	}
	answer(out, &best);
	return NULL;
}

/* NULL: the answer is written. Frames of any size are to fit an mbuf. */
static const char *
with_mbufs(FILE *out, struct limit_side *from, struct limit_side *to, double seconds)
{
	uint32_t data = RTE_MAX(from->size, (uint32_t)RTE_MBUF_DEFAULT_DATAROOM);
	uint32_t room = data + RTE_PKTMBUF_HEADROOM;
	const char *why = "limit: there is no memory for mbufs";

	from->pool = main_pool("limit-tx", room);
	to->pool = main_pool("limit-rx", room);
	if (from->pool != NULL && to->pool != NULL)
		why = best(out, from, to, seconds);
	rte_mempool_free(to->pool);
	rte_mempool_free(from->pool);
	return why;
}

const char *
limit_measure(FILE *out, double seconds, uint32_t size, bool mbufs, const char *isa)
{
	uint32_t stride = RTE_ALIGN(size, (uint32_t)RTE_CACHE_LINE_SIZE);
	size_t buffers = (size_t)BURST * stride;
	struct limit_side from = { .size = size, .stride = stride }, to;
	const char *why = "limit: there is no memory for the ring";

	variant = choose(isa);
	if (variant == NULL)
		return "limit: isa: give avx512, avx2 or base, and what this processor has";
	from.ring = rte_zmalloc(NULL, sizeof(*from.ring) + (size_t)LIMIT_SLOTS * stride, 4096);
	to = from;
	from.buffers = rte_zmalloc(NULL, buffers, 4096);
	to.buffers = rte_zmalloc(NULL, buffers, 4096);
	if (from.ring != NULL && from.buffers != NULL && to.buffers != NULL)
		why = mbufs ? with_mbufs(out, &from, &to, seconds) : best(out, &from, &to, seconds);
	rte_free(to.buffers);
	rte_free(from.buffers);
	rte_free(from.ring);
	return why;
}
