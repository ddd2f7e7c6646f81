/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Statistics from the receiving side, as highway-stats=receiver wants them for a port: hits of a
 * rule are what the receiver's VNF has counted for its copy, the inbound rule. The sender's
 * counters are read as ever, to be compared; nobody believes them.
 *
 * A VNF counts only what it checks. A sender whose link is not checked stays with its own counters:
 * highwayd names it before the link is used. While there is no link nothing is sent past the
 * switch, and the receiver is who says so. All under highway_lock.
 */

#include "highway.h"

/* A sender that is believed, NULL if it is not. */
static struct highway_believed *
believed(struct highway_switch *sw, uint64_t sender_id)
{
	uint32_t i;

	for (i = 0; i < sw->n_believed; i++) {
		if (sw->believed[i].sender_id == sender_id)
			return &sw->believed[i];
	}
	return NULL;
}

/** Does a port's VNF count what this sender's VNF sends there? */
bool
highway_received_counts(const struct highway_port *port, uint64_t sender_id)
{
	return port->sw->by_receiver && believed(port->sw, sender_id) == NULL;
}

/** An inbound rule stands in this slot from now on. */
void
highway_received_start(struct highway_port *port, uint32_t slot)
{
	if (port->sw->by_receiver)
		highway_meter_start(port, port->geometry.in_counters_offset, slot,
				    &port->sw->in_slots[slot].meter);
}

/** Account what the counters of an inbound rule have grown by. */
void
highway_received_slot(struct highway_port *port, uint32_t slot)
{
	struct highway_in_slot *s = &port->sw->in_slots[slot];
	struct highway_counter sum;

	if (!port->sw->by_receiver || !s->counted)
		return;
	sum = highway_meter_read(port, port->geometry.in_counters_offset, slot, &s->meter);
	if (sum.packets != 0 && highway_received_counts(port, s->source_id))
		highway_account_hits(highway_switch_find(s->source_id), port, s->flow, &s->key,
				     &s->mask, &sum);
}

/** Account every inbound rule of a port. */
void
highway_received_port(struct highway_port *port)
{
	uint32_t slot;

	if (!port->sw->by_receiver)
		return;
	for (slot = 0; slot < port->geometry.n_rules; slot++)
		highway_received_slot(port, slot);
}

/* What is said of senders that are not named. */
static void
set_default(struct highway_port *port, bool by_receiver)
{
	struct highway_switch *sw = port->sw;
	uint32_t slot, i, kept = 0;

	for (i = 0; i < sw->n_believed; i++) {
		if (sw->believed[i].told)
			sw->believed[kept++] = sw->believed[i];
	}
	sw->n_believed = kept;
	if (by_receiver && port->geometry.in_counters_offset == 0) {
		HW_LOG(WARNING, "port %s: its region is of an earlier release, so senders count "
		       "what is sent to it until the port is deleted and added again",
		       port->options.port);
		by_receiver = false;
	}
	if (by_receiver == sw->by_receiver)
		return;
	sw->by_receiver = by_receiver;
	for (slot = 0; slot < port->geometry.n_rules; slot++)
		highway_received_start(port, slot);
}

static void
set_sender(struct highway_port *port, uint64_t sender_id, bool by_receiver)
{
	struct highway_switch *sw = port->sw;
	struct highway_believed *known = believed(sw, sender_id);

	if (by_receiver) {
		if (known != NULL)
			*known = sw->believed[--sw->n_believed];
		return;
	}
	if (known == NULL && sw->n_believed < RTE_DIM(sw->believed))
		known = &sw->believed[sw->n_believed++];
	if (known == NULL) {
		HW_LOG(ERR, "port %s: more senders than links", port->options.port);
		return;
	}
	*known = (struct highway_believed){ .sender_id = sender_id, .told = true };
}

/** highwayd says who counts what is sent to a port past the switch. */
void
highway_received_set(struct highway_port *port, const struct highway_msg_stats *msg)
{
	bool by_receiver = msg->source == HIGHWAY_STATS_RECEIVER;

	/* Up to now it was as it was. Both counters go on, and both are read: none is lost. */
	highway_account_all();
	if (msg->sender_id == 0)
		set_default(port, by_receiver);
	else
		set_sender(port, msg->sender_id, by_receiver);
}

/** highwayd is there (again), and names the senders that are to be believed. */
void
highway_received_connected(struct highway_port *port)
{
	uint32_t i;

	for (i = 0; i < port->sw->n_believed; i++)
		port->sw->believed[i].told = false;
}
