/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * What rte_eth_stats_get() and the extended statistics say, for both roles. Bypassed packets and
 * bytes are in the sums of both.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "highway.h"
#include "highway_vnf.h"

/* -------------------------------------------------------------------------------- per queue --- */

struct highway_queue_stats
highway_vnf_tx_stats(const struct highway_vnf_txq *txq)
{
	return txq->stats;
}

void
highway_vnf_add_rx_stats(const struct highway_vnf_rxq *rxq, struct highway_queue_stats *stats)
{
	stats->rx_normal_packets = rxq->stats.rx_normal_packets;
	stats->rx_normal_bytes = rxq->stats.rx_normal_bytes;
	stats->rx_bypass_packets = rxq->stats.rx_bypass_packets;
	stats->rx_bypass_bytes = rxq->stats.rx_bypass_bytes;
	stats->rx_nombuf = rxq->stats.rx_nombuf;
	stats->rx_refused = rxq->stats.rx_refused;
	stats->rx_external = rxq->stats.rx_external;
}

static void
add(struct highway_queue_stats *sum, const struct highway_queue_stats *more)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)more;
	size_t i;

	for (i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
		to[i] += from[i];
}

static struct highway_queue_stats
vnf_sum(const struct highway_port *port, uint64_t *rx_errors, uint64_t *tx_errors)
{
	const struct rte_eth_dev_data *data = port->dev->data;
	struct highway_queue_stats sum = { 0 };
	uint16_t i;

	*rx_errors = 0;
	*tx_errors = 0;
	for (i = 0; i < data->nb_tx_queues; i++) {
		const struct highway_vnf_txq *txq = data->tx_queues[i];

		if (txq != NULL) {
			add(&sum, &txq->stats);
			*tx_errors += txq->errors;
		}
	}
	for (i = 0; i < data->nb_rx_queues; i++) {
		const struct highway_vnf_rxq *rxq = data->rx_queues[i];

		if (rxq != NULL) {
			add(&sum, &rxq->stats);
			*rx_errors += rxq->errors;
		}
	}
	return sum;
}

/* ------------------------------------------------------------------------------ basic stats --- */

static void
vnf_stats(const struct highway_port *port, struct rte_eth_stats *stats)
{
	uint64_t rx_errors, tx_errors;
	struct highway_queue_stats sum = vnf_sum(port, &rx_errors, &tx_errors);

	*stats = (struct rte_eth_stats){
		.ipackets = sum.rx_normal_packets + sum.rx_bypass_packets,
		.ibytes = sum.rx_normal_bytes + sum.rx_bypass_bytes,
		.opackets = sum.tx_normal_packets + sum.tx_bypass_packets,
		.obytes = sum.tx_normal_bytes + sum.tx_bypass_bytes,
		.ierrors = rx_errors + sum.rx_refused,
		.oerrors = tx_errors + sum.tx_no_switch,
		.rx_nombuf = sum.rx_nombuf,
	};
}

static void
switch_stats(const struct highway_port *port, struct rte_eth_stats *stats)
{
	const struct highway_switch *sw = port->sw;

	*stats = (struct rte_eth_stats){
		.ipackets = sw->rxq.packets + sw->bypass_rx_packets,
		.ibytes = sw->rxq.bytes + sw->bypass_rx_bytes,
		.opackets = sw->tx.packets + sw->bypass_tx_packets,
		.obytes = sw->tx.bytes + sw->bypass_tx_bytes,
		.ierrors = sw->rxq.errors,
		.oerrors = sw->tx.errors,
		.rx_nombuf = sw->rxq.nombuf,
	};
}

static void
read_stats(const struct highway_port *port, struct rte_eth_stats *stats)
{
	if (port->options.role == HIGHWAY_ROLE_VNF) {
		vnf_stats(port, stats);
	} else if (port->sw != NULL) {
		highway_account_all();
		switch_stats(port, stats);
	} else {
		memset(stats, 0, sizeof(*stats));
	}
}

int
highway_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats)
{
	struct highway_port *port = dev->data->dev_private;
	const struct rte_eth_stats *base = &port->stats_base;

	pthread_mutex_lock(&highway_lock);
	read_stats(port, stats);
	pthread_mutex_unlock(&highway_lock);
	stats->ipackets -= base->ipackets;
	stats->ibytes -= base->ibytes;
	stats->opackets -= base->opackets;
	stats->obytes -= base->obytes;
	stats->ierrors -= base->ierrors;
	stats->oerrors -= base->oerrors;
	stats->rx_nombuf -= base->rx_nombuf;
	return 0;
}

int
highway_stats_reset(struct rte_eth_dev *dev)
{
	struct highway_port *port = dev->data->dev_private;

	pthread_mutex_lock(&highway_lock);
	read_stats(port, &port->stats_base);
	pthread_mutex_unlock(&highway_lock);
	return 0;
}

/* --------------------------------------------------------------------------- extended stats --- */

struct named {
	const char *name;
	uint64_t value;
};

#define MAX_NAMED 24

static unsigned int
vnf_named(const struct highway_port *port, struct named *named)
{
	uint64_t rx_errors, tx_errors;
	struct highway_queue_stats s = vnf_sum(port, &rx_errors, &tx_errors);
	const struct named all[] = {
		{ "rx_normal_packets", s.rx_normal_packets },
		{ "rx_normal_bytes", s.rx_normal_bytes },
		{ "rx_bypass_packets", s.rx_bypass_packets },
		{ "rx_bypass_bytes", s.rx_bypass_bytes },
		{ "tx_normal_packets", s.tx_normal_packets },
		{ "tx_normal_bytes", s.tx_normal_bytes },
		{ "tx_bypass_packets", s.tx_bypass_packets },
		{ "tx_bypass_bytes", s.tx_bypass_bytes },
		{ "tx_ring_full", s.tx_full },
		{ "rx_no_mbuf", s.rx_nombuf },
		{ "rx_bypass_refused_errors", s.rx_refused },
		{ "rx_bypass_external_packets", s.rx_external },
		{ "rx_frame_errors", rx_errors },
		{ "tx_frame_errors", tx_errors },
		{ "tx_no_switch_packets", s.tx_no_switch },
		{ "bypass_enters", s.enters },
		{ "bypass_leaves", s.leaves },
		{ "bypass_abandoned_packets", port->abandoned },
		{ "links", port->n_links },
		{ "links_closed_errors", port->closed_links },
	};

	memcpy(named, all, sizeof(all));
	return RTE_DIM(all);
}

static unsigned int
switch_named(const struct highway_port *port, struct named *named)
{
	const struct highway_switch *sw = port->sw;
	uint64_t live = 0, inert = 0;
	const struct rte_flow *flow;

	TAILQ_FOREACH(flow, &sw->flows, next) {
		live += flow->state == HIGHWAY_FLOW_LIVE;
		inert += flow->state != HIGHWAY_FLOW_LIVE;
	}
	highway_account_all();
	{
		const struct named all[] = {
			{ "rx_normal_packets", sw->rxq.packets },
			{ "rx_normal_bytes", sw->rxq.bytes },
			{ "rx_bypass_packets", sw->bypass_rx_packets },
			{ "rx_bypass_bytes", sw->bypass_rx_bytes },
			{ "tx_normal_packets", sw->tx.packets },
			{ "tx_normal_bytes", sw->tx.bytes },
			{ "tx_bypass_packets", sw->bypass_tx_packets },
			{ "tx_bypass_bytes", sw->bypass_tx_bytes },
			{ "tx_ring_full", sw->tx.full },
			{ "rx_no_mbuf", sw->rxq.nombuf },
			{ "rules_live", live },
			{ "rules_inert", inert },
			{ "rules_refused", sw->refused },
			{ "rules_table_full_errors", sw->table_full },
			{ "unclaimed_packets", sw->unclaimed },
			{ "ring_errors", sw->rxq.errors },
			{ "counter_errors", sw->bad_counters },
			{ "count_mismatch_errors", sw->mismatches },
		};

		memcpy(named, all, sizeof(all));
		return RTE_DIM(all);
	}
}

static unsigned int
list_named(const struct highway_port *port, struct named *named)
{
	if (port->options.role == HIGHWAY_ROLE_VNF)
		return vnf_named(port, named);
	return port->sw != NULL ? switch_named(port, named) : 0;
}

/* Per peer of a VNF: packets and bytes sent and received. */
#define PER_LINK 4

static void
link_values(const struct highway_port *port, const struct highway_link *link,
	    uint64_t values[PER_LINK])
{
	const struct rte_eth_dev_data *data = port->dev->data;
	uint32_t i;

	memset(values, 0, PER_LINK * sizeof(values[0]));
	for (i = 0; i < link->n_rx_rings; i++) {
		values[0] += link->rx[i].packets;
		values[1] += link->rx[i].bytes;
	}
	for (i = 0; i < highway_n_txq(port); i++) {
		const struct highway_vnf_txq *txq = data->tx_queues[i];

		values[2] += txq->links[link->slot].packets;
		values[3] += txq->links[link->slot].bytes;
	}
}

int
highway_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *xstats, unsigned int n)
{
	const struct highway_port *port = dev->data->dev_private;
	struct named named[MAX_NAMED];
	unsigned int count, i;
	uint32_t slot;

	pthread_mutex_lock(&highway_lock);
	count = list_named(port, named);
	if (xstats == NULL || n < count + port->n_links * PER_LINK) {
		count += port->n_links * PER_LINK;
		goto out;
	}
	for (i = 0; i < count; i++)
		xstats[i].value = named[i].value;
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		uint64_t values[PER_LINK];

		if (port->links[slot] == NULL)
			continue;
		link_values(port, port->links[slot], values);
		for (i = 0; i < PER_LINK; i++)
			xstats[count++].value = values[i];
	}
	for (i = 0; i < count; i++)
		xstats[i].id = i;
out:
	pthread_mutex_unlock(&highway_lock);
	return (int)count;
}

int
highway_xstats_get_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names,
			 unsigned int n)
{
	static const char *const per_link[PER_LINK] = {
		"rx_bypass_packets_from_", "rx_bypass_bytes_from_",
		"tx_bypass_packets_to_", "tx_bypass_bytes_to_",
	};
	const struct highway_port *port = dev->data->dev_private;
	struct named named[MAX_NAMED];
	unsigned int count, i;
	uint32_t slot;

	pthread_mutex_lock(&highway_lock);
	count = list_named(port, named);
	if (names == NULL || n < count + port->n_links * PER_LINK) {
		count += port->n_links * PER_LINK;
		goto out;
	}
	for (i = 0; i < count; i++)
		snprintf(names[i].name, sizeof(names[i].name), "%s", named[i].name);
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		if (port->links[slot] == NULL)
			continue;
		for (i = 0; i < PER_LINK; i++)
			snprintf(names[count++].name, sizeof(names[0].name), "%s%.38s",
				 per_link[i], port->links[slot]->peer_name);
	}
out:
	pthread_mutex_unlock(&highway_lock);
	return (int)count;
}

int
highway_xstats_reset(struct rte_eth_dev *dev)
{
	/* The extended counters are the record of what happened; only the basic ones start over. */
	return highway_stats_reset(dev);
}
