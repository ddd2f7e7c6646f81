/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From the counters that VNFs write to what OVS is told: what they have grown by is given to the
 * rule that owns the slot, to its port (received) and to the peer's port (sent). Who is believed,
 * the sender or the receiver, is in highway_received.c. All under highway_lock.
 */

#include <string.h>

#include <rte_cycles.h>

#include "highway.h"

/** A slot gets a new owner: what its counters say now is the past. */
void
highway_account_start(struct highway_port *port, uint32_t slot)
{
	highway_meter_start(port, port->geometry.counters_offset, slot,
			    &port->sw->slots[slot].meter);
}

/**
 * Give hits to the rule that they were made by, to its port (received) and to the peer's (sent).
 *
 * @param port the sender's, NULL if it is gone
 * @param peer the receiver's, NULL if it is gone
 * @param flow the rule, NULL if it was withdrawn; then the pattern says whose they are
 */
void
highway_account_hits(struct highway_port *port, struct highway_port *peer, struct rte_flow *flow,
		     const struct highway_key *key, const struct highway_key *mask,
		     const struct highway_counter *hits)
{
	if (peer != NULL) {
		peer->sw->bypass_tx_packets += hits->packets;
		peer->sw->bypass_tx_bytes += hits->bytes;
	}
	if (port == NULL)
		return;
	port->sw->bypass_rx_packets += hits->packets;
	port->sw->bypass_rx_bytes += hits->bytes;
	if (flow != NULL) {
		flow->unread_packets += hits->packets;
		flow->unread_bytes += hits->bytes;
	} else {
		highway_account_bequeath(port, key, mask, hits->packets, hits->bytes);
	}
}

/** Account what a slot's counters have grown by. */
void
highway_account_slot(struct highway_port *port, uint32_t slot)
{
	struct highway_slot *s = &port->sw->slots[slot];
	struct highway_counter sum = highway_meter_read(port, port->geometry.counters_offset, slot,
							&s->meter);
	struct highway_port *peer;

	peer = highway_switch_find(s->peer_id);
	if (peer != NULL)
		s->peer_counts = highway_received_counts(peer, port->region_id);
	if (sum.packets == 0)
		return;
	if (peer != NULL)
		highway_compare_sent(peer, port->region_id, &sum);
	if (!s->peer_counts)
		highway_account_hits(port, peer, s->flow, &s->key, &s->mask, &sum);
}

/** Account what a rule has let through. */
void
highway_account_flow(struct highway_port *port, struct rte_flow *flow)
{
	struct highway_port *peer = flow->in_slot < 0 ? NULL : highway_switch_find(flow->peer_id);

	if (flow->state != HIGHWAY_FLOW_INERT)
		highway_account_slot(port, flow->slot);
	if (peer != NULL)
		highway_received_slot(peer, (uint32_t)flow->in_slot);
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

/** Account every slot of a port, and what its VNF counts for others. */
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
	highway_received_port(port);
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
