/* SPDX-License-Identifier: Apache-2.0 */

/** @file One measurement, by the worker lcore. */

#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>

#include "dialogue.h"
#include "latency.h"
#include "udp.h"

#define WARM_UP 0.3	/* seconds, in which nothing counts */
#define DRAIN 0.3	/* behind the last frame */
#define UDP_PORT 1000
#define MAGIC UINT64_C(0x6c6174656e6379)

/* Behind the headers; not aligned there. */
struct stamp {
	uint64_t due;	/* TSC */
	uint64_t magic;
};

static struct run plan;
static struct udp_headers template;
static struct state {
	struct histogram histogram;
	uint64_t begin, end;	/* TSC: what is due between them counts */
	uint64_t sent, received, refused, foreign, missed, arrived_inside;
	bool no_mbufs;
} state;

static bool
counts(uint64_t due)
{
	return due >= state.begin && due < state.end;
}

/* Frames that are due at `first`, `first + step` and so on. */
static void
send_due(uint64_t first, double step, uint16_t n)
{
	struct rte_mbuf *pkts[BURST];
	uint16_t i, taken;

	if (rte_pktmbuf_alloc_bulk(pool, pkts, n) != 0) {
		state.no_mbufs = true;
		return;
	}
	for (i = 0; i < n; i++) {
		struct stamp stamp = {
			.due = first + (uint64_t)(i * step),
			.magic = MAGIC,
		};
		uint8_t *frame = rte_pktmbuf_mtod(pkts[i], uint8_t *);

		memcpy(frame, &template, sizeof(template));
		memcpy(frame + sizeof(template), &stamp, sizeof(stamp));
		pkts[i]->data_len = (uint16_t)plan.size;
		pkts[i]->pkt_len = plan.size;
	}
	taken = rte_eth_tx_burst(0, 0, pkts, n);
	for (i = 0; i < n; i++) {
		if (!counts(first + (uint64_t)(i * step)))
			continue;
		if (i < taken)
			state.sent++;
		else
			state.refused++;
	}
	rte_pktmbuf_free_bulk(&pkts[taken], n - taken);
}

static void
take(struct rte_mbuf **pkts, uint16_t n, double ns_per_cycle)
{
	uint64_t now = rte_rdtsc();
	uint16_t i;

	for (i = 0; i < n; i++) {
		struct stamp stamp = { 0 };

		if (pkts[i]->data_len >= sizeof(template) + sizeof(stamp))
			memcpy(&stamp, rte_pktmbuf_mtod_offset(pkts[i], const void *,
							       sizeof(template)),
			       sizeof(stamp));
		if (stamp.magic != MAGIC) {
			state.foreign++;
			continue;
		}
		if (counts(now))
			state.arrived_inside++;
		if (!counts(stamp.due))
			continue;
		state.received++;
		histogram_add(&state.histogram, (uint64_t)((double)(now - stamp.due) *
							   ns_per_cycle));
	}
	rte_pktmbuf_free_bulk(pkts, n);
}

static void
receive(double ns_per_cycle)
{
	struct rte_mbuf *pkts[BURST];
	uint16_t last = plan.echo ? 0 : 1, n, back;

	if (plan.echo) {
		n = rte_eth_rx_burst(1, 0, pkts, BURST);
		back = n == 0 ? 0 : rte_eth_tx_burst(1, 0, pkts, n);
		rte_pktmbuf_free_bulk(&pkts[back], n - back);
	}
	n = rte_eth_rx_burst(last, 0, pkts, BURST);
	if (n != 0)
		take(pkts, n, ns_per_cycle);
	if (!plan.echo) {
		/* Not ours, but a link that comes and goes wants its port to be polled. */
		n = rte_eth_rx_burst(0, 0, pkts, BURST);
		rte_pktmbuf_free_bulk(pkts, n);
	}
}

static int
work(__rte_unused void *opaque)
{
	double hz = (double)rte_get_tsc_hz(), ns = 1e9 / hz;
	double step = plan.rate > 0 ? hz / plan.rate : 0, due;
	uint64_t start = rte_rdtsc(), now = start, stop;

	state.begin = start + (uint64_t)(WARM_UP * hz);
	state.end = state.begin + (uint64_t)(plan.seconds * hz);
	stop = state.end + (uint64_t)(DRAIN * hz);
	for (due = (double)start; now < stop; now = rte_rdtsc()) {
		if (now < state.end && step == 0) {
			send_due(now, 0, BURST);
		} else if (now < state.end && due <= (double)now) {
			uint64_t n = (uint64_t)(((double)now - due) / step) + 1;

			n = RTE_MIN(n, (uint64_t)BURST);
			send_due((uint64_t)due, step, (uint16_t)n);
			due += (double)n * step;
		}
		receive(ns);
	}
	if (step > 0 && due < (double)state.end)
		state.missed = (uint64_t)(((double)state.end - due) / step);
	return 0;
}

const char *
run_measure(FILE *out, const struct run *run)
{
	unsigned int worker = rte_get_next_lcore(-1, 1, 0);

	plan = *run;
	memset(&state, 0, sizeof(state));
	udp_headers_fill(&template, run->size, UDP_PORT, UDP_PORT);
	rte_eal_remote_launch(work, NULL, worker);
	rte_eal_wait_lcore(worker);
	if (state.no_mbufs)
		return "run: the driver has kept all mbufs";
	fputs("{", out);
	put_number(out, "sent", state.sent);
	put_number(out, "received", state.received);
	put_number(out, "refused", state.refused);
	put_number(out, "missed", state.missed);
	put_number(out, "foreign", state.foreign);
	fprintf(out, "\"rate\": %.1f, \"bins\": ", (double)state.arrived_inside / run->seconds);
	histogram_write(out, &state.histogram);
	fputs("}\n", out);
	return NULL;
}
