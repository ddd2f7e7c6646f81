/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * A VNF's receive burst: from the normal channel and from every bypass, and the receiver's half of
 * every change of channel: a fence holds a bypass ring until the switch's mark has come through
 * all normal rings, a mark with a Leave holds its normal ring until the bypass ring is empty so
 * far. Waits refer to earlier moments only, so they cannot form a circle.
 */

#include <sched.h>
#include <time.h>

#include <rte_cycles.h>

#include "highway.h"
#include "highway_copy.h"
#include "highway_lookup.h"
#include "highway_presence.h"

#define IDLE_POLLS 64		/* empty polls before the core is given away */
#define IDLE_NAPS 32		/* of each length, before longer ones */
#define BUSY_BURST 16		/* frames at once: somebody sends as fast as he can */
#define BUSY_LOOKS 4		/* pauses after such a burst, at most */
#define COLD_LOOKS 4		/* links without traffic that a burst looks at */
#define COOL_BURSTS 1024	/* links without a frame in so many bursts are cold */

static bool
too_long(const struct highway_port *port, uint64_t *since_tsc)
{
	uint64_t now = rte_rdtsc();

	if (*since_tsc == 0)
		*since_tsc = now;
	return now - *since_tsc > highway_drain_limit(port);
}

/* --------------------------------------------------------------------------- normal channel --- */

static struct highway_link *
find_link(const struct highway_view *view, uint64_t link_id, uint32_t *slot)
{
	for (*slot = 0; *slot < view->n_slots; (*slot)++) {
		struct highway_link *link = view->links[*slot].link;

		if (link != NULL && link->geometry.link_id == link_id)
			return link;
	}
	return NULL;
}

/* Take the switch's mark at the front of the normal ring. false: not a sound one. */
static bool
take_sync(struct highway_vnf_rxq *rxq, const struct highway_view *view, struct highway_desc desc)
{
	struct highway_link *link;
	struct highway_rx_ring *rx;
	struct highway_sync sync;
	uint32_t slot;

	if (!highway_marker_read(&rxq->normal, desc, &sync, sizeof(sync)))
		return false;
	rxq->normal.tail++;
	link = find_link(view, sync.link_id, &slot);
	if (link == NULL || sync.source_id != link->peer_id || sync.queue >= link->n_rx_rings)
		return true; /* the link is gone, and what was in it with it */
	rx = &link->rx[sync.queue];
	/* Pairs with gate_open(). A mark that is only a Leave has no epoch. */
	if (sync.entered > rx->entered[rxq->queue])
		__atomic_store_n(&rx->entered[rxq->queue], sync.entered, __ATOMIC_RELEASE);
	if (sync.leave <= __atomic_load_n(&rx->ring.tail, __ATOMIC_ACQUIRE))
		return true;
	if (sync.leave > __atomic_load_n(&rx->ring.mem.ctl->head, __ATOMIC_ACQUIRE)) {
		highway_link_fault(link, HIGHWAY_CLOSE_BAD_LEAVE);
		return true;
	}
	rxq->hold.attachment = link->attachment;
	rxq->hold.slot = slot;
	rxq->hold.ring = sync.queue;
	rxq->hold.until = sync.leave;
	rxq->hold.since_tsc = 0;
	return true;
}

static bool
held(struct highway_vnf_rxq *rxq, const struct highway_view *view)
{
	struct highway_link *link = NULL;

	if (likely(rxq->hold.attachment == 0))
		return false;
	if (rxq->hold.slot < view->n_slots)
		link = view->links[rxq->hold.slot].link;
	if (link != NULL && link->attachment == rxq->hold.attachment &&
	    __atomic_load_n(&link->close, __ATOMIC_RELAXED) == HIGHWAY_CLOSE_NONE &&
	    __atomic_load_n(&link->rx[rxq->hold.ring].ring.tail, __ATOMIC_ACQUIRE) <
	    rxq->hold.until) {
		if (!too_long(rxq->port, &rxq->hold.since_tsc))
			return true;
		highway_link_fault(link, HIGHWAY_CLOSE_TIMEOUT);
	}
	rxq->hold.attachment = 0;
	return false;
}

static uint16_t
drain_normal(struct highway_vnf_rxq *rxq, const struct highway_view *view,
	     const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_consumer *ring = &rxq->normal;
	struct highway_taken done;
	uint64_t before = ring->tail;
	uint16_t got = 0, passes;

	for (passes = 0; got < n && passes < HIGHWAY_MAX_PASSES && !ring->broken &&
	     !held(rxq, view); passes++) {
		HIGHWAY_ISA(highway_take)(ring, NULL, mbufs, pkts + got, n - got, &done);
		got += done.packets;
		rxq->stats.rx_normal_packets += done.packets;
		rxq->stats.rx_normal_bytes += done.bytes;
		rxq->errors += done.too_long;
		rxq->stats.rx_nombuf += done.no_mbuf;
		if (done.no_mbuf)
			break;
		if (done.packets == 0 && done.too_long == 0) {
			struct highway_desc desc;

			if (!highway_consumer_ready(ring))
				break;
			desc = highway_desc_read(&ring->mem, ring->tail);
			if (desc.kind == HIGHWAY_DESC_PACKET)
				continue;
			if (desc.kind != HIGHWAY_DESC_SYNC || !take_sync(rxq, view, desc))
				ring->broken = true;
		}
	}
	if (ring->tail != before)
		highway_consumer_publish(ring);
	return got;
}

/* --------------------------------------------------------------------------- bypass channel --- */

/* May the receiver go past this fence? A switch that is gone has nothing left to wait for. */
static bool
gate_open(const struct highway_port *port, struct highway_link *link, struct highway_rx_ring *rx,
	  const struct highway_view *view, uint64_t epoch)
{
	uint16_t queue;

	for (queue = 0; queue < view->n_rxq; queue++) {
		/* Pairs with take_sync(). */
		if (__atomic_load_n(&rx->entered[queue], __ATOMIC_ACQUIRE) < epoch)
			break;
	}
	if (queue < view->n_rxq && view->switch_here) {
		if (!too_long(port, &rx->gate_tsc))
			return false;
		highway_link_fault(link, HIGHWAY_CLOSE_TIMEOUT);
	}
	rx->gate_tsc = 0;
	return true;
}

/* The rule of the sender that lets this frame through, NULL if none does. */
static const struct highway_class_rule *
let_through(const struct highway_classifier *check, const struct rte_mbuf *mbuf)
{
	bool conflict = false;
	const struct highway_class_rule *rule = highway_lookup(check, mbuf, &conflict);

	return likely(rule != NULL && mbuf->pkt_len <= rule->max_frame) ? rule : NULL;
}

/* Count frames for the inbound rules, by their slots, that have let them through. */
static void
count_checked(struct highway_vnf_rxq *rxq, const uint16_t *slots, struct rte_mbuf **pkts,
	      uint16_t n)
{
	uint16_t i, next;

	if (unlikely(rxq->counters == NULL))
		return;
	for (i = 0; i < n; i = next) {
		uint64_t bytes = 0;

		for (next = i; next < n && slots[next] == slots[i]; next++)
			bytes += pkts[next]->pkt_len;
		highway_counter_add(&rxq->counters[slots[i]], next - i, bytes);
	}
}

/* Keep those frames that may have come this way. false: look again once the view is up to date. */
static bool
check_frames(struct highway_vnf_rxq *rxq, const struct highway_view *view,
	     const struct highway_classifier *check, struct rte_mbuf **pkts,
	     struct highway_taken *done)
{
	const struct highway_gate *gate = &rxq->port->region->gate;
	uint16_t slots[HIGHWAY_BURST], i, kept = 0;

	for (i = 0; i < done->packets; i++) {
		struct rte_mbuf *mbuf = pkts[i];
		const struct highway_class_rule *rule = let_through(check, mbuf);

		if (likely(rule != NULL)) {
			slots[kept] = (uint16_t)rule->slot;
			pkts[kept++] = mbuf;
			continue;
		}
		/* The switch writes an inbound rule, and counts the gate up, before the sender's. */
		if (__atomic_load_n(&gate->change, __ATOMIC_ACQUIRE) != view->change) {
			rte_pktmbuf_free_bulk(pkts, kept);
			rte_pktmbuf_free_bulk(pkts + i, done->packets - i);
			highway_ctrl_kick();
			return false;
		}
		done->bytes -= mbuf->pkt_len;
		/* The sender has no rule to count it for. */
		done->off--;
		done->off_bytes -= mbuf->pkt_len;
		rxq->stats.rx_refused++;
		rte_pktmbuf_free(mbuf);
	}
	done->packets = kept;
	count_checked(rxq, slots, pkts, kept);
	return true;
}

/*
 * Copy in what stands the check. false: nothing more from this ring in this burst. Buffers are not
 * lent here: the sender could still change what was checked.
 */
static __rte_noinline bool
take_checked(struct highway_vnf_rxq *rxq, const struct highway_view *view,
	     const struct highway_classifier *check, struct highway_consumer *ring,
	     const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n,
	     struct highway_taken *done)
{
	/* Others look at the ring's index: it moves on when the check is through. */
	struct highway_consumer trial = *ring;

	HIGHWAY_ISA(highway_take)(&trial, NULL, mbufs, pkts, n, done);
	if (!check_frames(rxq, view, check, pkts, done))
		return false;
	*ring = trial;
	return true;
}

static uint16_t
drain_bypass(struct highway_vnf_rxq *rxq, const struct highway_view *view,
	     struct highway_link *link, struct highway_rx_ring *rx,
	     const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n)
{
	const struct highway_classifier *check = view->links[link->slot].check;
	struct highway_consumer *ring = &rx->ring;
	struct highway_taken done;
	uint64_t before = ring->tail;
	uint16_t got = 0, passes;

	for (passes = 0; got < n && passes < HIGHWAY_MAX_PASSES && !ring->broken; passes++) {
		struct highway_marker fence;
		struct highway_desc desc;

		if (likely(check == NULL))
			HIGHWAY_ISA(highway_take)(ring, rx->loans, mbufs, pkts + got, n - got,
						  &done);
		else if (!take_checked(rxq, view, check, ring, mbufs, pkts + got, n - got, &done))
			break;
		got += done.packets;
		rx->packets += done.packets;
		rx->bytes += done.bytes;
		rx->off += done.off;
		rx->off_bytes += done.off_bytes;
		rxq->stats.rx_bypass_packets += done.packets;
		rxq->stats.rx_bypass_bytes += done.bytes;
		rxq->stats.rx_external += done.lent;
		rxq->errors += done.too_long;
		rxq->stats.rx_nombuf += done.no_mbuf;
		if (done.no_mbuf || ring->broken)
			break;
		if (done.packets != 0 || done.too_long != 0)
			continue;
		if (!highway_consumer_ready(ring))
			break;
		desc = highway_desc_read(&ring->mem, ring->tail);
		if (desc.kind == HIGHWAY_DESC_PACKET ||
		    (desc.kind == HIGHWAY_DESC_BUFFER && check == NULL && rx->loans != NULL))
			continue;
		if (desc.kind != HIGHWAY_DESC_FENCE ||
		    !highway_marker_read(ring, desc, &fence, sizeof(fence))) {
			highway_link_fault(link, HIGHWAY_CLOSE_BAD_DESC);
			ring->broken = true;
			break;
		}
		if (!gate_open(rxq->port, link, rx, view, fence.value))
			break;
		ring->tail++;
	}
	if (unlikely(ring->broken))
		highway_link_fault(link, HIGHWAY_CLOSE_BAD_INDEX);
	if (ring->tail != before)
		highway_consumer_publish(ring);
	return got;
}

/* The rings of this queue in one link, beginning with another one each time. */
static uint16_t
drain_link(struct highway_vnf_rxq *rxq, const struct highway_view *view,
	   struct highway_link *link, const struct highway_mbufs *mbufs, struct rte_mbuf **pkts,
	   uint16_t n)
{
	uint32_t first = rxq->queue, ring, own, i;
	uint16_t got = 0;

	if (first >= link->n_rx_rings)
		return 0;
	own = (link->n_rx_rings - first + view->n_rxq - 1) / view->n_rxq;
	ring = own == 1 ? first : first + rxq->round++ % own * view->n_rxq;
	for (i = 0; i < own && got < n; i++) {
		got += drain_bypass(rxq, view, link, &link->rx[ring], mbufs, pkts + got, n - got);
		ring += view->n_rxq;
		if (ring >= link->n_rx_rings)
			ring = first;
	}
	return got;
}

/* Some of the links that nothing came over lately, others each time. */
static inline uint64_t
cold_links(struct highway_vnf_rxq *rxq, uint64_t cold)
{
	uint64_t left = cold & (UINT64_MAX << rxq->cursor), found = 0;
	unsigned int i;

	for (i = 0; i < COLD_LOOKS; i++) {
		if (left == 0)
			left = cold & ~found;
		found |= left & -left;
		left &= left - 1;
	}
	/* Begins anew when there are none behind. */
	rxq->cursor = left == 0 ? 0 : (uint32_t)__builtin_ctzll(left);
	return found;
}

/* Look at some links, from the lowest slot on. */
static uint16_t
drain_some(struct highway_vnf_rxq *rxq, const struct highway_view *view, uint64_t slots,
	   const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t got = 0, some;

	for (; slots != 0 && got < n; slots &= slots - 1) {
		struct highway_link *link = view->links[__builtin_ctzll(slots)].link;

		some = drain_link(rxq, view, link, mbufs, pkts + got, n - got);
		if (some != 0) {
			rxq->warm |= slots & -slots;
			rxq->used |= slots & -slots;
			got += some;
		}
	}
	return got;
}

/*
 * Links with traffic, and before them, since those may fill the burst, some of the others: a look
 * at each would cost more than the frames. A queue that naps between its polls looks at all.
 */
static uint16_t
drain_links(struct highway_vnf_rxq *rxq, const struct highway_view *view,
	    const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t warm = view->link_mask, behind = UINT64_MAX << rxq->turn / 2;
	uint16_t got = 0;

	if (n == 0)
		return 0;
	if (unlikely(view->n_links > COLD_LOOKS && rxq->empty_polls <= IDLE_POLLS)) {
		if (++rxq->bursts >= COOL_BURSTS) {
			rxq->bursts = 0;
			rxq->warm = rxq->used;
			rxq->used = 0;
		}
		warm &= rxq->warm;
		got = drain_some(rxq, view, cold_links(rxq, view->link_mask & ~warm), mbufs,
				 pkts, n);
	}
	/* The round begins somewhere else each time. */
	got += drain_some(rxq, view, warm & behind, mbufs, pkts + got, n - got);
	got += drain_some(rxq, view, warm & ~behind, mbufs, pkts + got, n - got);
	return got;
}

/* ------------------------------------------------------------------------------------ burst --- */

static void
idle(struct highway_vnf_rxq *rxq)
{
	/* Naps cost something too, above all in a VM, whose timers are somebody's work. */
	static const struct timespec naps[] = {
		{ .tv_nsec = 20000 }, { .tv_nsec = 200000 }, { .tv_nsec = 1000000 },
	};
	uint32_t length;

	if (rxq->empty_polls++ < IDLE_POLLS)
		return;
	if (rxq->port->options.idle == HIGHWAY_IDLE_YIELD)
		sched_yield();
	if (rxq->port->options.idle == HIGHWAY_IDLE_SLEEP) {
		length = RTE_MIN((rxq->empty_polls - IDLE_POLLS - 1) / IDLE_NAPS,
				 (uint32_t)RTE_DIM(naps) - 1);
		nanosleep(&naps[length], NULL);
	}
}

/*
 * The sender is about to publish its next burst. Each look at its descriptors takes their line away
 * from it, so that a receiver which only polls, and finds less each time, slows both of them down.
 */
static inline void
pause_looking(struct highway_vnf_rxq *rxq)
{
	rxq->busy_looks--;
	rxq->pause_tsc = rte_rdtsc();
}

uint16_t
HIGHWAY_ISA(highway_vnf_rx)(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_vnf_rxq *rxq = queue;
	struct highway_port *port = rxq->port;
	const struct highway_view *view;
	uint16_t got = 0;
	struct highway_mbufs mbufs;

	if (rxq->pause_tsc != 0) {
		if (rte_rdtsc() - rxq->pause_tsc < rxq->pause_cycles)
			return 0;
		rxq->pause_tsc = 0;
	}
	highway_presence_enter(&rxq->presence);
	view = __atomic_load_n(&port->view, __ATOMIC_ACQUIRE);
	if (unlikely(view == NULL || !view->receiving))
		goto out;
	mbufs = (struct highway_mbufs){
		.pool = rxq->pool,
		.port_id = port->dev->data->port_id,
		.scatter = port->dev->data->scattered_rx,
		.external = rxq->external,
	};
	/* By turns, so that neither channel starves the other, nor a link the next one. */
	rxq->turn++;
	if (rxq->turn >= 2 * RTE_MAX(view->n_slots, 1U))
		rxq->turn = 0;
	if ((rxq->turn & 1) != 0) {
		got = drain_links(rxq, view, &mbufs, pkts, n);
		got += drain_normal(rxq, view, &mbufs, pkts + got, n - got);
	} else {
		got = drain_normal(rxq, view, &mbufs, pkts, n);
		got += drain_links(rxq, view, &mbufs, pkts + got, n - got);
	}
out:
	highway_presence_exit(&rxq->presence);
	if (got != 0) {
		rxq->empty_polls = 0;
		rxq->busy_looks = got >= BUSY_BURST ? BUSY_LOOKS : 0;
	} else if (rxq->busy_looks != 0) {
		pause_looking(rxq);
	} else if (port->options.idle != HIGHWAY_IDLE_POLL)
		idle(rxq);
	return got;
}
