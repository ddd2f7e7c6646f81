/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * A VNF's transmit burst: each frame to the bypass of the rule that it matches, or to the switch.
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
#include "highway_vnf_change.h"

/** What is counted for one rule within a burst. */
struct tally {
	const struct highway_class_rule *rule;
	uint64_t packets;
	uint64_t bytes;
};

static inline void
count_for_link(struct highway_vnf_txq *txq, uint32_t slot, uint64_t packets, uint64_t bytes)
{
	struct highway_tx_link *tl = &txq->links[slot];

	tl->packets += packets;
	tl->bytes += bytes;
	txq->stats.tx_bypass_packets += packets;
	txq->stats.tx_bypass_bytes += bytes;
}

/* Count what was put on the bypass by one rule. */
static inline void
count(struct highway_vnf_txq *txq, const struct highway_class_rule *rule, uint64_t packets,
      uint64_t bytes)
{
	highway_counter_add(&txq->counters[rule->slot], packets, bytes);
	count_for_link(txq, rule->link, packets, bytes);
}

static void
tally_flush(struct highway_vnf_txq *txq, struct tally *tally)
{
	if (tally->packets == 0)
		return;
	count(txq, tally->rule, tally->packets, tally->bytes);
	tally->packets = 0;
	tally->bytes = 0;
}

/* ---------------------------------------------------------------------------------- sending --- */

static inline bool
put_frame(struct highway_producer *ring, struct rte_mbuf *mbuf)
{
	return HIGHWAY_ISA(highway_put)(ring, &mbuf, 1) == 1;
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

/* May frames be sent to where the rule says, without any further ado? */
static inline bool
ready(const struct highway_vnf_txq *txq, const struct highway_view *view,
      const struct highway_class_rule *rule)
{
	return __atomic_load_n(&rule->shared->live, __ATOMIC_RELAXED) == rule->generation &&
	       view->links[rule->link].usable && txq->links[rule->link].entered >= rule->born;
}

/* Count frames for their rules, and all of them for the link. */
static inline void
count_run(struct highway_vnf_txq *txq, const struct highway_class_rule **rules,
	  struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t bytes = 0, sum;
	uint16_t i, next;

	for (i = 0; i < n; i = next) {
		sum = 0;
		for (next = i; next < n && rules[next] == rules[i]; next++)
			sum += pkts[next]->pkt_len;
		highway_counter_add(&txq->counters[rules[i]->slot], next - i, sum);
		bytes += sum;
	}
	count_for_link(txq, rules[0]->link, n, bytes);
}

/* Frames side by side that go to the same peer, by whatever rules, at once. */
static uint16_t
send_run(struct highway_vnf_txq *txq, const struct highway_view *view,
	 const struct highway_class_rule **rules, struct rte_mbuf **pkts, uint16_t n)
{
	struct highway_tx_link *tl;
	uint16_t run;

	for (run = 0; run < n && rules[run] != NULL && rules[run]->link == rules[0]->link &&
	     ready(txq, view, rules[run]) && pkts[run]->pkt_len <= rules[run]->max_frame; run++)
		;
	if (run == 0)
		return 0;
	tl = &txq->links[rules[0]->link];
	run = HIGHWAY_ISA(highway_put)(&tl->ring, pkts, run);
	highway_producer_publish(&tl->ring);
	count_run(txq, rules, pkts, run);
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

/* Frames at the front that all go by the only rule there is; the others need a closer look. */
static uint16_t
send_alone(struct highway_vnf_txq *txq, const struct highway_view *view, struct rte_mbuf **pkts,
	   uint16_t n)
{
	const struct highway_classifier *classifier = &view->classifier;
	const struct highway_class_rule *rule = classifier->alone;
	struct highway_tx_link *tl = &txq->links[rule->link];
	uint16_t run;

	if (unlikely(!ready(txq, view, rule)))
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
	count(txq, rule, run, highway_frames_bytes(pkts, run));
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
		run = highway_frames_ok(pkts + i, n - i);
		done = HIGHWAY_ISA(highway_put)(&txq->normal, pkts + i, run);
		txq->stats.tx_normal_packets += done;
		txq->stats.tx_normal_bytes += highway_frames_bytes(pkts + i, done);
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
	uint64_t flags = 0;

	/*
	 * The application promises: one pool, and nobody else holds them. It need not know that
	 * those from another port of this driver have its buffers.
	 */
	for (i = 0; txq->fast_free && i < n; i++) {
		segments |= pkts[i]->nb_segs;
		flags |= pkts[i]->ol_flags;
	}
	if (likely(segments == 1 && (flags & RTE_MBUF_F_EXTERNAL) == 0))
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
