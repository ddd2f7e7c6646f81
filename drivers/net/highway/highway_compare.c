/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Do the two ends of a link count the same? What a sender counts becomes OVS's statistics, and a
 * VNF can write what it likes. Its peer counts what it takes off the link, in its own region.
 *
 * The two are never read at one moment. At some moment all that the sender had counted is noted,
 * and what the receiver had told before; what it tells later, at least two times later, holds its
 * count of that moment between the two. So each look gives a range for the difference of the
 * counts, wider by what the rings hold. While both tell the truth all ranges have a part in common,
 * whatever the rate and however seldom somebody runs. All under highway_lock.
 */

#include <inttypes.h>

#include "highway.h"
#include "highway_copy.h"

/* Read an entry that the VNF may be writing. link_id 0: there is none, or it changes just now. */
static struct highway_heard
read_heard(const struct highway_heard *shared)
{
	struct highway_heard heard;

	/* Pairs with tell_heard() in the VNF. */
	heard.link_id = __atomic_load_n(&shared->link_id, __ATOMIC_ACQUIRE);
	heard.peer_id = __atomic_load_n(&shared->peer_id, __ATOMIC_RELAXED);
	heard.packets = __atomic_load_n(&shared->packets, __ATOMIC_RELAXED);
	heard.bytes = __atomic_load_n(&shared->bytes, __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&shared->link_id, __ATOMIC_RELAXED) != heard.link_id)
		heard.link_id = 0;
	return heard;
}

/** A sender's counters have grown by hits of rules towards this port. */
void
highway_compare_sent(struct highway_port *port, uint64_t sender_id,
		     const struct highway_counter *more)
{
	int i;

	for (i = 0; i < HIGHWAY_MAX_LINKS; i++) {
		struct highway_compared *c = &port->sw->compared[i];

		if (c->link_id == 0 || c->sender_id != sender_id)
			continue;
		c->sent_packets += more->packets;
		c->sent_bytes += more->bytes;
	}
}

/* Begin with a link, once its sender uses no rule that this process does not know. */
static void
begin(struct highway_compared *c, const struct highway_heard *heard, struct highway_port *sender)
{
	uint32_t change = __atomic_load_n(&sender->region->gate.change, __ATOMIC_ACQUIRE);

	*c = (struct highway_compared){ 0 };
	if (!sender->sw->in_charge || !highway_flow_acknowledged(sender, change))
		return;
	/* What it has counted so far is the past. */
	highway_account_port(sender);
	*c = (struct highway_compared){
		.link_id = heard->link_id,
		.sender_id = heard->peer_id,
		.base = { heard->packets, heard->bytes },
		.packets = { INT64_MIN, INT64_MAX },
		.bytes = { INT64_MIN, INT64_MAX },
	};
}

/* Take what a look says into account. false: it cannot be so. */
static bool
narrow(struct highway_range *range, uint64_t sent, uint64_t heard_before, uint64_t heard_after,
       int64_t in_rings, int64_t uncounted)
{
	/* A VNF can have written any number. */
	int64_t least = (int64_t)(sent - heard_after - (uint64_t)in_rings);
	int64_t most = (int64_t)(sent - heard_before + (uint64_t)uncounted);

	range->least = RTE_MAX(range->least, least);
	range->most = RTE_MIN(range->most, most);
	return range->least <= range->most;
}

static void
report(struct highway_port *port, struct highway_compared *c, const struct highway_port *sender,
       const struct highway_heard *heard)
{
	const union highway_msg_body body = {
		.mismatch = {
			.link_id = c->link_id,
			.sender_id = c->sender_id,
			.receiver_id = port->region_id,
			.sent_packets = c->sent.packets,
			.received_packets = heard->packets - c->base.packets,
			.sent_bytes = c->sent.bytes,
			.received_bytes = heard->bytes - c->base.bytes,
		},
	};

	c->reported = true;
	port->sw->mismatches++;
	HW_LOG(WARNING, "port %s: what %s says it has sent here past the switch is not what was "
	       "received; one of the two counts wrongly", port->options.port,
	       sender->options.port);
	if (port->conn.state == HIGHWAY_CONN_UP && port->conn.abi_version >= HIGHWAY_ABI_COMPARED)
		highway_ctrl_send(port, HIGHWAY_MSG_MISMATCH, &body, -1);
}

static void
look(struct highway_port *port, struct highway_compared *c, const struct highway_heard *heard,
     struct highway_port *sender, uint64_t told)
{
	int64_t queues = sender->geometry.n_queues;
	/* Counted after it was published, a burst per queue at most; or before, by other drivers. */
	int64_t uncounted = queues * HIGHWAY_BURST;
	int64_t in_rings = queues * RTE_MAX(sender->geometry.ring_size, port->geometry.ring_size) +
			   uncounted;
	bool same;

	if (c->told == 0) {
		highway_account_port(sender);
		c->told = told;
		c->sent = (struct highway_counter){ c->sent_packets, c->sent_bytes };
		c->heard = (struct highway_counter){ heard->packets, heard->bytes };
		return;
	}
	/* What is told once may have been read before that moment. */
	if (told - c->told < 2)
		return;
	c->told = 0;
	same = narrow(&c->packets, c->sent.packets, c->heard.packets, heard->packets, in_rings,
		      uncounted);
	same &= narrow(&c->bytes, c->sent.bytes, c->heard.bytes, heard->bytes,
		       in_rings * HIGHWAY_MAX_FRAME, uncounted * HIGHWAY_MAX_FRAME);
	if (!same && !c->reported)
		report(port, c, sender, heard);
}

/** Compare what is sent to a port's VNF past the switch with what it takes. */
void
highway_compare_tick(struct highway_port *port)
{
	uint64_t told = __atomic_load_n(&port->region->vnf_state.told, __ATOMIC_ACQUIRE);
	int i;

	for (i = 0; i < HIGHWAY_MAX_LINKS; i++) {
		struct highway_compared *c = &port->sw->compared[i];
		struct highway_heard heard = read_heard(&port->region->heard[i]);
		struct highway_port *sender = NULL;

		if (heard.link_id != 0)
			sender = highway_switch_find(heard.peer_id);
		if (sender == NULL || sender == port)
			c->link_id = 0;
		else if (c->link_id != heard.link_id || c->sender_id != heard.peer_id)
			begin(c, &heard, sender);
		else
			look(port, c, &heard, sender, told == 0 ? 1 : told);
	}
}
