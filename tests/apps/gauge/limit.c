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

static void
answer(FILE *out, double trip)
{
	double seconds = window_seconds(&receiver.window);
	double mpps = (double)receiver.packets / seconds / 1e6;

	fputs("{", out);
	put_number(out, "tsc_hz", rte_get_tsc_hz());
	put_number(out, "sent", sender.all);
	put_number(out, "received", receiver.all);
	fprintf(out, "\"round_trip_ns\": %.1f, ", trip);
	fprintf(out, "\"isa\": \"%s\", \"seconds\": %.6f, \"mpps\": %.6f, "
		"\"cycles_per_packet\": %.3f}\n", variant->name, seconds, mpps,
		(double)rte_get_tsc_hz() / (mpps * 1e6));
}

const char *
limit_measure(FILE *out, double seconds, uint32_t size, bool mbufs, const char *isa)
{
	uint32_t stride = RTE_ALIGN(size, (uint32_t)RTE_CACHE_LINE_SIZE);
	size_t buffers = (size_t)BURST * stride;
	struct limit_side side = { .size = size, .stride = stride, .mbufs = mbufs };
	const char *why = "limit: there is no memory for the ring";

	variant = choose(isa);
	if (variant == NULL)
		return "limit: isa: give avx512, avx2 or base, and what this processor has";
	side.ring = rte_zmalloc(NULL, sizeof(*side.ring) + (size_t)LIMIT_SLOTS * stride, 4096);
	sender = side;
	receiver = side;
	sender.buffers = rte_zmalloc(NULL, buffers, 4096);
	receiver.buffers = rte_zmalloc(NULL, buffers, 4096);
	if (side.ring != NULL && sender.buffers != NULL && receiver.buffers != NULL) {
		double trip = phase_run(seconds, send, receive);
		why = sender.all != receiver.all ? "limit: mbufs ran out" : NULL;
		if (why == NULL)
			answer(out, trip);
	}
	rte_free(receiver.buffers);
	rte_free(sender.buffers);
	rte_free(side.ring);
	return why;
}
