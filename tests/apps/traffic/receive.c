/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Receiving: each frame is checked by itself and within its stream, or forwarded to the same
 * queue of another port.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

static struct stream *streams[MAX_PORTS][MAX_SOURCES][MAX_CLASSES][MAX_QUEUES];
static struct rhythm rhythms[MAX_SOURCES][MAX_CLASSES][MAX_QUEUES];

const struct rhythm *
receive_rhythm(struct stream_id id)
{
	return &rhythms[id.source][id.class][id.queue];
}

struct stream *
receive_stream(uint16_t port, struct stream_id id)
{
	return __atomic_load_n(&streams[port][id.source][id.class][id.queue], __ATOMIC_ACQUIRE);
}

static struct stream *
find_stream(uint16_t port, struct stream_id id)
{
	struct stream **place = &streams[port][id.source][id.class][id.queue];

	if (likely(*place != NULL))
		return *place;
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		rte_panic("no memory for a stream\n");
	stream->id = id;
	__atomic_store_n(place, stream, __ATOMIC_RELEASE);
	return stream;
}

uint64_t
receive_from(uint8_t source, uint16_t queue)
{
	uint64_t sum = 0;
	unsigned int p;
	uint16_t q;

	for (p = 0; p < n_ports; p++) {
		for (q = 0; q < ports[p].n_rxq; q++)
			sum += traffic_read(&ports[p].rx[q].from[source][queue]);
	}
	return sum;
}

/** Silence until now was on purpose. */
void
receive_forget_gaps(void)
{
	memset(rhythms, 0, sizeof(rhythms));
}

/* ------------------------------------------------------------------------ order and number --- */

static bool
was_seen(const struct stream *s, uint64_t number)
{
	return (s->seen[number % SEEN_WINDOW / 64] >> number % 64 & 1) != 0;
}

static void
set_seen(struct stream *s, uint64_t number, bool seen)
{
	uint64_t bit = UINT64_C(1) << number % 64;
	uint64_t *word = &s->seen[number % SEEN_WINDOW / 64];

	*word = seen ? *word | bit : *word & ~bit;
}

static void
tell(const struct rx_queue *rxq, const struct stream *s, const char *what, uint64_t number)
{
	notes_add("%s: port %u queue %u, source %u class %u queue %u, number %" PRIu64
		  ", next is %" PRIu64, what, rxq->port, rxq->queue, s->id.source, s->id.class,
		  s->id.queue, number, s->next);
}

/* Forget the numbers that fall out of the window, and those that are skipped. */
static void
skip_to(struct stream *s, uint64_t number)
{
	if (number - s->next >= SEEN_WINDOW) {
		memset(s->seen, 0, sizeof(s->seen));
		s->next = number;
	}
	for (; s->next < number; s->next++)
		set_seen(s, s->next, false);
}

static void
note_number(struct rx_queue *rxq, struct stream *s, uint64_t number, uint32_t length)
{
	if (likely(number >= s->next)) {
		if (unlikely(number > s->next))
			skip_to(s, number);
		s->next = number + 1;
	} else {
		/* What is older than the window cannot be told from a double. */
		if (s->next - number > SEEN_WINDOW || was_seen(s, number)) {
			tell(rxq, s, "doubled", number);
			traffic_add(&s->doubled, 1);
			return;
		}
		tell(rxq, s, "reordered", number);
		traffic_add(&s->reordered, 1);
	}
	set_seen(s, number, true);
	traffic_add(&s->received, 1);
	traffic_add(&s->bytes, length);
	traffic_add(&rxq->from[s->id.source][s->id.queue], 1);
}

/* ----------------------------------------------------------------------------------- mbufs --- */

static bool
mbuf_sound(const struct rx_queue *rxq, const struct rte_mbuf *mbuf)
{
	const struct rte_mbuf *segment;
	uint32_t length = 0, n = 0;

	for (segment = mbuf; segment != NULL; segment = segment->next) {
		if (segment->data_len == 0 || rte_mbuf_refcnt_read(segment) != 1 ||
		    segment->data_off + segment->data_len > segment->buf_len)
			return false;
		length += segment->data_len;
		n++;
	}
	return mbuf->port == rxq->port && n == mbuf->nb_segs && length == mbuf->pkt_len;
}

static void
note_shape(struct rx_queue *rxq, const struct rte_mbuf *mbuf)
{
	struct shape shape;
	unsigned int i;

	memset(&shape, 0, sizeof(shape));
	shape.ol_flags = mbuf->ol_flags;
	shape.packet_type = mbuf->packet_type;
	shape.data_off = mbuf->data_off;
	shape.vlan_tci = mbuf->vlan_tci;
	shape.vlan_tci_outer = mbuf->vlan_tci_outer;
	shape.port = mbuf->port;
	shape.tx_offload = mbuf->tx_offload;
	for (i = 0; i < rxq->n_shapes; i++) {
		if (memcmp(&rxq->shapes[i], &shape, sizeof(shape)) == 0)
			break;
	}
	if (i == MAX_SHAPES)
		return;
	if (i == rxq->n_shapes) {
		rxq->shapes[i] = shape;
		__atomic_store_n(&rxq->n_shapes, i + 1, __ATOMIC_RELEASE);
	}
	traffic_add(&rxq->shape_packets[i], 1);
}

/* ---------------------------------------------------------------------------------- bursts --- */

static void
keep_time(struct rhythm *rhythm, uint64_t number, uint64_t now)
{
	if (rhythm->last_tsc != 0 && now - rhythm->last_tsc > rhythm->longest_gap) {
		rhythm->longest_gap = now - rhythm->last_tsc;
		rhythm->longest_gap_at = number;
	}
	rhythm->last_tsc = now;
}

static void
check(struct rx_queue *rxq, const struct rte_mbuf *mbuf, uint64_t now)
{
	uint32_t length = mbuf->pkt_len;
	uint8_t scratch[MAX_FRAME];
	enum frame_verdict verdict;
	const uint8_t *frame;
	struct stream_id id;
	uint64_t number = 0;
	struct stream *s;

	note_shape(rxq, mbuf);
	if (unlikely(!mbuf_sound(rxq, mbuf) || length > sizeof(scratch))) {
		notes_add("bad mbuf: port %u queue %u, %u bytes, %u segments", rxq->port,
			  rxq->queue, length, mbuf->nb_segs);
		traffic_add(&rxq->bad_mbuf, 1);
		return;
	}
	if (mbuf->nb_segs > 1)
		traffic_add(&rxq->multi_segment, 1);
	frame = rte_pktmbuf_read(mbuf, 0, length, scratch);
	verdict = frame_check(frame, length, &id, &number);
	if (unlikely(verdict != FRAME_OK)) {
		if (verdict == FRAME_CORRUPT)
			notes_add("corrupt: port %u queue %u, source %u class %u queue %u, number %"
				  PRIu64 ", %u bytes", rxq->port, rxq->queue, id.source, id.class,
				  id.queue, number, length);
		traffic_add(verdict == FRAME_CORRUPT ? &rxq->corrupt : &rxq->foreign, 1);
		return;
	}
	s = find_stream(rxq->port, id);
	if (unlikely(id.queue % ports[rxq->port].n_rxq != rxq->queue)) {
		if (s->misdirected == 0)
			tell(rxq, s, "misdirected", number);
		traffic_add(&s->misdirected, 1);
	}
	keep_time(&rhythms[id.source][id.class][id.queue], number, now);
	note_number(rxq, s, number, length);
}

/* Nobody may have changed what an application still has. */
static void
let_go(struct rx_queue *rxq, uint64_t keep)
{
	uint8_t scratch[MAX_FRAME];

	for (; rxq->held_next - rxq->held_first > keep; rxq->held_first++) {
		struct rte_mbuf *mbuf = rxq->held[rxq->held_first % MAX_HELD];
		struct stream_id id;
		uint64_t number;

		if (frame_check(rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, scratch), mbuf->pkt_len,
				&id, &number) != FRAME_OK) {
			notes_add("changed while it was held: port %u queue %u", rxq->port,
				  rxq->queue);
			traffic_add(&rxq->corrupt, 1);
		}
		rte_pktmbuf_free(mbuf);
	}
}

static void
hold(struct rx_queue *rxq, struct rte_mbuf *mbuf)
{
	let_go(rxq, MAX_HELD - 1);
	rxq->held[rxq->held_next++ % MAX_HELD] = mbuf;
}

/* As a router would; a flow on the way may have rewritten it. */
static void
restore_destination(struct rte_mbuf *mbuf)
{
	static const uint8_t address[RTE_ETHER_ADDR_LEN] = { 0x02, 0, 0, 0, 0, 0x01 };

	if (mbuf->data_len >= sizeof(address))
		memcpy(rte_pktmbuf_mtod(mbuf, void *), address, sizeof(address));
}

static bool
forward_pending(struct rx_queue *rxq, uint16_t to)
{
	uint16_t taken = rte_eth_tx_burst(to, rxq->queue, rxq->pending,
					  (uint16_t)rxq->n_pending);

	traffic_add(&rxq->forwarded, taken);
	rxq->n_pending -= taken;
	memmove(rxq->pending, rxq->pending + taken, rxq->n_pending * sizeof(rxq->pending[0]));
	return taken != 0;
}

/** Take a burst; return whether there was any. */
bool
receive_some(struct rx_queue *rxq)
{
	int to = ports[rxq->port].forward_to;
	struct rte_mbuf *burst[MAX_BURST];
	uint64_t now, bytes = 0;
	unsigned int held;
	uint16_t n, i;

	/* What the next hop refuses waits here, and what is behind it in the ring. */
	if (rxq->n_pending != 0)
		return forward_pending(rxq, (uint16_t)to);
	held = __atomic_load_n(&settings.held, __ATOMIC_RELAXED);
	let_go(rxq, held);
	n = rte_eth_rx_burst(rxq->port, rxq->queue, burst, (uint16_t)settings.burst);
	if (n == 0)
		return false;
	now = rte_rdtsc();
	for (i = 0; i < n; i++)
		bytes += burst[i]->pkt_len;
	traffic_add(&rxq->packets, n);
	traffic_add(&rxq->bytes, bytes);
	if (to >= 0) {
		for (i = 0; i < n; i++)
			restore_destination(burst[i]);
		memcpy(rxq->pending, burst, n * sizeof(burst[0]));
		rxq->n_pending = n;
		forward_pending(rxq, (uint16_t)to);
		return true;
	}
	for (i = 0; i < n; i++)
		check(rxq, burst[i], now);
	for (i = 0; held != 0 && i < n; i++)
		hold(rxq, burst[i]);
	if (held == 0)
		rte_pktmbuf_free_bulk(burst, n);
	return true;
}
