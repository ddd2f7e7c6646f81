/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * A port of the switch role: makes or adopts the port region, and keeps it while OVS has the port.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "highway.h"

#define HOLD_S 2	/* how long a purge may take before packets are delivered all the same */
#define QUIET_S 15	/* without a purge: until OVS has forgotten idle flows (10 s) for certain */

struct highway_port *
highway_switch_find(uint64_t region_id)
{
	struct highway_port *port;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->sw != NULL && port->region_id == region_id)
			return port;
	}
	return NULL;
}

struct highway_peer *
highway_switch_peer(struct highway_port *port, uint64_t id, bool make)
{
	struct highway_peer *place = NULL, *past = NULL;
	int i;

	for (i = 0; i < HIGHWAY_MAX_PEERS; i++) {
		struct highway_peer *peer = &port->sw->peers[i];

		if (peer->id == id)
			return peer;
		if (peer->id == 0)
			place = peer;
		else if (peer->rules == 0 && peer->told == 0)
			past = peer;
	}
	/* Marks of a peer of the past may still come in, so those go last. */
	place = place != NULL ? place : past;
	if (!make || place == NULL)
		return NULL;
	*place = (struct highway_peer){ .id = id };
	return place;
}

/* ------------------------------------------------------------------------------ open, close --- */

/* What an earlier ovs-vswitchd left: its packets are too old. */
static int
take_over(struct highway_port *port)
{
	const struct highway_geometry *g = &port->geometry;
	const struct highway_port_region *region = port->map.base;
	struct highway_switch *sw = port->sw;
	uint32_t i;

	highway_inbound_take_over(port);
	for (i = 0; i < g->n_queues; i++) {
		struct highway_consumer *rx = &sw->rxq.rings[i].ring;
		struct highway_producer *tx = &sw->tx.rings[i];

		highway_port_ring(port, &rx->mem, g->to_switch_offset, i);
		highway_port_ring(port, &tx->mem, g->to_vnf_offset, i);
		tx->stores = port->options.stores == HIGHWAY_STORES_AUTO ?
			     HIGHWAY_STORES_SPARING : port->options.stores;
		if (highway_consumer_attach(rx) != 0 || highway_producer_attach(tx) != 0)
			return -EBADMSG;
		rx->tail = rx->head_seen;
		highway_consumer_publish(rx);
		/* Only a VNF that is there may have something to say beyond that. */
		if (__atomic_load_n(&region->vnf_state.attached, __ATOMIC_ACQUIRE) == 0)
			highway_ring_unstamp(&rx->mem, rx->tail);
	}
	return 0;
}

static int
open_region(struct highway_port *port)
{
	struct highway_geometry wanted = {
		.n_queues = port->options.queues,
		.n_rules = port->options.rules,
		.ring_size = port->options.ring_size,
	};
	bool adopted = false;
	int ret;

	highway_geometry_complete(&wanted);
	port->geometry = wanted;
	ret = highway_port_region_open(port->options.port, port->options.in_shm, &port->geometry,
				       port->vnf_mac.addr_bytes, &port->map, &port->sw->fd,
				       &adopted);
	if (ret != 0)
		return ret;
	if (take_over(port) == 0) {
		port->region = port->map.base;
		HW_LOG(INFO, "port %s: region of %" PRIu64 " MiB %s", port->options.port,
		       port->geometry.size >> 20, adopted ? "adopted" : "made");
		return 0;
	}
	/* Only a VNF that scribbles over its region leaves it like this. */
	HW_LOG(ERR, "port %s: the rings of the region left behind are damaged: a new one is made",
	       port->options.port);
	highway_unmap(&port->map);
	close(port->sw->fd);
	highway_port_region_discard(port->options.port);
	port->geometry = wanted;
	ret = highway_port_region_open(port->options.port, port->options.in_shm, &port->geometry,
				       port->vnf_mac.addr_bytes, &port->map, &port->sw->fd,
				       &adopted);
	if (ret != 0)
		return ret;
	port->region = port->map.base;
	ret = take_over(port);
	if (ret != 0) {
		highway_unmap(&port->map);
		close(port->sw->fd);
	}
	return ret;
}

int
highway_switch_open(struct highway_port *port)
{
	struct highway_switch *sw;
	int ret;

	sw = rte_zmalloc("highway_switch", sizeof(*sw), RTE_CACHE_LINE_SIZE);
	if (sw == NULL)
		return -ENOMEM;
	sw->slots = rte_calloc("highway_slots", port->options.rules, sizeof(*sw->slots), 0);
	if (sw->slots == NULL) {
		ret = -ENOMEM;
		goto free_switch;
	}
	sw->in_slots = rte_calloc("highway_in_slots", port->options.rules,
				  sizeof(*sw->in_slots), 0);
	if (sw->in_slots == NULL) {
		ret = -ENOMEM;
		goto free_slots;
	}
	port->sw = sw;
	TAILQ_INIT(&sw->flows);
	rte_spinlock_init(&sw->tx.lock);
	sw->rxq.port = port;
	sw->rxq.lcore = LCORE_ID_ANY;
	sw->txq.port = port;
	/* Time only moves on: no generation of an earlier life can come again. */
	sw->generation = rte_rdtsc();
	ret = open_region(port);
	if (ret != 0)
		goto free_in_slots;
	port->region_id = port->region->header.region_id;
	return 0;

free_in_slots:
	port->sw = NULL;
	rte_free(sw->in_slots);
free_slots:
	rte_free(sw->slots);
free_switch:
	rte_free(sw);
	return ret;
}

/**
 * From here on this process is the region's switch. Until it has started the port, rules that an
 * earlier one left stay in force, so that bypasses go on.
 */
void
highway_switch_take_charge(struct highway_port *port)
{
	struct highway_gate *gate = &port->region->gate;

	if (port->sw->in_charge)
		return;
	port->sw->in_charge = true;
	port->region->switch_state = (struct highway_switch_state){
		.epoch = port->epoch,
		.max_frame = RTE_ETHER_MAX_LEN,
		.pid = (uint32_t)getpid(),
	};
	/* Before its rules go: frames that match none any more are not lost, but have to wait. */
	__atomic_store_n(&port->region->switch_state.attached, 1, __ATOMIC_RELEASE);
	highway_flow_void(port);
	highway_flow_peer_back(port->region_id);
	gate->off_switch = HIGHWAY_OFF_DOWN;
	/* Bits without a meaning, from a VNF that scribbled, would keep the bypass off for ever. */
	__atomic_fetch_and(&gate->off_operator, HIGHWAY_OFF_OPERATOR | HIGHWAY_OFF_ALL,
			   __ATOMIC_RELAXED);
	__atomic_fetch_and(&gate->off_policy, HIGHWAY_OFF_POLICY, __ATOMIC_RELAXED);
	highway_gate_change(port->region);
}

/* The region is without a switch: to be taken over, or to be deleted. */
static void
leave_region(struct highway_port *port)
{
	struct highway_port_region *region = port->region;

	highway_flow_keep(port);
	highway_inbound_keep(port);
	region->switch_state.link_up = 0;
	region->gate.off_switch = HIGHWAY_OFF_SWITCH |
				  (port->admin_up ? 0 : HIGHWAY_OFF_DOWN);
	__atomic_store_n(&region->switch_state.attached, 0, __ATOMIC_RELEASE);
	highway_gate_change(region);
}

/** Under highway_lock, and no queue is polled any more. The region stays for the next owner. */
void
highway_switch_close(struct highway_port *port)
{
	struct highway_switch *sw = port->sw;

	sw->polled = false;
	highway_flow_drop_all(port);
	highway_flow_peer_gone(port->region_id);
	if (sw->in_charge)
		leave_region(port);
	/* First out of the sight of other ports' bursts, which pass marks on to this one. */
	rte_spinlock_lock(&highway_ports_spin);
	port->sw = NULL;
	rte_spinlock_unlock(&highway_ports_spin);
	highway_unmap(&port->map);
	port->region = NULL;
	close(sw->fd);
	rte_free(sw->in_slots);
	rte_free(sw->slots);
	rte_free(sw);
}

/** The port was started, stopped, set up or down, or has another MTU. Under highway_lock. */
void
highway_switch_set_up(struct highway_port *port)
{
	struct highway_port_region *region = port->region;
	bool up = port->started && port->admin_up;

	if (port->started)
		highway_switch_take_charge(port);
	if (!port->sw->in_charge)
		return;
	region->switch_state.max_frame = port->dev->data->mtu + RTE_ETHER_HDR_LEN +
					 RTE_ETHER_CRC_LEN;
	region->switch_state.link_up = up;
	if (up)
		__atomic_fetch_and(&region->gate.off_switch, ~(uint32_t)HIGHWAY_OFF_DOWN,
				   __ATOMIC_RELEASE);
	else
		__atomic_fetch_or(&region->gate.off_switch, HIGHWAY_OFF_DOWN, __ATOMIC_RELEASE);
	highway_gate_change(region);
	__atomic_store_n(&port->sw->polled, up, __ATOMIC_RELEASE);
	port->sw->was_reachable = highway_switch_reachable(port);
	highway_flow_peer_changed(port->region_id);
}

/* -------------------------------------------------------------------- the control thread's --- */

/* Follow the VNF: how many rings it reads, and whether it is there at all. */
static void
follow_vnf(struct highway_port *port)
{
	const struct highway_vnf_state *vnf = &port->region->vnf_state;
	struct highway_switch_tx *tx = &port->sw->tx;
	uint32_t n_rings = 0;
	uint64_t epoch;

	/* Pairs with the stores in highway_vnf_attach() and go(). */
	if (__atomic_load_n(&vnf->attached, __ATOMIC_ACQUIRE) != 0 &&
	    __atomic_load_n(&vnf->started, __ATOMIC_ACQUIRE) != 0)
		n_rings = RTE_MIN(RTE_MAX(vnf->n_rxq, 1U), port->geometry.n_queues);
	epoch = vnf->epoch;
	if (n_rings != tx->n_rings || epoch != tx->vnf_epoch) {
		rte_spinlock_lock(&tx->lock);
		tx->n_rings = n_rings;
		if (epoch != tx->vnf_epoch)
			tx->n_pending = 0;
		tx->vnf_epoch = epoch;
		rte_spinlock_unlock(&tx->lock);
	}
	highway_link_status(port, port->started && port->admin_up && n_rings != 0);
}

static void
tell_state(struct highway_port *port)
{
	struct highway_switch_state *state = &port->region->switch_state;
	const struct highway_switch *sw = port->sw;
	uint64_t live = 0, inert = 0;
	struct rte_flow *flow;

	TAILQ_FOREACH(flow, &sw->flows, next) {
		if (flow->state == HIGHWAY_FLOW_LIVE)
			live++;
		else
			inert++;
	}
	state->rules_live = live;
	state->rules_inert = inert;
	state->rules_refused = sw->refused;
	state->unclaimed_packets = sw->unclaimed;
	state->rx_packets = sw->rxq.packets;
	state->rx_bytes = sw->rxq.bytes;
	state->tx_packets = sw->tx.packets;
	state->tx_bytes = sw->tx.bytes;
	state->tx_full = sw->tx.full;
	state->bypass_rx_packets = sw->bypass_rx_packets;
	state->bypass_rx_bytes = sw->bypass_rx_bytes;
	state->bypass_tx_packets = sw->bypass_tx_packets;
	state->bypass_tx_bytes = sw->bypass_tx_bytes;
	state->errors = sw->bad_counters + sw->rxq.errors;
}

static void
tell_wants(struct highway_port *port)
{
	int i;

	port->sw->wants_dirty = false;
	for (i = 0; i < HIGHWAY_MAX_PEERS; i++) {
		struct highway_peer *peer = &port->sw->peers[i];
		union highway_msg_body body = { .want = { .peer_id = peer->id,
							   .rules = peer->rules } };

		if (peer->id == 0 || peer->rules == peer->told)
			continue;
		highway_ctrl_send(port, HIGHWAY_MSG_WANT, &body, -1);
		peer->told = peer->rules;
	}
}

/** highwayd is there (again) and knows nothing. */
void
highway_switch_connected(struct highway_port *port)
{
	int i;

	/* It took a lost connection for the end of this process. */
	if (port->sw->in_charge) {
		__atomic_store_n(&port->region->switch_state.attached, 1, __ATOMIC_RELEASE);
		highway_gate_change(port->region);
	}
	for (i = 0; i < HIGHWAY_MAX_PEERS; i++)
		port->sw->peers[i].told = 0;
	port->sw->wants_dirty = true;
	highway_received_connected(port);
	if (__atomic_load_n(&port->sw->hold_until_tsc, __ATOMIC_ACQUIRE) != 0)
		__atomic_store_n(&port->sw->purge_wanted, true, __ATOMIC_RELEASE);
}

static void
end_hold(struct highway_port *port)
{
	__atomic_store_n(&port->sw->hold_until_tsc, 0, __ATOMIC_RELEASE);
	if (port->sw->quiet_until_tsc != 0)
		return;
	__atomic_fetch_and(&port->region->gate.off_switch, ~(uint32_t)HIGHWAY_OFF_HOLD,
			   __ATOMIC_RELEASE);
	highway_gate_change(port->region);
}

/** highwayd has had OVS forget its flows. */
void
highway_switch_purged(struct highway_port *port, uint32_t token)
{
	/* The answer to an earlier hold does not end a later one. */
	if (token != __atomic_load_n(&port->sw->hold_token, __ATOMIC_ACQUIRE))
		return;
	port->sw->purged_token = token;
	if (__atomic_load_n(&port->sw->hold_until_tsc, __ATOMIC_ACQUIRE) != 0)
		return;
	port->sw->quiet_until_tsc = 0;
	end_hold(port);
}

/*
 * OVS has deleted its flows, but its offload thread destroys what it was given some time later. A
 * flow that is learned anew before that finds the counts of the old one under its own name.
 */
static bool
forgotten(const struct highway_port *port)
{
	return port->sw->purged_token ==
		       __atomic_load_n(&port->sw->hold_token, __ATOMIC_ACQUIRE) &&
	       TAILQ_EMPTY(&port->sw->flows);
}

static void
look_after_hold(struct highway_port *port)
{
	struct highway_switch *sw = port->sw;
	uint64_t until = __atomic_load_n(&sw->hold_until_tsc, __ATOMIC_ACQUIRE);
	uint64_t now = rte_rdtsc();

	if (port->conn.state == HIGHWAY_CONN_UP &&
	    __atomic_exchange_n(&sw->purge_wanted, false, __ATOMIC_ACQ_REL)) {
		union highway_msg_body body = {
			.want = { .token = __atomic_load_n(&sw->hold_token, __ATOMIC_ACQUIRE) },
		};

		highway_ctrl_send(port, HIGHWAY_MSG_PURGE, &body, -1);
	}
	if (until != 0 && forgotten(port)) {
		sw->quiet_until_tsc = 0;
		end_hold(port);
	} else if (until != 0 && now > until) {
		HW_LOG(WARNING, "port %s: another thread polls it and nobody had OVS learn its "
		       "flows anew: no bypass for %d s", port->options.port, QUIET_S);
		sw->quiet_until_tsc = now + QUIET_S * rte_get_tsc_hz();
		end_hold(port);
	}
	if (sw->quiet_until_tsc != 0 && now > sw->quiet_until_tsc) {
		sw->quiet_until_tsc = 0;
		end_hold(port);
	}
}

/**
 * OVS is to learn the port's flows anew: the polling thread has changed (called from the receive
 * burst), or highwayd wants it.
 */
void
highway_switch_hold(struct highway_port *port)
{
	__atomic_fetch_add(&port->sw->hold_token, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&port->sw->hold_until_tsc, rte_rdtsc() + HOLD_S * rte_get_tsc_hz(),
			 __ATOMIC_RELEASE);
	__atomic_fetch_or(&port->region->gate.off_switch, HIGHWAY_OFF_HOLD, __ATOMIC_RELEASE);
	highway_gate_change(port->region);
	__atomic_store_n(&port->sw->purge_wanted, true, __ATOMIC_RELEASE);
	highway_ctrl_kick();
}

/** May others' rules point to this port? */
bool
highway_switch_reachable(const struct highway_port *port)
{
	const struct highway_gate *gate = &port->region->gate;

	return port->sw->polled && (gate->off_operator | gate->off_policy) == 0;
}

/* What is switched off for a port is off in both directions: follow the operator and highwayd. */
static void
follow_gate(struct highway_port *port)
{
	bool reachable = highway_switch_reachable(port);

	if (reachable == port->sw->was_reachable)
		return;
	port->sw->was_reachable = reachable;
	highway_flow_peer_changed(port->region_id);
}

/** Called by the control thread, under highway_lock. */
void
highway_switch_tick(struct highway_port *port)
{
	uint64_t now = rte_rdtsc();

	follow_vnf(port);
	follow_gate(port);
	look_after_hold(port);
	highway_inbound_tick(port);
	if (port->sw->wants_dirty && port->conn.state == HIGHWAY_CONN_UP)
		tell_wants(port);
	if (now - port->sw->told_tsc < rte_get_tsc_hz() / 10)
		return;
	port->sw->told_tsc = now;
	highway_account_port(port);
	highway_account_expire(port);
	highway_compare_tick(port);
	if (port->sw->in_charge)
		tell_state(port);
}
