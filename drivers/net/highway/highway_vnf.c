/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The VNF's end of a port region: attach, start, stop, detach, and what the control thread looks
 * after in between.
 */

#include <stdio.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>
#include <rte_version.h>

#include "highway.h"
#include "highway_vnf.h"

/* Give the queues their rings. */
static int
place_queues(struct highway_port *port)
{
	struct rte_eth_dev_data *data = port->dev->data;
	const struct highway_geometry *g = &port->geometry;
	uint16_t i;

	for (i = 0; i < highway_n_txq(port); i++) {
		struct highway_vnf_txq *txq = data->tx_queues[i];

		highway_port_ring(port, &txq->normal.mem, g->to_switch_offset, i);
		txq->normal.stores = port->options.stores;
		if (highway_producer_attach(&txq->normal) != 0)
			return -EBADMSG;
		txq->counters = RTE_PTR_ADD(port->map.base, g->counters_offset +
					    (uint64_t)i * g->n_rules *
					    sizeof(struct highway_counter));
	}
	for (i = 0; i < highway_n_rxq(port); i++) {
		struct highway_vnf_rxq *rxq = data->rx_queues[i];

		highway_port_ring(port, &rxq->normal.mem, g->to_vnf_offset, i);
		rxq->counters = g->in_counters_offset == 0 ? NULL :
				RTE_PTR_ADD(port->map.base, g->in_counters_offset +
					    (uint64_t)i * g->n_rules *
					    sizeof(struct highway_counter));
		if (highway_consumer_attach(&rxq->normal) != 0)
			return -EBADMSG;
		if (port->fresh) {
			/* What lies there was for another life. */
			rxq->normal.tail = rxq->normal.head_seen;
			highway_consumer_publish(&rxq->normal);
			memset(&rxq->hold, 0, sizeof(rxq->hold));
		}
	}
	return 0;
}

static const char *
too_many_queues(const struct highway_port *port)
{
	const struct rte_eth_dev_data *data = port->dev->data;

	return data->nb_tx_queues > port->geometry.n_queues ||
	       data->nb_rx_queues > port->geometry.n_queues ?
	       "the program uses more queues than the switch's port has: raise queues= there" :
	       NULL;
}

/* Start to use the region: the application has started the port and the region is there. */
static int
go(struct highway_port *port)
{
	struct highway_vnf_state *state = &port->region->vnf_state;
	const char *fault = too_many_queues(port);

	if (fault != NULL || place_queues(port) != 0) {
		HW_LOG(ERR, "port %s: cannot be started: %s", port->options.port,
		       fault != NULL ? fault : "a ring of the region has impossible indexes; "
		       "delete the port in the switch and add it again");
		return -EINVAL;
	}
	port->fresh = false;
	highway_links_place(port);
	if (highway_view_renew(port) != 0)
		return -ENOMEM;
	state->n_rxq = port->dev->data->nb_rx_queues;
	state->n_txq = port->dev->data->nb_tx_queues;
	__atomic_store_n(&state->started, 1, __ATOMIC_RELEASE);
	highway_links_ready(port, true);
	return 0;
}

/* The reverse: nobody receives or sends any more. */
static void
halt(struct highway_port *port)
{
	if (port->view == NULL)
		return;
	highway_links_ready(port, false);
	highway_view_drop(port);
	/* After the last burst: slots of the rule table are free again from here on. */
	__atomic_store_n(&port->region->vnf_state.started, 0, __ATOMIC_RELEASE);
}

int
highway_vnf_start(struct highway_port *port)
{
	int ret;

	port->started = true;
	if (port->map.base == NULL)
		return 0;
	ret = go(port);
	if (ret != 0)
		port->started = false;
	return ret;
}

void
highway_vnf_stop(struct highway_port *port)
{
	halt(port);
	port->started = false;
}

/** Is this region mapped already? Then highwayd hears that it is, whatever it took us for. */
bool
highway_vnf_attached(struct highway_port *port, uint64_t region_id)
{
	struct highway_vnf_state *state;

	if (port->map.base == NULL || port->region_id != region_id)
		return false;
	/* highwayd took a lost connection for the end of this program. */
	state = &port->region->vnf_state;
	__atomic_store_n(&state->started, port->view != NULL, __ATOMIC_RELEASE);
	__atomic_store_n(&state->attached, 1, __ATOMIC_RELEASE);
	return true;
}

/**
 * Take up the region that highwayd has handed over in place of the present one. The mapping is the
 * port's from now on; if it cannot be used, it is unmapped.
 *
 * @return 0, or -errno with the reason in `why`
 */
int
highway_vnf_attach(struct highway_port *port, struct highway_map *map, uint64_t region_id,
		   char *why, size_t len)
{
	struct highway_geometry geometry;
	struct highway_vnf_state *state;
	const char *fault = NULL;
	int ret;

	ret = highway_port_region_check(map, &geometry, &fault);
	if (ret == 0 && ((struct highway_port_region *)map->base)->header.region_id != region_id)
		fault = "it is another port's";
	if (fault != NULL) {
		snprintf(why, len, "the port's region cannot be used: %s", fault);
		highway_unmap(map);
		return -EBADMSG;
	}
	highway_vnf_detach(port);
	port->births = rte_zmalloc("highway_births", geometry.n_rules * sizeof(*port->births), 0);
	if (port->births == NULL) {
		snprintf(why, len, "no memory in the VNF");
		highway_unmap(map);
		return -ENOMEM;
	}
	port->map = *map;
	port->region = map->base;
	port->geometry = geometry;
	port->region_id = region_id;
	port->lease = port->region->gate.lease;
	port->lease_tsc = rte_rdtsc();
	state = &port->region->vnf_state;
	state->epoch = port->epoch;
	state->started = 0;
	state->pid = (uint32_t)getpid();
	state->abi_version = HIGHWAY_ABI_VERSION;
	state->max_frame = HIGHWAY_MAX_FRAME;
	snprintf(state->driver, sizeof(state->driver), "%s DPDK %d.%02d.%d",
		 HIGHWAY_DRIVER_VERSION, RTE_VER_YEAR, RTE_VER_MONTH, RTE_VER_MINOR);
	/* Pairs with highway_switch_tick(). */
	__atomic_store_n(&state->attached, 1, __ATOMIC_RELEASE);
	HW_LOG(INFO, "port %s: attached, %u queue(s) of %u", port->options.port,
	       geometry.n_queues, geometry.ring_size);
	port->fresh = true;
	if (port->started)
		go(port);
	highway_vnf_update_link(port);
	return 0;
}

/** Let go of the region and of all links. */
void
highway_vnf_detach(struct highway_port *port)
{
	if (port->map.base == NULL)
		return;
	halt(port);
	highway_links_drop_all(port);
	__atomic_store_n(&port->region->vnf_state.attached, 0, __ATOMIC_RELEASE);
	highway_unmap(&port->map);
	port->region = NULL;
	port->region_id = 0;
	highway_checks_drop(port);
	rte_free(port->births);
	port->births = NULL;
	highway_vnf_update_link(port);
}

/** Recompute the link state that the application sees. */
void
highway_vnf_update_link(struct highway_port *port)
{
	highway_link_status(port, port->map.base != NULL && port->started && port->admin_up &&
			    port->view != NULL && highway_port_up(port->region));
}

/** The application set the link up or down. */
void
highway_vnf_admin_changed(struct highway_port *port)
{
	if (port->view != NULL)
		highway_view_renew(port);
	highway_vnf_update_link(port);
}

static void
tell_stats(struct highway_port *port)
{
	struct rte_eth_dev_data *data = port->dev->data;
	uint16_t i;

	for (i = 0; i < HIGHWAY_MAX_QUEUES; i++) {
		struct highway_queue_stats stats = { 0 };

		if (i < highway_n_txq(port))
			stats = highway_vnf_tx_stats(data->tx_queues[i]);
		if (i < highway_n_rxq(port))
			highway_vnf_add_rx_stats(data->rx_queues[i], &stats);
		stats.abandoned = i == 0 ? port->abandoned : 0;
		port->region->queue_stats[i] = stats;
	}
}

/* What was taken from each link, for the switch to compare with what its sender says. */
static void
tell_heard(struct highway_port *port)
{
	struct highway_vnf_state *state = &port->region->vnf_state;
	uint32_t slot, i;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		struct highway_heard *heard = &port->region->heard[slot];
		const struct highway_link *link = port->links[slot];
		uint64_t id = link == NULL ? 0 : link->geometry.link_id;
		uint64_t packets = 0, bytes = 0;

		if (heard->link_id != id)
			__atomic_store_n(&heard->link_id, 0, __ATOMIC_RELEASE);
		if (link == NULL)
			continue;
		for (i = 0; i < link->n_rx_rings; i++) {
			packets += link->rx[i].off;
			bytes += link->rx[i].off_bytes;
		}
		heard->peer_id = link->peer_id;
		heard->packets = packets;
		heard->bytes = bytes;
		/* Pairs with read_heard() in the switch. */
		__atomic_store_n(&heard->link_id, id, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&state->told, state->told + 1, __ATOMIC_RELEASE);
}

/* The switch is trusted, so this is damage by the VNF itself. */
static void
look_at_rings(struct highway_port *port)
{
	struct rte_eth_dev_data *data = port->dev->data;
	bool broken = false;
	uint16_t i;

	for (i = 0; i < highway_n_txq(port); i++)
		broken |= ((struct highway_vnf_txq *)data->tx_queues[i])->normal.broken;
	for (i = 0; i < highway_n_rxq(port); i++)
		broken |= ((struct highway_vnf_rxq *)data->rx_queues[i])->normal.broken;
	if (!broken || port->broken_logged)
		return;
	port->broken_logged = true;
	port->region->vnf_state.errors++;
	HW_LOG(ERR, "port %s: a ring of the normal channel is damaged and not used any more; "
	       "delete the port in the switch and add it again", port->options.port);
}

/** Everything that does not wait for a message. Called by the control thread. */
void
highway_vnf_tick(struct highway_port *port)
{
	struct highway_gate *gate;
	bool renew;

	if (port->map.base == NULL)
		return;
	gate = &port->region->gate;
	if (gate->lease != port->lease) {
		port->lease = gate->lease;
		port->lease_tsc = rte_rdtsc();
	}
	renew = highway_links_tick(port);
	renew |= highway_checks_tick(port);
	if (port->view != NULL &&
	    (renew || port->view->lease_good != highway_lease_holds(port) ||
	     __atomic_load_n(&gate->change, __ATOMIC_ACQUIRE) != port->view->change))
		highway_view_renew(port);
	look_at_rings(port);
	tell_stats(port);
	tell_heard(port);
	highway_vnf_update_link(port);
}
