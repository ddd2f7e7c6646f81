/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Sending: frames of all classes of the plan by turns, of random size and segmentation. What
 * tx_burst refuses is offered again before anything else, or, if the plan says so, taken back: its
 * numbers are given to other frames, so that a gap in the numbers is always a loss.
 */

#include <string.h>

#include "traffic.h"

#define WRITE_OFF_S 2

static inline uint64_t
next_random(struct tx_queue *txq)
{
	uint64_t x = txq->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	txq->random = x;
	return x;
}

static uint32_t
choose_size(struct tx_queue *txq, const struct plan *plan, const struct frame_class *class)
{
	const struct size_range *range = &plan->sizes[0];
	uint32_t size;

	if (plan->n_sizes > 1)
		range = &plan->sizes[next_random(txq) % plan->n_sizes];
	size = range->least;
	if (range->most > range->least)
		size += (uint32_t)(next_random(txq) % (range->most - range->least + 1));
	return RTE_MAX(size, frame_least(class));
}

/* ------------------------------------------------------------------------------- one frame --- */

/* Spread a frame over a chain of segments of random lengths and headrooms; NULL: no mbufs. */
static struct rte_mbuf *
make_chain(struct tx_queue *txq, const uint8_t *frame, uint32_t length, unsigned int segments)
{
	uint32_t room = rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM;
	unsigned int least = (length + room - 1) / room, n, i;
	struct rte_mbuf *chain[MAX_SEGMENTS];
	uint32_t whole = length;

	n = RTE_MAX(least, 1 + (unsigned int)(next_random(txq) % segments));
	n = RTE_MIN(n, (unsigned int)MAX_SEGMENTS);
	if (rte_pktmbuf_alloc_bulk(pool, chain, n) != 0)
		return NULL;
	for (i = 0; i < n; i++) {
		/* So much at least that the segments behind can hold the rest, and one byte for
		 * each of them at most.
		 */
		uint32_t behind = (n - 1 - i) * room;
		uint32_t low = length > behind ? RTE_MAX(length - behind, 1U) : 1;
		uint32_t high = RTE_MIN(room, length - (n - 1 - i));
		uint32_t piece = low + (uint32_t)(next_random(txq) % (high - low + 1));

		chain[i]->data_off = (uint16_t)(next_random(txq) % (RTE_PKTMBUF_HEADROOM + 1));
		chain[i]->data_len = (uint16_t)piece;
		memcpy(rte_pktmbuf_mtod(chain[i], void *), frame, piece);
		frame += piece;
		length -= piece;
		if (i > 0)
			chain[i - 1]->next = chain[i];
	}
	chain[0]->nb_segs = (uint16_t)n;
	chain[0]->pkt_len = whole;
	return chain[0];
}

static struct rte_mbuf *
make_frame(struct tx_queue *txq, const struct plan *plan, uint8_t class)
{
	uint32_t size = choose_size(txq, plan, &frame_classes[class]);
	struct stream_id id = {
		.source = ports[txq->port].source, .class = class, .queue = (uint8_t)txq->queue,
	};
	uint64_t number = txq->next[class];
	uint8_t scratch[MAX_FRAME];
	struct rte_mbuf *mbuf;

	if (plan->segments > 1 || size > settings.room) {
		frame_build(scratch, size, id, number);
		return make_chain(txq, scratch, size, plan->segments);
	}
	mbuf = rte_pktmbuf_alloc(pool);
	if (mbuf == NULL)
		return NULL;
	mbuf->data_len = (uint16_t)size;
	mbuf->pkt_len = size;
	frame_build(rte_pktmbuf_mtod(mbuf, uint8_t *), size, id, number);
	return mbuf;
}

/* ---------------------------------------------------------------------------------- bursts --- */

/* How many more the window lets go. What has not come for long is taken for lost. */
static uint64_t
window_left(struct tx_queue *txq, const struct port *port)
{
	uint64_t arrived = receive_from(port->source, txq->queue), now;
	uint64_t limit = arrived + txq->written_off + port->plan.window;

	if (port->plan.window == 0)
		return UINT64_MAX;
	if (txq->packets < limit)
		return limit - txq->packets;
	now = rte_rdtsc();
	if (arrived != txq->arrived || txq->arrived_tsc == 0) {
		txq->arrived = arrived;
		txq->arrived_tsc = now;
	} else if (now - txq->arrived_tsc > WRITE_OFF_S * rte_get_tsc_hz()) {
		traffic_add(&txq->written_off, txq->packets - arrived - txq->written_off);
		txq->arrived_tsc = now;
	}
	return 0;
}

static uint64_t
may_send(struct tx_queue *txq, const struct port *port)
{
	const struct plan *plan = &port->plan;
	uint64_t left = window_left(txq, port), sent = txq->packets - txq->began;

	if (plan->count != 0)
		left = RTE_MIN(left, plan->count - RTE_MIN(sent, plan->count));
	if (plan->rate != 0) {
		uint64_t due = (uint64_t)((double)(rte_rdtsc() - txq->began_tsc) * plan->rate /
					  rte_get_tsc_hz());

		left = RTE_MIN(left, due - RTE_MIN(sent, due));
	}
	return left;
}

static void
make_burst(struct tx_queue *txq, const struct port *port)
{
	const struct plan *plan = &port->plan;
	uint64_t left = RTE_MIN(may_send(txq, port), (uint64_t)settings.burst);

	while (txq->n_pending < left) {
		uint8_t class = plan->classes[txq->turn];
		struct rte_mbuf *mbuf = make_frame(txq, plan, class);

		if (mbuf == NULL) {
			traffic_add(&txq->nombuf, 1);
			break;
		}
		txq->next[class]++;
		txq->pending[txq->n_pending] = mbuf;
		txq->pending_class[txq->n_pending++] = class;
		txq->turn = txq->turn + 1 >= plan->n_classes ? 0 : txq->turn + 1;
	}
}

/* The last ones first, so that each class goes on where it was. */
static void
take_back(struct tx_queue *txq)
{
	while (txq->n_pending > 0) {
		txq->n_pending--;
		txq->next[txq->pending_class[txq->n_pending]]--;
		rte_pktmbuf_free(txq->pending[txq->n_pending]);
	}
}

/** Offer a burst; return whether there was any. */
bool
send_some(struct tx_queue *txq)
{
	const struct port *port = &ports[txq->port];
	uint32_t lengths[MAX_BURST];
	uint16_t taken, i;
	uint64_t bytes = 0;

	if (txq->n_pending == 0) {
		if (!__atomic_load_n(&port->sending, __ATOMIC_ACQUIRE) ||
		    (port->plan.queues & UINT32_C(1) << txq->queue) == 0)
			return false;
		make_burst(txq, port);
		if (txq->n_pending == 0)
			return false;
	}
	for (i = 0; i < txq->n_pending; i++)
		lengths[i] = txq->pending[i]->pkt_len;
	taken = rte_eth_tx_burst(txq->port, txq->queue, txq->pending, (uint16_t)txq->n_pending);
	for (i = 0; i < taken; i++) {
		txq->sent[txq->pending_class[i]]++;
		bytes += lengths[i];
	}
	traffic_add(&txq->packets, taken);
	traffic_add(&txq->bytes, bytes);
	if (taken < txq->n_pending)
		traffic_add(&txq->refused, txq->n_pending - taken);
	txq->n_pending -= taken;
	memmove(txq->pending, txq->pending + taken, txq->n_pending * sizeof(txq->pending[0]));
	memmove(txq->pending_class, txq->pending_class + taken, txq->n_pending);
	if (port->plan.drop)
		take_back(txq);
	return taken != 0;
}
