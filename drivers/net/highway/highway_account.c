/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From the counters that VNFs write to what OVS is told. Counters in shared memory only grow and
 * are never reset; the switch remembers what it has seen of each and gives the difference to the
 * rule that owns the slot, to its port (received) and to the peer's port (sent). All under
 * highway_lock.
 */

#include <string.h>

#include <rte_cycles.h>

#include "highway.h"

/* More than any machine can send: one packet per nanosecond and queue, and a burst. */
#define PACKETS_PER_NS 1
#define SLACK 4096

static const struct highway_counter *
counter_of(const struct highway_port *port, uint32_t queue, uint32_t slot)
{
	const struct highway_counter *all = RTE_PTR_ADD(port->map.base,
							port->geometry.counters_offset);

	return &all[(uint64_t)queue * port->geometry.n_rules + slot];
}

static struct highway_counter
read_counter(const struct highway_counter *shared)
{
	struct highway_counter counter;

	/* Packets first: pairs with tally_flush(), so that bytes are never behind packets. */
	counter.packets = __atomic_load_n(&shared->packets, __ATOMIC_ACQUIRE);
	counter.bytes = __atomic_load_n(&shared->bytes, __ATOMIC_RELAXED);
	return counter;
}

/** A slot gets a new owner: what its counters say now is the past. */
void
highway_account_start(struct highway_port *port, uint32_t slot)
{
	struct highway_slot *s = &port->sw->slots[slot];
	uint32_t queue;

	for (queue = 0; queue < port->geometry.n_queues; queue++)
		s->seen[queue] = read_counter(counter_of(port, queue, slot));
	s->seen_tsc = rte_rdtsc();
}

/* What one queue has sent by the slot's rule since the last look, as far as it is possible. */
static struct highway_counter
difference(struct highway_port *port, struct highway_slot *s, uint32_t slot, uint32_t queue,
	   uint64_t most)
{
	struct highway_counter now = read_counter(counter_of(port, queue, slot));
	struct highway_counter *seen = &s->seen[queue], diff;

	if (unlikely(now.packets < seen->packets || now.bytes < seen->bytes ||
		     now.packets - seen->packets > most)) {
		port->sw->bad_counters++;
		*seen = now;
		return (struct highway_counter){ 0 };
	}
	diff.packets = now.packets - seen->packets;
	/* Bytes may be ahead of packets by a burst: the rest is taken with the next look. */
	diff.bytes = RTE_MIN(now.bytes - seen->bytes, diff.packets * HIGHWAY_MAX_FRAME);
	seen->packets = now.packets;
	seen->bytes += diff.bytes;
	return diff;
}

/** Account what a slot's counters have grown by. */
void
highway_account_slot(struct highway_port *port, uint32_t slot)
{
	struct highway_slot *s = &port->sw->slots[slot];
	struct highway_counter sum = { 0 };
	uint64_t now = rte_rdtsc(), most;
	struct highway_port *peer;
	uint32_t queue;

	most = (uint64_t)((double)(now - s->seen_tsc) * 1e9 / (double)rte_get_tsc_hz()) *
	       PACKETS_PER_NS + SLACK;
	s->seen_tsc = now;
	for (queue = 0; queue < port->geometry.n_queues; queue++) {
		struct highway_counter diff = difference(port, s, slot, queue, most);

		sum.packets += diff.packets;
		sum.bytes += diff.bytes;
	}
	if (sum.packets == 0)
		return;
	port->sw->bypass_rx_packets += sum.packets;
	port->sw->bypass_rx_bytes += sum.bytes;
	peer = highway_switch_find(s->peer_id);
	if (peer != NULL) {
		peer->sw->bypass_tx_packets += sum.packets;
		peer->sw->bypass_tx_bytes += sum.bytes;
		highway_compare_sent(peer, port->region_id, &sum);
	}
	if (s->flow != NULL) {
		s->flow->unread_packets += sum.packets;
		s->flow->unread_bytes += sum.bytes;
	} else {
		highway_account_bequeath(port, &s->key, &s->mask, sum.packets, sum.bytes);
	}
}

/** Account the slot of a withdrawn rule; it is free once no queue can count for it any more. */
void
highway_account_dying(struct highway_port *port, uint32_t slot)
{
	struct highway_slot *s = &port->sw->slots[slot];
	bool over = highway_flow_acknowledged(port, s->change);

	highway_account_slot(port, slot);
	s->dying = !over;
}

/** Account every slot of a port. */
void
highway_account_port(struct highway_port *port)
{
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		if (port->sw->slots[slot].flow != NULL)
			highway_account_slot(port, slot);
		else if (port->sw->slots[slot].dying)
			highway_account_dying(port, slot);
	}
}

/** Account every port: what a port's VNF was sent past the switch stands in its peers' counters. */
void
highway_account_all(void)
{
	struct highway_port *port;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->sw != NULL)
			highway_account_port(port);
	}
}

/* ------------------------------------------------------------------- hits that nobody read --- */

static bool
same_pattern(const struct highway_key *key, const struct highway_key *mask,
	     const struct highway_key *other_key, const struct highway_key *other_mask)
{
	return memcmp(key, other_key, sizeof(*key)) == 0 &&
	       memcmp(mask, other_mask, sizeof(*mask)) == 0;
}

/** Give hits to the rule that has this pattern now, else keep them for the next that comes. */
void
highway_account_bequeath(struct highway_port *port, const struct highway_key *key,
			 const struct highway_key *mask, uint64_t packets, uint64_t bytes)
{
	struct highway_orphan *orphan, *place = NULL;
	struct rte_flow *flow;
	int i;

	if (packets == 0)
		return;
	TAILQ_FOREACH(flow, &port->sw->flows, next) {
		if (same_pattern(key, mask, &flow->key, &flow->mask)) {
			flow->unread_packets += packets;
			flow->unread_bytes += bytes;
			return;
		}
	}
	for (i = 0; i < HIGHWAY_ORPHANS; i++) {
		orphan = &port->sw->orphans[i];
		if (orphan->tsc != 0 && same_pattern(key, mask, &orphan->key, &orphan->mask)) {
			place = orphan;
			break;
		}
		if (orphan->tsc == 0 && place == NULL)
			place = orphan;
	}
	if (place == NULL) {
		port->sw->unclaimed += packets;
		return;
	}
	if (place->tsc == 0)
		*place = (struct highway_orphan){ .key = *key, .mask = *mask };
	place->packets += packets;
	place->bytes += bytes;
	place->tsc = rte_rdtsc();
}

/** A new rule takes the hits that were kept for its pattern. */
void
highway_account_inherit(struct highway_port *port, struct rte_flow *flow)
{
	int i;

	for (i = 0; i < HIGHWAY_ORPHANS; i++) {
		struct highway_orphan *orphan = &port->sw->orphans[i];

		if (orphan->tsc == 0 ||
		    !same_pattern(&orphan->key, &orphan->mask, &flow->key, &flow->mask))
			continue;
		flow->unread_packets += orphan->packets;
		flow->unread_bytes += orphan->bytes;
		orphan->tsc = 0;
	}
}

/** Give up hits for which no rule has come in time. */
void
highway_account_expire(struct highway_port *port)
{
	uint64_t limit = HIGHWAY_ORPHAN_S * rte_get_tsc_hz(), now = rte_rdtsc();
	int i;

	for (i = 0; i < HIGHWAY_ORPHANS; i++) {
		struct highway_orphan *orphan = &port->sw->orphans[i];

		if (orphan->tsc != 0 && now - orphan->tsc > limit) {
			port->sw->unclaimed += orphan->packets;
			orphan->tsc = 0;
		}
	}
}
