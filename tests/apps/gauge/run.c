/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Packets from one port to another, and the cycles of each burst call. What tx_burst has not taken
 * is offered again. To wait for room in a ring, or for a packet, is not the cost of one: calls that
 * took less than they were offered, and polls that found nothing, are counted apart. So are calls
 * that somebody interrupted: those of ten times the mean of the warm-up's.
 */

#include <inttypes.h>

#include <rte_ethdev.h>
#include <rte_pause.h>

#include "dialogue.h"
#include "gauge.h"

#define INTERRUPTED 10
#define DRAIN_MS 200 /* without a packet, before the rest is taken for lost */

struct calls {
	uint64_t calls, packets, cycles;
};

static struct tx {
	struct window window;
	uint64_t bound;		/**< cycles: a call that took more was interrupted */
	struct calls whole;	/**< took all that they were offered */
	struct calls part;
	struct calls interrupted;
	uint64_t packets;	/**< from the very start, in all calls */
	bool no_mbufs;
} __rte_cache_aligned tx;

static struct rx {
	struct window window;
	uint64_t bound;
	struct calls found;
	struct calls empty;
	struct calls interrupted;
	uint64_t packets;
} __rte_cache_aligned rx;

static struct run plan;

static inline void
count(struct calls *calls, uint64_t packets, uint64_t cycles)
{
	calls->calls++;
	calls->packets += packets;
	calls->cycles += cycles;
}

static uint64_t
bound(const struct calls *warm_up)
{
	return warm_up->calls == 0 ? UINT64_MAX : warm_up->cycles / warm_up->calls * INTERRUPTED;
}

static inline uint64_t
cycles_since(uint64_t began)
{
	uint64_t cycles = rte_rdtsc() - began;

	return cycles - RTE_MIN(cycles, rdtsc_cycles);
}

static inline uint16_t
next_queue(uint16_t queue)
{
	return (uint16_t)(queue + 1U == plan.n_queues ? 0 : queue + 1);
}

/* ---------------------------------------------------------------------------------- workers --- */

/* false: the time is up. */
static inline bool
sending(void)
{
	enum phase phase = phase_now();

	if (unlikely(phase == PHASE_COUNT && !tx.window.open)) {
		tx = (struct tx){
			.packets = tx.packets,
			.bound = bound(&tx.whole),
			.window.open = true,
		};
		tx.window.begin = rte_rdtsc();
	}
	return phase <= PHASE_COUNT;
}

static void
offer(uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	while (n != 0) {
		uint64_t began = rte_rdtsc();
		uint16_t taken = rte_eth_tx_burst(plan.from, queue, pkts, n);
		uint64_t cycles = cycles_since(began);

		if (unlikely(cycles > tx.bound))
			count(&tx.interrupted, taken, cycles);
		else
			count(taken == n ? &tx.whole : &tx.part, taken, cycles);
		tx.packets += taken;
		pkts += taken;
		n = (uint16_t)(n - taken);
		if (n != 0 && !sending())
			break;
	}
	rte_pktmbuf_free_bulk(pkts, n);
}

static int
send_all(__rte_unused void *opaque)
{
	struct rte_mbuf *pkts[BURST];
	uint16_t queue = 0;

	while (sending()) {
		if (unlikely(rte_pktmbuf_alloc_bulk(tx_pool, pkts, BURST) != 0)) {
			tx.no_mbufs = true;
			continue;
		}
		frames_write(pkts, BURST);
		offer(queue, pkts, BURST);
		queue = next_queue(queue);
	}
	tx.window.end = rte_rdtsc();
	return 0;
}

static uint16_t
receive_burst(uint16_t queue)
{
	struct rte_mbuf *pkts[BURST];
	uint64_t began = rte_rdtsc();
	uint16_t got = rte_eth_rx_burst((uint16_t)plan.to, queue, pkts, BURST);
	uint64_t cycles = cycles_since(began);

	if (unlikely(cycles > rx.bound))
		count(&rx.interrupted, got, cycles);
	else
		count(got != 0 ? &rx.found : &rx.empty, got, cycles);
	rx.packets += got;
	if (got != 0)
		rte_pktmbuf_free_bulk(pkts, got);
	return got;
}

/* Take what is still under way, without counting. */
static void
drain(void)
{
	uint64_t last = rte_rdtsc(), patience = rte_get_tsc_hz() / 1000 * DRAIN_MS;
	struct rx counted = rx;
	uint16_t queue, got;

	for (;;) {
		for (got = 0, queue = 0; queue < plan.n_queues; queue++)
			got = (uint16_t)(got + receive_burst(queue));
		if (got != 0)
			last = rte_rdtsc();
		else if (phase_now() == PHASE_END && rte_rdtsc() - last > patience)
			break;
	}
	counted.packets = rx.packets;
	rx = counted;
}

static int
receive_all(__rte_unused void *opaque)
{
	uint16_t queue = 0;
	enum phase phase;

	while ((phase = phase_now()) <= PHASE_COUNT) {
		if (unlikely(phase == PHASE_COUNT && !rx.window.open)) {
			rx = (struct rx){
				.packets = rx.packets,
				.bound = bound(&rx.found),
				.window.open = true,
			};
			rx.window.begin = rte_rdtsc();
		}
		receive_burst(queue);
		queue = next_queue(queue);
	}
	rx.window.end = rte_rdtsc();
	drain();
	return 0;
}

/* ----------------------------------------------------------------------------------- answer --- */

static void
put_calls(FILE *out, const char *name, const struct calls *calls, const char *end)
{
	fprintf(out, "\"%s\": {\"calls\": %" PRIu64 ", \"packets\": %" PRIu64 ", \"cycles\": %"
		PRIu64 "}%s", name, calls->calls, calls->packets, calls->cycles, end);
}

static void
put_side(FILE *out, const char *name, const struct window *window)
{
	fprintf(out, "\"%s\": {\"seconds\": %.6f, ", name,
		window->open ? window_seconds(window) : 0.0);
}

const char *
run_measure(FILE *out, const struct run *run)
{
	double trip;

	plan = *run;
	tx = (struct tx){ .bound = UINT64_MAX };
	rx = (struct rx){ .bound = UINT64_MAX };
	frames_prepare(run->n_classes, run->size);
	trip = phase_run(run->seconds, send_all, run->to < 0 ? NULL : receive_all);
	if (tx.no_mbufs)
		return "run: the driver has kept all mbufs of the sender";
	fputs("{", out);
	put_number(out, "tsc_hz", rte_get_tsc_hz());
	put_number(out, "rdtsc_cycles", rdtsc_cycles);
	put_number(out, "sent", tx.packets);
	put_number(out, "received", rx.packets);
	fprintf(out, "\"round_trip_ns\": %.1f, ", trip);
	put_side(out, "tx", &tx.window);
	put_calls(out, "whole", &tx.whole, ", ");
	put_calls(out, "part", &tx.part, ", ");
	put_calls(out, "interrupted", &tx.interrupted, "}, ");
	put_side(out, "rx", &rx.window);
	put_calls(out, "found", &rx.found, ", ");
	put_calls(out, "empty", &rx.empty, ", ");
	put_calls(out, "interrupted", &rx.interrupted, "}}\n");
	return NULL;
}
