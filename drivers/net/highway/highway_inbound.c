/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Inbound rules: the switch writes a copy of each rule into its receiver's region, so that a
 * receiver can check what comes over a link that is checked. A copy comes before its rule and goes
 * after it, when no sender uses the rule any more. All under highway_lock.
 */

#include <rte_cycles.h>

#include "highway.h"

#define END_LIMIT_S 5	/* for a sender to stop using a rule that was withdrawn */
#define GONE_LIMIT_S 20	/* for a receiver to receive the last that was sent by it */
#define RETURN_LIMIT_S 60 /* for the sender's port to be added again after a restart */

static struct highway_rule *
in_rule(const struct highway_port *port, uint32_t slot)
{
	struct highway_rule *table = RTE_PTR_ADD(port->map.base, port->geometry.in_rules_offset);

	return &table[slot];
}

static uint64_t
in_seconds(unsigned int seconds)
{
	return rte_rdtsc() + seconds * rte_get_tsc_hz();
}

/**
 * Keep what an earlier ovs-vswitchd left until the senders have stopped using it: their ports may
 * be added later than this one.
 */
void
highway_inbound_take_over(struct highway_port *port)
{
	uint32_t slot;

	port->sw->n_ending = 0;
	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		const struct highway_rule *rule = in_rule(port, slot);

		port->sw->in_slots[slot] = (struct highway_in_slot){ 0 };
		if (rule->live == 0)
			continue;
		port->sw->n_ending++;
		port->sw->in_slots[slot] = (struct highway_in_slot){
			.source_id = rule->peer_id,
			.ending = true,
			.limit_tsc = in_seconds(RETURN_LIMIT_S),
		};
	}
}

/**
 * Put a copy of a rule of `source` into the table of its receiver. It is made of what OVS wants:
 * the sender's VNF can write to its own rule.
 *
 * @return its slot, or -ENOSPC
 */
int
highway_inbound_add(struct highway_port *port, const struct highway_port *source,
		    struct rte_flow *flow, uint32_t max_frame)
{
	struct highway_switch *sw = port->sw;
	uint32_t n = port->geometry.n_rules, i, slot;
	struct highway_rule *copy;

	for (i = 0; i < n; i++) {
		slot = (sw->in_next + i) % n;
		if (sw->in_slots[slot].source_id == 0)
			break;
	}
	if (i == n) {
		sw->in_full = true;
		return -ENOSPC;
	}
	sw->in_next = slot + 1;
	sw->in_slots[slot] = (struct highway_in_slot){
		.source_id = source->region_id,
		.counted = true,
		.flow = flow,
		.key = flow->key,
		.mask = flow->mask,
	};
	highway_received_start(port, slot);
	copy = in_rule(port, slot);
	/* Nobody takes the new words for part of the copy that was here before. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	copy->generation = ++sw->generation;
	copy->peer_id = source->region_id;
	copy->max_frame = max_frame;
	copy->flags = 0;
	copy->key = flow->key;
	copy->mask = flow->mask;
	snprintf(copy->peer_name, sizeof(copy->peer_name), "%.*s",
		 (int)sizeof(copy->peer_name) - 1, source->options.port);
	/* Last: pairs with highway_rule_read() in the VNF. */
	__atomic_store_n(&copy->live, copy->generation, __ATOMIC_RELEASE);
	highway_gate_change(port->region);
	return (int)slot;
}

/** The rule was withdrawn at the sender's `change`; the copy stays until that is acknowledged. */
void
highway_inbound_end(struct highway_port *port, uint32_t slot, uint32_t change)
{
	struct highway_in_slot *s = &port->sw->in_slots[slot];

	highway_received_slot(port, slot);
	s->flow = NULL;
	port->sw->n_ending++;
	s->ending = true;
	s->dated = true;
	s->change = change;
	s->limit_tsc = in_seconds(END_LIMIT_S);
	s->withdrawn_tsc = rte_rdtsc();
}

/**
 * The port is closed. If that is because ovs-vswitchd ends, then so were the withdrawals of just
 * now: those copies stay, or are marked, so that highwayd can put them in force again.
 */
void
highway_inbound_keep(struct highway_port *port)
{
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		const struct highway_in_slot *s = &port->sw->in_slots[slot];
		struct highway_rule *copy = in_rule(port, slot);
		bool used = s->source_id != 0 && !s->ending;

		if (used || highway_just_now(s->withdrawn_tsc)) {
			copy->flags = HIGHWAY_RULE_KEPT;
			continue;
		}
		copy->flags = 0;
		__atomic_store_n(&copy->live, 0, __ATOMIC_RELEASE);
	}
}

static bool
ended(struct highway_in_slot *s)
{
	const struct highway_port *source = highway_switch_find(s->source_id);

	if (rte_rdtsc() > s->limit_tsc)
		return true;
	/* Left by an earlier life: while the sender's port is not back, its rules may be in use;
	 * they were withdrawn when it came back, so that its present change is late enough.
	 */
	if (!s->dated) {
		if (source == NULL || !source->sw->in_charge)
			return false;
		s->dated = true;
		s->change = __atomic_load_n(&source->region->gate.change, __ATOMIC_RELAXED);
		s->limit_tsc = in_seconds(END_LIMIT_S);
	}
	return source == NULL || highway_flow_acknowledged(source, s->change);
}

/* Will the receiver's counters of a rule that is gone from its table stand still? */
static bool
counted_up(const struct highway_port *port, const struct highway_in_slot *s)
{
	const struct highway_vnf_state *vnf = &port->region->vnf_state;

	if (!port->sw->by_receiver || rte_rdtsc() > s->limit_tsc || vnf->attached == 0 ||
	    vnf->started == 0 || vnf->abi_version < HIGHWAY_ABI_COUNTED)
		return true;
	/* Pairs with the store of in_ack in highway_view_renew(). */
	return s->dated &&
	       (int32_t)(__atomic_load_n(&vnf->in_ack, __ATOMIC_ACQUIRE) - s->change) >= 0;
}

/* Rules have gone from the table: the receiver is to follow. */
static void
tell_gone(struct highway_port *port)
{
	uint32_t change, slot;

	highway_gate_change(port->region);
	change = __atomic_load_n(&port->region->gate.change, __ATOMIC_RELAXED);
	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		struct highway_in_slot *s = &port->sw->in_slots[slot];

		if (!s->gone || s->dated)
			continue;
		s->dated = true;
		s->change = change;
	}
}

/** Called by the control thread. */
void
highway_inbound_tick(struct highway_port *port)
{
	struct highway_switch *sw = port->sw;
	bool gone = false, freed = false;
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules && sw->n_ending != 0; slot++) {
		struct highway_in_slot *s = &sw->in_slots[slot];

		if (!s->ending || (!s->gone && !ended(s)))
			continue;
		if (!s->gone) {
			__atomic_store_n(&in_rule(port, slot)->live, 0, __ATOMIC_RELEASE);
			s->gone = true;
			s->dated = false;
			s->limit_tsc = in_seconds(GONE_LIMIT_S);
			gone = true;
		}
		if (!counted_up(port, s))
			continue;
		highway_received_slot(port, slot);
		*s = (struct highway_in_slot){ .withdrawn_tsc = s->withdrawn_tsc };
		sw->n_ending--;
		freed = true;
	}
	if (gone)
		tell_gone(port);
	if (freed && sw->in_full) {
		sw->in_full = false;
		highway_flow_copy_again(port->region_id);
	}
}
