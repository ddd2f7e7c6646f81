/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#ifndef HIGHWAY_VNF_H
#define HIGHWAY_VNF_H

#include "highway.h"

/* Between start and stop the application leaves the queues alone; else there are none to touch. */
static inline uint16_t
highway_n_txq(const struct highway_port *port)
{
	return port->started ? port->dev->data->nb_tx_queues : 0;
}

static inline uint16_t
highway_n_rxq(const struct highway_port *port)
{
	return port->started ? port->dev->data->nb_rx_queues : 0;
}

/* Nobody forwards the port's packets, and highway-fail-mode=standalone lets bypasses go on. */
static inline bool
highway_alone(const struct highway_port_region *region)
{
	return __atomic_load_n(&region->switch_state.attached, __ATOMIC_RELAXED) == 0 &&
	       region->switch_state.epoch != 0 && region->gate.fail_mode != 0 &&
	       (region->gate.off_switch & HIGHWAY_OFF_SWITCH) == 0;
}

/* May anything be sent, over whatever channel? */
static inline bool
highway_port_up(const struct highway_port_region *region)
{
	if (region->switch_state.attached != 0)
		return region->switch_state.link_up != 0;
	return highway_alone(region) && (region->gate.off_switch & HIGHWAY_OFF_DOWN) == 0;
}

/* Why nothing may be sent on the bypass: enum highway_off. */
static inline uint32_t
highway_off_bits(const struct highway_port_region *region)
{
	const struct highway_gate *gate = &region->gate;
	uint32_t off_switch = gate->off_switch;

	/* Flows are held for the sake of counters that nobody reads now. */
	if (highway_alone(region))
		off_switch &= ~(uint32_t)HIGHWAY_OFF_HOLD;
	return off_switch | gate->off_operator | gate->off_policy;
}

/* highway_view.c */
bool highway_lease_holds(const struct highway_port *port);
void highway_wait_for_queues(struct highway_port *port);
int highway_view_renew(struct highway_port *port);
void highway_view_drop(struct highway_port *port);
bool highway_rule_read(const struct highway_rule *shared, struct highway_rule *rule);
void highway_rule_prepare(const struct highway_rule *rule, struct highway_class_rule *prepared,
			  struct highway_key *mask);

/* highway_check.c */
uint32_t highway_checks_ack(const struct highway_port *port, const struct highway_view *view);
int highway_checks_collect(struct highway_port *port, struct highway_view *view);
bool highway_checks_tick(struct highway_port *port);
void highway_checks_drop(struct highway_port *port);

/* highway_stats.c */
struct highway_queue_stats highway_vnf_tx_stats(const struct highway_vnf_txq *txq);
void highway_vnf_add_rx_stats(const struct highway_vnf_rxq *rxq, struct highway_queue_stats *stats);

/* highway_link.c */
bool highway_links_tick(struct highway_port *port);
void highway_links_drop_all(struct highway_port *port);
void highway_links_place(struct highway_port *port);
void highway_links_ready(struct highway_port *port, bool ready);

#endif /* HIGHWAY_VNF_H */
