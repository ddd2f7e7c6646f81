/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * A VNF's transmit burst: each frame to the bypass of the rule that it matches, or to the switch;
 * and the sender's half of every change of channel (docs/architecture.md, "Changing channels").
 *
 * Never waits: a class whose Enter cannot begin now stays on the normal channel, and a full ring
 * makes the burst accept fewer frames (and, unless idle=poll, gives the core away for a moment).
 */

#include <sched.h>

#include <rte_cycles.h>
#include <rte_prefetch.h>

#include "highway.h"
#include "highway_copy.h"
#include "highway_lookup.h"
#include "highway_presence.h"
#include "highway_put.h"
#include "highway_vnf.h"

/** What is counted for one rule within a burst. */
struct tally {
	const struct highway_class_rule *rule;
	uint64_t packets;
	uint64_t bytes;
};

static inline void
count_for(struct highway_vnf_txq *txq, const struct highway_class_rule *rule, uint64_t packets,
	  uint64_t bytes)
{
	struct highway_counter *counter = &txq->counters[rule->slot];

	/* Bytes first: pairs with highway_account_slot(), which reads packets first, so that it
	 * never sees packets without their bytes.
	 */
	__atomic_store_n(&counter->bytes, counter->bytes + bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&counter->packets, counter->packets + packets, __ATOMIC_RELEASE);
}

static void
tally_flush(struct highway_vnf_txq *txq, struct tally *tally)
{
	struct highway_tx_link *tl;

	if (tally->packets == 0)
		return;
	tl = &txq->links[tally->rule->link];
	tl->packets += tally->packets;
	tl->bytes += tally->bytes;
	count_for(txq, tally->rule, tally->packets, tally->bytes);
	txq->stats.tx_bypass_packets += tally->packets;
	txq->stats.tx_bypass_bytes += tally->bytes;
	tally->packets = 0;
	tally->bytes = 0;
}

static inline uint64_t
link_bit(uint32_t slot)
{
	return UINT64_C(1) << slot;
}

/* ------------------------------------------------------------------------- Enter and Leave --- */

/* Tell the switch, in order, where the bypass rings stand. false: no room, try again later. */
static bool
leave_links(struct highway_vnf_txq *txq, const struct highway_view *view)
{
	bool mark = view->switch_here && !txq->port->options.unordered;

	while (txq->leave_mask != 0) {
		uint32_t slot = (uint32_t)__builtin_ctzll(txq->leave_mask);
		struct highway_tx_link *tl = &txq->links[slot];
		struct highway_marker marker = {
			.peer_id = tl->peer_id,
			.link_id = tl->link_id,
			.value = tl->ring.head,
		};

		if (tl->ring.head != tl->left_at && tl->link_id != 0) {
			/* The receiver closes a link whose Leave points beyond what is published. */
			highway_producer_publish(&tl->ring);
			if (mark &&
			    !highway_producer_mark(&txq->normal, HIGHWAY_DESC_LEAVE, &marker,
						   sizeof(marker)))
				return false;
			tl->left_at = tl->ring.head;
			txq->stats.leaves++;
		}
		txq->leave_mask &= txq->leave_mask - 1;
	}
	return true;
}

/* Everything that is on this link comes back to the normal channel. */
static void
give_up_link(struct highway_vnf_txq *txq, uint32_t slot)
{
	txq->links[slot].entered = 0;
	txq->entered_mask &= ~link_bit(slot);
	txq->leave_mask |= link_bit(slot);
}

static void
give_up_all(struct highway_vnf_txq *txq)
{
	while (txq->entered_mask != 0)
		give_up_link(txq, (uint32_t)__builtin_ctzll(txq->entered_mask));
}

/* Per link, so that a receiver that takes nothing keeps nobody from entering other links. */
static bool
enter_unfinished(struct highway_tx_link *tl)
{
	if (!tl->entering)
		return false;
	highway_producer_refresh(&tl->ring);
	tl->entering = tl->ring.tail_seen <= tl->fence_at && !tl->ring.broken;
	return tl->entering;
}

/* Begin an Enter for every rule of the link that this view shows. */
static bool
enter_link(struct highway_vnf_txq *txq, const struct highway_view *view, uint32_t slot)
{
	struct highway_tx_link *tl = &txq->links[slot];
	struct highway_marker marker = {
		.peer_id = tl->peer_id,
		.link_id = tl->link_id,
		/* Grows even when the queue is set up anew and has forgotten its last epoch. */
		.value = RTE_MAX(tl->epoch + 1, rte_rdtsc()),
	};

	if (enter_unfinished(tl) || !leave_links(txq, view))
		return false;
	if (view->switch_here && !txq->port->options.unordered) {
		if (highway_producer_reserve(&tl->ring, sizeof(marker)) == NULL ||
		    !highway_producer_mark(&txq->normal, HIGHWAY_DESC_ENTER, &marker,
					   sizeof(marker)))
			return false;
		highway_producer_mark(&tl->ring, HIGHWAY_DESC_FENCE, &marker, sizeof(marker));
		tl->epoch = marker.value;
		txq->touched |= link_bit(slot);
		tl->fence_at = tl->ring.head - 1;
		tl->entering = true;
	}
	tl->entered = view->version;
	txq->entered_mask |= link_bit(slot);
	txq->stats.enters++;
	return true;
}

/* A new ovs-vswitchd knows nothing of the marks that the old one took with it. */
static void
new_switch(struct highway_vnf_txq *txq, const struct highway_view *view)
{
	struct highway_tx_link *tl;
	uint32_t slot;

	txq->switch_epoch = view->switch_epoch;
	for (slot = 0; slot < view->n_slots; slot++) {
		tl = &txq->links[slot];
		if (view->links[slot].link == NULL)
			continue;
		if (tl->ring.head != 0)
			tl->left_at = UINT64_MAX;
		if (enter_unfinished(tl)) {
			struct highway_marker marker = {
				.peer_id = tl->peer_id,
				.link_id = tl->link_id,
				.value = tl->epoch,
			};

			/* Without room the receiver's time limit opens the gate. */
			highway_producer_mark(&txq->normal, HIGHWAY_DESC_ENTER, &marker,
					      sizeof(marker));
		}
	}
}

static void
new_view(struct highway_vnf_txq *txq, const struct highway_view *view)
{
	uint32_t slot;

	txq->view_version = view->version;
	txq->barred = 0;
	/* Parsed deeper or less deep, a class may take the other channel without being asked. */
	if (txq->depth != view->classifier.depth) {
		txq->depth = view->classifier.depth;
		give_up_all(txq);
	}
	if (txq->switch_epoch != view->switch_epoch)
		new_switch(txq, view);
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		struct highway_tx_link *tl = &txq->links[slot];

		if (slot >= view->n_slots || view->links[slot].link == NULL) {
			txq->leave_mask &= ~link_bit(slot);
			txq->entered_mask &= ~link_bit(slot);
			continue;
		}
		/* Some rule may be gone: what it sent stays in front of what follows. */
		if (tl->ring.head != tl->left_at)
			txq->leave_mask |= link_bit(slot);
		if (!view->links[slot].usable && (txq->entered_mask & link_bit(slot)) != 0)
			give_up_link(txq, slot);
	}
}

/* ---------------------------------------------------------------------------------- sending --- */

static inline bool
put_frame(struct highway_producer *ring, struct rte_mbuf *mbuf)
{
	uint8_t *place = highway_producer_reserve(ring, mbuf->pkt_len);

	if (unlikely(place == NULL))
		return false;
	highway_copy_out(place, mbuf);
	highway_producer_commit(ring, mbuf->pkt_len, HIGHWAY_DESC_PACKET);
	return true;
}

/*
 * May a rule not be used because highwayd has suppressed one of its link's? If it is lifted again
 * before there is another view, this one does not tell that what it lets through has to enter anew.
 * So the queue leaves the link, and the next view says what goes there.
 */
static bool
barred(struct highway_vnf_txq *txq, const struct highway_class_rule *rule)
{
	uint64_t suppressed = __atomic_load_n(&rule->shared->suppressed, __ATOMIC_RELAXED);

	if (suppressed == rule->generation && (txq->barred & link_bit(rule->link)) == 0) {
		txq->barred |= link_bit(rule->link);
		give_up_link(txq, rule->link);
	}
	return (txq->barred & link_bit(rule->link)) != 0;
}

/* 1: taken; 0: the ring is full; -1: no longer the bypass's, send it to the switch. */
static __rte_always_inline int
put_bypass(struct highway_vnf_txq *txq, const struct highway_view *view,
	   const struct highway_class_rule *rule, struct rte_mbuf *mbuf, const bool changed)
{
	struct highway_tx_link *tl = &txq->links[rule->link];

	if (changed && barred(txq, rule))
		return -1;
	if (unlikely(__atomic_load_n(&rule->shared->live, __ATOMIC_RELAXED) != rule->generation)) {
		/* Once: nothing is sent by it from here on. */
		if (txq->withdrawn != rule->generation)
			txq->leave_mask |= link_bit(rule->link);
		txq->withdrawn = rule->generation;
		return -1;
	}
	if (unlikely(!view->links[rule->link].usable || mbuf->pkt_len > rule->max_frame))
		return -1;
	if (likely(tl->entered >= rule->born) || enter_link(txq, view, rule->link)) {
		if (likely(put_frame(&tl->ring, mbuf))) {
			return 1;
		}
		if (!tl->ring.broken)
			return 0;
	}
	if (unlikely(tl->ring.broken)) {
		highway_link_fault(view->links[rule->link].link, HIGHWAY_CLOSE_BAD_INDEX);
		give_up_link(txq, rule->link);
	}
	return -1;
}

/* A ring that nobody empties would keep back what can take the bypass. false: somebody is back. */
static bool
drop_without_switch(struct highway_vnf_txq *txq)
{
	const struct highway_switch_state *state = &txq->port->region->switch_state;

	/* Pairs with highway_switch_take_charge(). */
	if (__atomic_load_n(&state->attached, __ATOMIC_ACQUIRE) != 0)
		return false;
	txq->stats.tx_no_switch++;
	return true;
}

static inline bool
put_normal(struct highway_vnf_txq *txq, const struct highway_view *view, struct rte_mbuf *mbuf)
{
	if (unlikely(!view->switch_here))
		return drop_without_switch(txq);
	if (unlikely(txq->leave_mask != 0) && !leave_links(txq, view))
		return false;
	if (unlikely(!put_frame(&txq->normal, mbuf)))
		return false;
	txq->stats.tx_normal_packets++;
	txq->stats.tx_normal_bytes += mbuf->pkt_len;
	return true;
}

/* One frame, by whatever channel. false: a ring is full, nothing behind it may go either. */
static __rte_always_inline bool
send_one(struct highway_vnf_txq *txq, const struct highway_view *view,
	 const struct highway_class_rule *rule, struct rte_mbuf *mbuf, struct tally *tally,
	 const bool changed)
{
	int taken = -1;

	if (rule != NULL)
		taken = put_bypass(txq, view, rule, mbuf, changed);
	if (taken < 0)
		return put_normal(txq, view, mbuf);
	if (taken == 0)
		return false;
	if (unlikely(rule != tally->rule)) {
		tally_flush(txq, tally);
		tally->rule = rule;
		txq->touched |= link_bit(rule->link);
	}
	tally->packets++;
	tally->bytes += mbuf->pkt_len;
	return true;
}

/* What send_one() has put on bypasses. */
static inline void
publish_touched(struct highway_vnf_txq *txq)
{
	for (; txq->touched != 0; txq->touched &= txq->touched - 1)
		highway_producer_publish(&txq->links[__builtin_ctzll(txq->touched)].ring);
}

/* The rule that a frame goes by, if there is one. */
static inline const struct highway_class_rule *
rule_of(const struct highway_vnf_txq *txq, const struct highway_view *view,
	const struct rte_mbuf *mbuf, bool *conflict)
{
	const struct highway_class_rule *rule = highway_lookup(&view->classifier, mbuf, conflict);

	if (rule != NULL) {
		rte_prefetch0(&rule->shared->live);
		__builtin_prefetch(&txq->counters[rule->slot], 1);
	}
	return rule;
}

/* The gate has changed since the view was made. */
static __rte_noinline uint16_t
send_changed(struct highway_vnf_txq *txq, const struct highway_view *view, struct rte_mbuf **pkts,
	     uint16_t n)
{
	struct tally tally = { 0 };
	uint16_t i;

	for (i = 0; i < n; i++) {
		const struct highway_class_rule *rule;
		bool conflict = false;

		if (unlikely(!highway_frame_ok(pkts[i]))) {
			txq->errors++;
			continue;
		}
		rule = rule_of(txq, view, pkts[i], &conflict);
		if (unlikely(conflict))
			give_up_all(txq);
		if (!send_one(txq, view, rule, pkts[i], &tally, true))
			break;
	}
	publish_touched(txq);
	tally_flush(txq, &tally);
	return i;
}

/* May this frame be sent to where the rule says, without any further ado? */
static inline bool
goes_by(const struct highway_vnf_txq *txq, const struct highway_view *view,
	const struct highway_class_rule *rule, const struct rte_mbuf *mbuf)
{
	return __atomic_load_n(&rule->shared->live, __ATOMIC_RELAXED) == rule->generation &&
	       view->links[rule->link].usable && mbuf->pkt_len <= rule->max_frame &&
	       txq->links[rule->link].entered >= rule->born;
}

/* Count frames for their rules, and all of them for the link. */
static inline void
count_run(struct highway_vnf_txq *txq, struct highway_tx_link *tl,
	  const struct highway_class_rule **rules, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t bytes = 0, sum;
	uint16_t i, next;

	for (i = 0; i < n; i = next) {
		sum = 0;
		for (next = i; next < n && rules[next] == rules[i]; next++)
			sum += pkts[next]->pkt_len;
		count_for(txq, rules[i], next - i, sum);
		bytes += sum;
	}
	tl->packets += n;
	tl->bytes += bytes;
	txq->stats.tx_bypass_packets += n;
	txq->stats.tx_bypass_bytes += bytes;
}

/* Frames side by side that go to the same peer, by whatever rules, at once. */
static uint16_t
send_run(struct highway_vnf_txq *txq, const struct highway_view *view,
	 const struct highway_class_rule **rules, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_tx_link *tl;
	uint16_t run;

	for (run = 0; run < n && rules[run] != NULL && rules[run]->link == rules[0]->link &&
	     goes_by(txq, view, rules[run], pkts[run]); run++)
		;
	if (run == 0)
		return 0;
	tl = &txq->links[rules[0]->link];
	run = HIGHWAY_ISA(highway_put)(&tl->ring, pkts, run);
	highway_producer_publish(&tl->ring);
	count_run(txq, tl, rules, pkts, run);
	return run;
}

/* At most HIGHWAY_BURST frames. */
static uint16_t
send_some(struct highway_vnf_txq *txq, const struct highway_view *view, struct rte_mbuf **pkts,
	  uint16_t n)
{
	const struct highway_class_rule *rules[HIGHWAY_BURST];
	struct tally tally = { 0 };
	uint64_t conflicts = 0;
	uint16_t i, run;

	/* All of them first, so that the search for one hides the wait for another. */
	for (i = 0; i < n; i++) {
		bool conflict = false;

		rules[i] = likely(highway_frame_ok(pkts[i])) ?
			   rule_of(txq, view, pkts[i], &conflict) : NULL;
		conflicts |= (uint64_t)conflict << i;
	}
	for (i = 0; i < n; i += run) {
		run = rules[i] != NULL ? send_run(txq, view, rules + i, pkts + i, n - i) : 0;
		if (likely(run != 0))
			continue;
		run = 1;
		/* When they agree again, their classes are to enter anew, behind this frame. */
		if (unlikely((conflicts >> i & 1) != 0))
			give_up_all(txq);
		if (unlikely(!highway_frame_ok(pkts[i])))
			txq->errors++;
		else if (!send_one(txq, view, rules[i], pkts[i], &tally, false))
			break;
	}
	publish_touched(txq);
	tally_flush(txq, &tally);
	return i;
}

static uint16_t
send_classified(struct highway_vnf_txq *txq, const struct highway_view *view,
		struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t sent = 0, some, done;

	do {
		some = (uint16_t)RTE_MIN(n - sent, HIGHWAY_BURST);
		done = send_some(txq, view, pkts + sent, some);
		sent += done;
	} while (done == some && sent < n);
	return sent;
}

static inline uint64_t
sum_of(struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t bytes = 0;
	uint16_t i;

	for (i = 0; i < n; i++)
		bytes += pkts[i]->pkt_len;
	return bytes;
}

/* Frames at the front that all go by the only rule there is; the others need a closer look. */
static uint16_t
send_alone(struct highway_vnf_txq *txq, const struct highway_view *view, struct rte_mbuf **pkts,
	   uint16_t n)
{
	const struct highway_classifier *classifier = &view->classifier;
	const struct highway_class_rule *rule = classifier->alone;
	struct highway_tx_link *tl = &txq->links[rule->link];
	struct tally tally = { .rule = rule };
	uint16_t run;

	if (unlikely(__atomic_load_n(&rule->shared->live, __ATOMIC_RELAXED) != rule->generation ||
		     !view->links[rule->link].usable || tl->entered < rule->born))
		return 0;
	n = RTE_MIN(n, HIGHWAY_BURST);
	for (run = 0; run < n; run++) {
		if (unlikely(!highway_frame_ok(pkts[run]) || pkts[run]->pkt_len > rule->max_frame ||
			     !highway_alone_match(classifier, pkts[run])))
			break;
	}
	if (run == 0)
		return 0;
	run = HIGHWAY_ISA(highway_put)(&tl->ring, pkts, run);
	highway_producer_publish(&tl->ring);
	tally.packets = run;
	tally.bytes = sum_of(pkts, run);
	tally_flush(txq, &tally);
	return run;
}

static inline uint16_t
send_unchanged(struct highway_vnf_txq *txq, const struct highway_view *view,
	       struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t sent = 0;

	if (likely(view->classifier.alone != NULL))
		sent = send_alone(txq, view, pkts, n);
	if (unlikely(sent < n))
		sent += send_classified(txq, view, pkts + sent, n - sent);
	return sent;
}

static uint16_t
send_normal(struct highway_vnf_txq *txq, const struct highway_view *view, struct rte_mbuf **pkts,
	    uint16_t n)
{
	uint16_t i, run, done;

	for (i = 0; i < n; i++) {
		/* What needs a mark in front of it, or nobody reads, one by one. */
		if (unlikely(!highway_frame_ok(pkts[i]))) {
			txq->errors++;
			continue;
		}
		if (unlikely(!view->switch_here || txq->leave_mask != 0)) {
			if (!put_normal(txq, view, pkts[i]))
				break;
			continue;
		}
		for (run = 1; i + run < n && highway_frame_ok(pkts[i + run]); run++)
			;
		done = HIGHWAY_ISA(highway_put)(&txq->normal, pkts + i, run);
		txq->stats.tx_normal_packets += done;
		txq->stats.tx_normal_bytes += sum_of(pkts + i, done);
		if (done < run)
			return i + done;
		i += run - 1;
	}
	return i;
}

static inline void
free_sent(const struct highway_vnf_txq *txq, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t segments = 0, i;

	/* The application promises: one pool, and nobody else holds them. */
	for (i = 0; txq->fast_free && i < n; i++)
		segments |= pkts[i]->nb_segs;
	if (likely(segments == 1))
		rte_mempool_put_bulk(pkts[0]->pool, (void **)pkts, n);
	else
		rte_pktmbuf_free_bulk(pkts, n);
}

uint16_t
HIGHWAY_ISA(highway_vnf_tx)(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_vnf_txq *txq = queue;
	struct highway_port *port = txq->port;
	const struct highway_view *view;
	uint16_t sent = 0;
	bool up, bypass, changed;

	highway_presence_enter(&txq->presence);
	view = __atomic_load_n(&port->view, __ATOMIC_ACQUIRE);
	if (unlikely(view == NULL))
		goto out;
	up = view->up;
	bypass = view->bypass_on;
	if (unlikely(view->version != txq->view_version))
		new_view(txq, view);
	changed = __atomic_load_n(&port->region->gate.change, __ATOMIC_ACQUIRE) != view->change;
	if (unlikely(changed)) {
		/* The control thread will make a new view; what says no holds at once. */
		highway_ctrl_kick();
		up = up && highway_port_up(port->region);
		bypass = bypass && highway_off_bits(port->region) == 0;
	}
	if (unlikely(!up))
		goto out;
	if (unlikely(!bypass))
		give_up_all(txq);
	if (!bypass || view->classifier.n_rules == 0)
		sent = send_normal(txq, view, pkts, n);
	else if (unlikely(changed))
		sent = send_changed(txq, view, pkts, n);
	else
		sent = send_unchanged(txq, view, pkts, n);
	highway_producer_publish(&txq->normal);
	if (unlikely(sent < n))
		txq->stats.tx_full += (uint64_t)(n - sent);
out:
	highway_presence_exit(&txq->presence);
	if (likely(sent != 0))
		free_sent(txq, pkts, sent);
	/* Whoever makes room may be waiting for this very core. */
	if (unlikely(sent < n) && port->options.idle != HIGHWAY_IDLE_POLL)
		sched_yield();
	return sent;
}
