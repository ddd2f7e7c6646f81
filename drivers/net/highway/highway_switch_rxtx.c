/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Bursts of the switch role. OVS sees one receive queue, into which all transmit rings of the VNF
 * are merged. Between its packets a VNF's ring carries marks, and here they become marks in the
 * peer's rings: the switch is the clock of every change of channel.
 */

#include <rte_cycles.h>

#include "highway.h"
#include "highway_copy.h"
#include "highway_put.h"

#define QUEUE_TAG 0x48570000U /* in hash.fdir.hi of what came from a VNF: "HW", and its queue */
#define QUEUE_MASK 0x0000ffffU
#define FLUSH_POLLS 2 /* between the first and the third lies a whole round of OVS's thread */
#define SUPPRESSED_MS 100 /* OVS's offload thread may sleep for 64 ms before it destroys a rule */
#define DESTROYED_MS 2 /* until OVS has also forgotten what it had counted for it */

/* ----------------------------------------------------------------------------------- marks --- */

/* Put pending marks of one kind into one ring; false if it is full. */
static bool
flush_kind(struct highway_switch_tx *tx, uint32_t ring, bool enter)
{
	uint32_t bit = UINT32_C(1) << ring, i;

	for (i = 0; i < tx->n_pending; i++) {
		struct highway_pending *p = &tx->pending[i];
		uint32_t *rings = enter ? &p->enter_rings : &p->leave_rings;
		struct highway_sync sync = p->sync;

		if ((*rings & bit) == 0)
			continue;
		if (enter)
			sync.leave = 0;
		else
			sync.entered = 0;
		if (!highway_producer_mark(&tx->rings[ring], HIGHWAY_DESC_SYNC, &sync,
					   sizeof(sync)))
			return false;
		*rings &= ~bit;
	}
	return true;
}

/*
 * Put what is pending into one ring; false if it is full. Under the tx lock.
 *
 * No Leave goes in while an Enter is missing, whoever's it is: the receiver would stop at the
 * Leave, and what that waits for may be another queue's Leave that stops at the lack of this Enter.
 */
static bool
flush_pending(struct highway_switch_tx *tx, uint32_t ring)
{
	uint32_t all_rings = (UINT32_C(1) << tx->n_rings) - 1, i = 0;
	bool all = flush_kind(tx, ring, true) && flush_kind(tx, ring, false);

	while (i < tx->n_pending) {
		const struct highway_pending *p = &tx->pending[i];

		if (((p->enter_rings | p->leave_rings) & all_rings) == 0)
			tx->pending[i] = tx->pending[--tx->n_pending];
		else
			i++;
	}
	highway_producer_publish(&tx->rings[ring]);
	return all;
}

static void
flush_all(struct highway_switch_tx *tx)
{
	uint32_t ring;

	for (ring = 0; ring < tx->n_rings; ring++)
		flush_pending(tx, ring);
}

/* Marks that have found a ring full, and for which no packet comes that would take them along. */
static void
retry(struct highway_switch_tx *tx)
{
	rte_spinlock_lock(&tx->lock);
	flush_all(tx);
	rte_spinlock_unlock(&tx->lock);
}

/* The entry for this sender queue; NULL if the table is full. */
static struct highway_pending *
pending_of(struct highway_switch_tx *tx, uint64_t source_id, uint64_t link_id, uint32_t queue)
{
	struct highway_pending *p;
	uint32_t i;

	for (i = 0; i < tx->n_pending; i++) {
		p = &tx->pending[i];
		if (p->sync.source_id == source_id && p->sync.queue == queue)
			break;
	}
	if (i == HIGHWAY_MAX_PENDING)
		return NULL;
	p = &tx->pending[i];
	if (i == tx->n_pending || p->sync.link_id != link_id) {
		*p = (struct highway_pending){
			.sync = {
				.source_id = source_id,
				.link_id = link_id,
				.queue = queue,
			},
		};
		if (i == tx->n_pending)
			tx->n_pending++;
	}
	return p;
}

/* Pass a mark on to the peer. What finds a ring full waits for the peer's next poll or packet. */
static void
pass_on(struct highway_switch_rxq *rxq, uint32_t queue, const struct highway_marker *marker,
	bool enter)
{
	struct highway_port *peer;
	struct highway_switch_tx *tx;
	struct highway_pending *p;

	/* Held only for marks, so that a peer that is being deleted stays until we are done. */
	rte_spinlock_lock(&highway_ports_spin);
	peer = highway_switch_find(marker->peer_id);
	if (peer == NULL || highway_switch_peer(rxq->port, marker->peer_id, false) == NULL) {
		rxq->errors += peer != NULL;
		goto out;
	}
	tx = &peer->sw->tx;
	rte_spinlock_lock(&tx->lock);
	p = pending_of(tx, rxq->port->region_id, marker->link_id, queue);
	if (p != NULL) {
		/* All bits: also for rings that the VNF is only about to read. */
		if (enter) {
			p->sync.entered = RTE_MAX(p->sync.entered, marker->value);
			p->enter_rings = UINT32_MAX;
		} else {
			p->sync.leave = RTE_MAX(p->sync.leave, marker->value);
			p->leave_rings = UINT32_MAX;
		}
		flush_all(tx);
	} else {
		rxq->errors++;
	}
	rte_spinlock_unlock(&tx->lock);
out:
	rte_spinlock_unlock(&highway_ports_spin);
}

/* --------------------------------------------------------------------------------- receive --- */

/* Before the first packet of a poll: marks that waited for it. false: the ring is to wait on. */
static bool
begin_poll(struct highway_switch_rxq *rxq, uint32_t queue)
{
	struct highway_switch_ring *ring = &rxq->rings[queue];

	if (unlikely(ring->enter.peer_id != 0)) {
		/* What was in front of the mark has reached the peers' rings, for OVS flushes
		 * after each batch; with tx-flush-interval, in the round over its ports that
		 * follows that time, however long this thread was held up.
		 */
		if (ring->enter_tsc != 0 && rte_rdtsc() < ring->enter_tsc)
			return false;
		if (ring->enter_polls != 0) {
			ring->enter_polls--;
			return false;
		}
		pass_on(rxq, queue, &ring->enter, true);
		ring->enter.peer_id = 0;
	}
	return true;
}

/* Take the mark at the front. false: nothing more from this ring in this poll. */
static bool
take_marker(struct highway_switch_rxq *rxq, uint32_t queue)
{
	struct highway_switch_ring *ring = &rxq->rings[queue];
	struct highway_consumer *c = &ring->ring;
	struct highway_desc desc = highway_desc_read(&c->mem, c->tail);
	struct highway_marker marker;
	uint32_t flush_us;

	if (desc.kind == HIGHWAY_DESC_PACKET)
		return true;
	if ((desc.kind != HIGHWAY_DESC_ENTER && desc.kind != HIGHWAY_DESC_LEAVE) ||
	    !highway_marker_read(c, desc, &marker, sizeof(marker)) || marker.peer_id == 0) {
		c->broken = true;
		return false;
	}
	c->tail++;
	if (desc.kind == HIGHWAY_DESC_LEAVE) {
		pass_on(rxq, queue, &marker, false);
		return true;
	}
	flush_us = rxq->port->region->gate.tx_flush_us;
	ring->enter = marker;
	ring->enter_polls = flush_us == 0 ? 0 : FLUSH_POLLS;
	ring->enter_tsc = flush_us == 0 ? 0 :
			  rte_rdtsc() + (uint64_t)RTE_MIN(flush_us, 1000000U) *
			  (rte_get_tsc_hz() / 1000000) * 2;
	return false;
}

static uint16_t
drain(struct highway_switch_rxq *rxq, uint32_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_consumer *c = &rxq->rings[queue].ring;
	const struct rte_eth_dev_data *data = rxq->port->dev->data;
	const struct highway_mbufs mbufs = {
		.pool = rxq->pool,
		.port_id = data->port_id,
		.scatter = data->scattered_rx,
		.tag = QUEUE_TAG | queue,
	};
	struct highway_taken done;
	uint64_t before = c->tail;
	uint16_t got = 0, passes;

	if (!begin_poll(rxq, queue))
		return 0;
	/* Marks and frames that are too long do not count as got, but they count as rounds. */
	for (passes = 0; got < n && !c->broken && passes < HIGHWAY_MAX_PASSES; passes++) {
		HIGHWAY_ISA(highway_take)(c, NULL, &mbufs, pkts + got, n - got, &done);
		got += done.packets;
		rxq->packets += done.packets;
		rxq->bytes += done.bytes;
		rxq->errors += done.too_long;
		rxq->nombuf += done.no_mbuf;
		if (done.no_mbuf)
			break;
		if (done.packets != 0 || done.too_long != 0)
			continue;
		if (c->broken || !highway_consumer_ready(c) || !take_marker(rxq, queue))
			break;
	}
	if (unlikely(c->broken) && !rxq->rings[queue].reported) {
		rxq->rings[queue].reported = true;
		rxq->errors++;
		HW_LOG(ERR, "port %s: the VNF wrote something impossible into its ring %u: the "
		       "ring is not read any more; delete the port and add it again",
		       rxq->port->options.port, queue);
	}
	if (c->tail != before)
		highway_consumer_publish(c);
	return got;
}

/*
 * What a suppressed rule was for comes this way now. OVS may delete that flow, meet the next packet,
 * and learn the flow anew before its offload thread has destroyed the rule: then it finds the old
 * flow's counts under the new one's name, and counts all of them once more. So these packets, and
 * with them all others of the port, wait until the rule is destroyed or in force again, for each
 * rule SUPPRESSED_MS at most.
 */
static void
look_at_suppressed(struct highway_switch_rxq *rxq)
{
	const struct highway_port *port = rxq->port;
	const struct highway_rule *table = RTE_PTR_ADD(port->map.base,
						       port->geometry.rules_offset);
	bool some = false;
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		struct highway_slot *s = &port->sw->slots[slot];
		uint64_t live = __atomic_load_n(&table[slot].live, __ATOMIC_RELAXED);

		if (likely(live == 0 ||
			   __atomic_load_n(&table[slot].suppressed, __ATOMIC_RELAXED) != live))
			continue;
		some = true;
		if (s->waited == live)
			continue;
		s->waited = live;
		rxq->waits = true;
		rxq->wait_until_tsc = highway_tsc_in(SUPPRESSED_MS);
	}
	if (!some && rxq->waits) {
		rxq->waits = false;
		rxq->wait_until_tsc = highway_tsc_in(DESTROYED_MS);
	}
}

/* Is OVS to be given nothing just now? */
static inline bool
waits_for_ovs(struct highway_switch_rxq *rxq)
{
	/* Pairs with highwayd's change of the gate; a sender that has seen it publishes later. */
	uint32_t change = __atomic_load_n(&rxq->port->region->gate.change, __ATOMIC_ACQUIRE);

	if (unlikely(change != rxq->change)) {
		rxq->change = change;
		look_at_suppressed(rxq);
	}
	if (likely(rxq->wait_until_tsc == 0))
		return false;
	if (rte_rdtsc() < rxq->wait_until_tsc)
		return true;
	rxq->waits = false;
	rxq->wait_until_tsc = 0;
	return false;
}

uint16_t
HIGHWAY_ISA(highway_switch_rx)(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_switch_rxq *rxq = queue;
	struct highway_port *port = rxq->port;
	struct highway_switch *sw = port->sw;
	unsigned int lcore = rte_lcore_id();
	uint32_t n_rings = port->geometry.n_queues, i, ring;
	uint16_t got = 0;

	if (unlikely(!__atomic_load_n(&sw->polled, __ATOMIC_ACQUIRE)))
		return 0;
	if (unlikely(__atomic_load_n(&sw->tx.n_pending, __ATOMIC_RELAXED) != 0))
		retry(&sw->tx);
	if (unlikely(lcore != rxq->lcore)) {
		bool first = rxq->lcore == LCORE_ID_ANY;

		rxq->lcore = lcore;
		if (!first)
			highway_switch_hold(port);
	}
	if (unlikely(__atomic_load_n(&sw->hold_until_tsc, __ATOMIC_RELAXED) != 0 ||
		     waits_for_ovs(rxq)))
		return 0;
	ring = rxq->turn;
	for (i = 0; i < n_rings && got < n; i++) {
		got += drain(rxq, ring, pkts + got, n - got);
		if (++ring >= n_rings)
			ring = 0;
	}
	rxq->turn = rxq->turn + 1 >= n_rings ? 0 : rxq->turn + 1;
	return got;
}

/* -------------------------------------------------------------------------------- transmit --- */

/* Which of the receiver's rings: the sender's queue decides, on both channels alike. */
static inline uint32_t
ring_for(const struct highway_switch_tx *tx, const struct rte_mbuf *mbuf)
{
	uint32_t tag;

	if (likely(tx->n_rings == 1))
		return 0;
	/* OVS's copies, for a second output, have the flag of a hash and whatever was in its place. */
	if (mbuf->port >= RTE_MAX_ETHPORTS)
		return 0;
	tag = mbuf->hash.fdir.hi;
	if (highway_is_switch_port[mbuf->port] && (tag & ~QUEUE_MASK) == QUEUE_TAG)
		return (tag & QUEUE_MASK) % tx->n_rings;
	if ((mbuf->ol_flags & RTE_MBUF_F_RX_RSS_HASH) != 0)
		return mbuf->hash.rss % tx->n_rings;
	return 0;
}

/* How many frames at the front go into the same ring. */
static inline uint16_t
run_to(const struct highway_switch_tx *tx, uint32_t ring, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t run;

	for (run = 1; run < n && highway_frame_ok(pkts[run]) && ring_for(tx, pkts[run]) == ring;
	     run++)
		;
	return run;
}

/* Each into the ring that its sender's queue decides, behind the marks that wait for that ring. */
static uint16_t
put_all(struct highway_switch_tx *tx, struct rte_mbuf **pkts, uint16_t n)
{
	uint32_t used = 0, ring;
	uint16_t i = 0, run, done;

	while (i < n) {
		if (unlikely(!highway_frame_ok(pkts[i]))) {
			tx->errors++;
			i++;
			continue;
		}
		ring = ring_for(tx, pkts[i]);
		if (unlikely(tx->n_pending != 0) && !flush_pending(tx, ring))
			break;
		run = run_to(tx, ring, pkts + i, n - i);
		done = HIGHWAY_ISA(highway_put)(&tx->rings[ring], pkts + i, run);
		used |= UINT32_C(1) << ring;
		tx->packets += done;
		tx->bytes += highway_frames_bytes(pkts + i, done);
		i += done;
		if (done < run)
			break;
	}
	for (; used != 0; used &= used - 1)
		highway_producer_publish(&tx->rings[__builtin_ctz(used)]);
	return i;
}

uint16_t
HIGHWAY_ISA(highway_switch_tx)(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_switch_txq *txq = queue;
	struct highway_switch *sw = txq->port->sw;
	struct highway_switch_tx *tx = &sw->tx;
	uint16_t done = 0;

	if (unlikely(!__atomic_load_n(&sw->polled, __ATOMIC_ACQUIRE)))
		return 0;
	rte_spinlock_lock(&tx->lock);
	if (likely(tx->n_rings != 0))
		done = put_all(tx, pkts, n);
	tx->full += (uint64_t)(n - done);
	rte_spinlock_unlock(&tx->lock);
	if (likely(done != 0))
		rte_pktmbuf_free_bulk(pkts, done);
	return done;
}
