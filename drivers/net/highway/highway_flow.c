/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * rte_flow at the switch: what OVS puts becomes a rule in the port's shared rule table if it can
 * be bypassed, and else is accepted and never used ("inert"): then OVS goes on in software and
 * keeps the flow's history. A query never fails and never goes back.
 */

#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>

#include "highway.h"

static struct highway_rule *
rule_at(const struct highway_port *port, uint32_t slot)
{
	struct highway_rule *table = RTE_PTR_ADD(port->map.base, port->geometry.rules_offset);

	return &table[slot];
}

/* ------------------------------------------------------------------------------ rule slots --- */

/** Has every queue of the VNF followed this change, so that it uses no rule that was gone by then? */
bool
highway_flow_acknowledged(const struct highway_port *port, uint32_t change)
{
	const struct highway_vnf_state *vnf = &port->region->vnf_state;

	if (vnf->attached == 0 || vnf->started == 0)
		return true;
	/* Pairs with the store of ack in highway_view_renew(). */
	return (int32_t)(__atomic_load_n(&vnf->ack, __ATOMIC_ACQUIRE) - change) >= 0;
}

/* A slot that nobody uses and that no queue can count for any more. */
static int
take_slot(struct highway_port *port)
{
	struct highway_switch *sw = port->sw;
	uint32_t n = port->geometry.n_rules, i, slot;

	for (i = 0; i < n; i++) {
		const struct highway_slot *s;

		slot = (sw->slot_next + i) % n;
		s = &sw->slots[slot];
		if (s->dying)
			highway_account_dying(port, slot);
		if (s->flow == NULL && !s->dying) {
			sw->slot_next = slot + 1;
			return (int)slot;
		}
	}
	return -ENOSPC;
}

/* Put the flow's rule in force, under a generation that was never used before. */
static void
arm(struct highway_port *port, struct rte_flow *flow, struct highway_port *peer)
{
	uint32_t max_frame = peer->dev->data->mtu + RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
	struct highway_rule *rule = rule_at(port, flow->slot);

	/* Nobody takes the new words for part of the rule that was here before. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	rule->generation = ++port->sw->generation;
	rule->peer_id = flow->peer_id;
	rule->max_frame = max_frame;
	rule->key = flow->key;
	rule->mask = flow->mask;
	snprintf(rule->peer_name, sizeof(rule->peer_name), "%.*s",
		 (int)sizeof(rule->peer_name) - 1, peer->options.port);
	/* The receiver's copy first, so that it is there whenever a frame comes by the rule. */
	flow->in_slot = highway_inbound_add(peer, port, flow, max_frame);
	rule->flags = flow->in_slot < 0 ? HIGHWAY_RULE_UNCHECKED : 0;
	/* Last: pairs with highway_rule_read() in the VNF. */
	__atomic_store_n(&rule->live, rule->generation, __ATOMIC_RELEASE);
	flow->state = HIGHWAY_FLOW_LIVE;
	port->sw->slots[flow->slot].live_until_tsc = 0;
	highway_gate_change(port->region);
}

/* Take it out of force; the slot stays the flow's. */
static void
disarm(struct highway_port *port, struct rte_flow *flow)
{
	struct highway_port *peer = highway_switch_find(flow->peer_id);

	__atomic_store_n(&rule_at(port, flow->slot)->live, 0, __ATOMIC_RELEASE);
	if (flow->state == HIGHWAY_FLOW_LIVE)
		port->sw->slots[flow->slot].live_until_tsc = rte_rdtsc();
	flow->state = HIGHWAY_FLOW_SUSPENDED;
	highway_gate_change(port->region);
	if (peer != NULL && flow->in_slot >= 0)
		highway_inbound_end(peer, (uint32_t)flow->in_slot,
				    __atomic_load_n(&port->region->gate.change, __ATOMIC_RELAXED));
	flow->in_slot = -1;
}

static void
count_rule(struct highway_port *port, uint64_t peer_id, int by)
{
	struct highway_peer *peer = highway_switch_peer(port, peer_id, by > 0);

	if (peer == NULL)
		return;
	peer->rules += (uint32_t)by;
	port->sw->wants_dirty = true;
	highway_ctrl_kick();
}

/* The flow gives its slot back once every sender has stopped using it. */
static void
release_slot(struct highway_port *port, struct rte_flow *flow)
{
	struct highway_slot *s = &port->sw->slots[flow->slot];

	disarm(port, flow);
	highway_account_slot(port, flow->slot);
	s->flow = NULL;
	s->dying = true;
	s->key = flow->key;
	s->mask = flow->mask;
	s->change = __atomic_load_n(&port->region->gate.change, __ATOMIC_RELAXED);
	count_rule(port, flow->peer_id, -1);
	flow->state = HIGHWAY_FLOW_INERT;
}

/* -------------------------------------------------------------------------------- actions --- */

static struct highway_port *
switch_port_of(uint32_t port_id)
{
	struct highway_port *port;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->sw != NULL && port->dev->data->port_id == port_id)
			return port;
	}
	return NULL;
}

/* The one port of ours that everything goes to and nothing else happens; NULL if not so. */
static struct highway_port *
only_output(const struct rte_flow_action *action)
{
	struct highway_port *peer = NULL;
	unsigned int outputs = 0;
	uint32_t id;

	for (; action->type != RTE_FLOW_ACTION_TYPE_END; action++) {
		switch (action->type) {
		case RTE_FLOW_ACTION_TYPE_VOID:
		case RTE_FLOW_ACTION_TYPE_COUNT:
			continue;
		case RTE_FLOW_ACTION_TYPE_PORT_ID:
			id = ((const struct rte_flow_action_port_id *)action->conf)->id;
			break;
		case RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT:
			id = ((const struct rte_flow_action_ethdev *)action->conf)->port_id;
			break;
		default:
			return NULL;
		}
		outputs++;
		peer = switch_port_of(id);
	}
	return outputs == 1 ? peer : NULL;
}

/* -------------------------------------------------------------------------------- rte_flow --- */

static const char *
refusal(const struct rte_flow_attr *attr, const struct rte_flow_action *actions)
{
	if (attr == NULL || !attr->transfer || attr->ingress || attr->egress)
		return "only transfer rules";
	if (attr->group != 0 || attr->priority != 0)
		return "only group 0 and priority 0";
	if (actions == NULL)
		return "no actions";
	return NULL;
}

/* Turn an accepted flow into a rule if it can be one. */
static void
place(struct highway_port *port, struct rte_flow *flow, struct highway_port *peer)
{
	struct highway_slot *s;
	int slot = take_slot(port);

	if (slot < 0) {
		port->sw->table_full++;
		return;
	}
	flow->slot = (uint32_t)slot;
	flow->peer_id = peer->region_id;
	s = &port->sw->slots[slot];
	s->flow = flow;
	s->peer_id = peer->region_id;
	s->live_until_tsc = 0;
	s->peer_closed = false;
	s->peer_counts = false;
	highway_account_start(port, flow->slot);
	flow->state = HIGHWAY_FLOW_SUSPENDED;
	count_rule(port, flow->peer_id, 1);
	if (highway_switch_reachable(peer))
		arm(port, flow, peer);
}

static struct rte_flow *
flow_create(struct rte_eth_dev *dev, const struct rte_flow_attr *attr,
	    const struct rte_flow_item pattern[], const struct rte_flow_action actions[],
	    struct rte_flow_error *error)
{
	struct highway_port *port = dev->data->dev_private, *peer;
	const char *why = refusal(attr, actions);
	struct highway_key key, mask;
	struct rte_flow *flow;
	bool usable = false;

	if (why == NULL && highway_pattern_parse(pattern, &key, &mask, &usable) != 0)
		why = "pattern not understood";
	if (why != NULL || port->sw == NULL) {
		if (port->sw != NULL)
			__atomic_fetch_add(&port->sw->refused, 1, __ATOMIC_RELAXED);
		rte_flow_error_set(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL, why);
		return NULL;
	}
	flow = calloc(1, sizeof(*flow));
	if (flow == NULL) {
		rte_flow_error_set(error, ENOMEM, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL, NULL);
		return NULL;
	}
	flow->key = key;
	flow->mask = mask;
	flow->in_slot = -1;
	pthread_mutex_lock(&highway_lock);
	highway_switch_take_charge(port);
	highway_account_inherit(port, flow);
	peer = usable ? only_output(actions) : NULL;
	if (peer != NULL && peer != port)
		place(port, flow, peer);
	TAILQ_INSERT_HEAD(&port->sw->flows, flow, next);
	pthread_mutex_unlock(&highway_lock);
	return flow;
}

static int
flow_validate(struct rte_eth_dev *dev, const struct rte_flow_attr *attr,
	      const struct rte_flow_item pattern[], const struct rte_flow_action actions[],
	      struct rte_flow_error *error)
{
	struct highway_port *port = dev->data->dev_private;
	const char *why = refusal(attr, actions);
	struct highway_key key, mask;
	bool usable;

	if (why == NULL && highway_pattern_parse(pattern, &key, &mask, &usable) != 0)
		why = "pattern not understood";
	if (why == NULL && port->sw == NULL)
		why = "only at the switch's side";
	if (why == NULL)
		return 0;
	return rte_flow_error_set(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL, why);
}

static void
destroy(struct highway_port *port, struct rte_flow *flow)
{
	TAILQ_REMOVE(&port->sw->flows, flow, next);
	if (flow->state != HIGHWAY_FLOW_INERT)
		release_slot(port, flow);
	highway_account_bequeath(port, &flow->key, &flow->mask, flow->unread_packets,
				 flow->unread_bytes);
	free(flow);
}

static int
flow_destroy(struct rte_eth_dev *dev, struct rte_flow *flow, struct rte_flow_error *error)
{
	struct highway_port *port = dev->data->dev_private;
	int ret = 0;

	pthread_mutex_lock(&highway_lock);
	if (port->sw != NULL && flow != NULL)
		destroy(port, flow);
	else
		ret = rte_flow_error_set(error, ENOENT, RTE_FLOW_ERROR_TYPE_HANDLE, NULL,
					 "no such rule");
	pthread_mutex_unlock(&highway_lock);
	return ret;
}

static int
flow_flush(struct rte_eth_dev *dev, struct rte_flow_error *error __rte_unused)
{
	struct highway_port *port = dev->data->dev_private;
	struct rte_flow *flow;

	pthread_mutex_lock(&highway_lock);
	while (port->sw != NULL && (flow = TAILQ_FIRST(&port->sw->flows)) != NULL)
		destroy(port, flow);
	pthread_mutex_unlock(&highway_lock);
	return 0;
}

static int
flow_query(struct rte_eth_dev *dev, struct rte_flow *flow, const struct rte_flow_action *action,
	   void *data, struct rte_flow_error *error)
{
	struct highway_port *port = dev->data->dev_private;
	struct rte_flow_query_count *count = data;

	if (action == NULL || action->type != RTE_FLOW_ACTION_TYPE_COUNT || port->sw == NULL)
		return rte_flow_error_set(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ACTION, NULL,
					  "only COUNT can be queried");
	pthread_mutex_lock(&highway_lock);
	highway_account_flow(port, flow);
	count->hits = flow->unread_packets;
	count->bytes = flow->unread_bytes;
	count->hits_set = 1;
	count->bytes_set = 1;
	if (count->reset) {
		flow->unread_packets = 0;
		flow->unread_bytes = 0;
	}
	pthread_mutex_unlock(&highway_lock);
	return 0;
}

const struct rte_flow_ops highway_flow_ops = {
	.validate = flow_validate,
	.create = flow_create,
	.destroy = flow_destroy,
	.flush = flow_flush,
	.query = flow_query,
};

/* ------------------------------------------------------------------------- peers' changes --- */

/** The port is closed: whatever rules are left go with it. Under highway_lock. */
void
highway_flow_drop_all(struct highway_port *port)
{
	struct rte_flow *flow;

	while ((flow = TAILQ_FIRST(&port->sw->flows)) != NULL)
		destroy(port, flow);
}

typedef void (*flow_visit)(struct highway_port *port, struct rte_flow *flow,
			   struct highway_port *peer);

/* Visit every flow that has a slot for its rule towards a peer; `peer` is NULL if it is gone. */
static void
visit_towards(uint64_t peer_id, flow_visit visit)
{
	struct highway_port *port, *peer = highway_switch_find(peer_id);
	struct rte_flow *flow;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->sw == NULL)
			continue;
		TAILQ_FOREACH(flow, &port->sw->flows, next) {
			if (flow->state != HIGHWAY_FLOW_INERT && flow->peer_id == peer_id)
				visit(port, flow, peer);
		}
	}
}

static void
arm_anew(struct highway_port *port, struct rte_flow *flow, struct highway_port *peer)
{
	if (flow->state == HIGHWAY_FLOW_LIVE)
		disarm(port, flow);
	if (peer != NULL && highway_switch_reachable(peer))
		arm(port, flow, peer);
}

/** A peer went up or down, or changed its MTU: arm, disarm or re-arm what points to it. */
void
highway_flow_peer_changed(uint64_t peer_id)
{
	visit_towards(peer_id, arm_anew);
}

static void
copy_again(struct highway_port *port, struct rte_flow *flow, struct highway_port *peer)
{
	if (flow->state == HIGHWAY_FLOW_LIVE && flow->in_slot < 0)
		arm_anew(port, flow, peer);
}

/** The peer has room for copies again: rules that it has none of get one. */
void
highway_flow_copy_again(uint64_t peer_id)
{
	visit_towards(peer_id, copy_again);
}

static void
make_inert(struct highway_port *port, struct rte_flow *flow,
	   struct highway_port *peer __rte_unused)
{
	struct highway_slot *s = &port->sw->slots[flow->slot];

	release_slot(port, flow);
	s->peer_closed = highway_just_now(s->live_until_tsc);
}

/** A peer is deleted: what points to it is inert from now on. OVS may keep such flows. */
void
highway_flow_peer_gone(uint64_t peer_id)
{
	visit_towards(peer_id, make_inert);
}

/** A peer that was closed is there again, with the same region: its old rules are over. */
void
highway_flow_peer_back(uint64_t peer_id)
{
	struct highway_port *port;
	uint32_t slot;

	TAILQ_FOREACH(port, &highway_ports, next) {
		for (slot = 0; port->sw != NULL && slot < port->geometry.n_rules; slot++) {
			if (port->sw->slots[slot].peer_id == peer_id)
				port->sw->slots[slot].peer_closed = false;
		}
	}
}

/**
 * The port is closed. If that is because ovs-vswitchd ends, then so were the rules that it has just
 * destroyed: mark them, so that highwayd, which knows whether the port was deleted, can have the
 * bypass go on without a switch. Under highway_lock.
 */
void
highway_flow_keep(struct highway_port *port)
{
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		const struct highway_slot *s = &port->sw->slots[slot];
		struct highway_rule *rule = rule_at(port, slot);

		if (s->peer_closed || highway_just_now(s->live_until_tsc))
			rule->flags |= HIGHWAY_RULE_KEPT;
		else
			rule->flags &= ~(uint32_t)HIGHWAY_RULE_KEPT;
	}
}

/** What an earlier ovs-vswitchd left in the rule table is void from here on. */
void
highway_flow_void(struct highway_port *port)
{
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		struct highway_rule *rule = rule_at(port, slot);

		__atomic_store_n(&rule->live, 0, __ATOMIC_RELEASE);
		rule->flags = 0;
	}
}
