/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * A VNF's links: attached when highwayd hands them over, left, drained and unmapped when it takes
 * them back or when the other end has written something impossible.
 */

#include <stdio.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "highway.h"
#include "highway_vnf.h"

/* Links that have been detached while the application still reads frames in them. */
static TAILQ_HEAD(, highway_link) pinned = TAILQ_HEAD_INITIALIZER(pinned);

static struct highway_link_region *
region_of(const struct highway_link *link)
{
	return link->map.base;
}

static struct highway_link_end *
end_of(const struct highway_link *link, uint32_t end)
{
	return &region_of(link)->end[end];
}

static void *
ring_at(const struct highway_link *link, uint32_t end, uint32_t queue)
{
	const struct highway_link_geometry *g = &link->geometry;

	return RTE_PTR_ADD(link->map.base, g->ring_offset[end] + queue * g->ring_stride);
}

/* The buffers of a ring that `end` sends on; size 0 if there are none. */
static struct highway_buffers
buffers_of(const struct highway_link *link, uint32_t end, uint32_t queue)
{
	const struct highway_link_geometry *g = &link->geometry;
	uint32_t size = g->buffer_size[end], n = g->n_buffers[end];
	uint8_t *pool;

	if (size == 0)
		return (struct highway_buffers){ 0 };
	pool = RTE_PTR_ADD(link->map.base, g->pools_offset[end] +
			   queue * highway_pool_stride(n, size));
	return (struct highway_buffers){
		.states = pool,
		.data = pool + highway_pool_states(n),
		.size = size,
		.n = n,
	};
}

static const char *
close_text(uint32_t reason)
{
	switch (reason) {
	case HIGHWAY_CLOSE_BAD_INDEX:
		return "the other end wrote an impossible ring index or descriptor";
	case HIGHWAY_CLOSE_BAD_DESC:
		return "the other end wrote a descriptor of unknown kind";
	case HIGHWAY_CLOSE_BAD_LEAVE:
		return "the other end left at an index that it had not reached";
	case HIGHWAY_CLOSE_TIMEOUT:
		return "the bypass ring was not drained within 5 s";
	}
	return "closed";
}

void
highway_link_fault(struct highway_link *link, enum highway_close reason)
{
	uint32_t none = HIGHWAY_CLOSE_NONE;

	if (__atomic_compare_exchange_n(&link->close, &none, (uint32_t)reason, false,
					__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		highway_ctrl_kick();
}

/* ------------------------------------------------------------------------------- attaching --- */

/* Give one tx queue its ring in one link, if it does not have it yet. */
static int
place_tx(const struct highway_link *link, struct highway_vnf_txq *txq)
{
	struct highway_tx_link *tl = &txq->links[link->slot];
	int ret;

	/* Not by its id: a link that could not be attached, or was taken back, may come again. */
	if (tl->attachment == link->attachment)
		return 0;
	memset(tl, 0, sizeof(*tl));
	highway_ring_place(&tl->ring.mem, ring_at(link, link->end, txq->queue),
			   link->geometry.ring_size, link->geometry.ring_data);
	tl->ring.stores = txq->port->options.stores;
	tl->ring.buffers = buffers_of(link, link->end, txq->queue);
	ret = highway_producer_attach(&tl->ring);
	/* A queue that was set up anew has forgotten whether it had left. */
	tl->left_at = tl->ring.head == 0 ? 0 : UINT64_MAX;
	tl->peer_id = link->peer_id;
	tl->link_id = link->geometry.link_id;
	tl->attachment = link->attachment;
	return ret;
}

static void
free_loans(struct highway_link *link)
{
	uint32_t i;

	for (i = 0; i < link->n_rx_rings; i++)
		rte_free(link->rx[i].loans);
}

/* Take up the rings that the other end sends on, and their buffers if this port lends them. */
static int
place_rx(struct highway_link *link)
{
	const struct highway_link_geometry *g = &link->geometry;
	uint32_t i;
	int ret;

	for (i = 0; i < link->n_rx_rings; i++) {
		struct highway_buffers buffers = buffers_of(link, 1 - link->end, i);
		struct highway_rx_ring *rx = &link->rx[i];

		highway_ring_place(&rx->ring.mem, ring_at(link, 1 - link->end, i), g->ring_size,
				   g->ring_data);
		ret = highway_consumer_attach(&rx->ring);
		if (ret != 0)
			return ret;
		if (buffers.size == 0)
			continue;
		rx->loans = highway_loans_make(&buffers);
		if (rx->loans == NULL)
			return -ENOMEM;
	}
	return 0;
}

/** Give queues that were set up after the links their rings. Queues are not running. */
void
highway_links_place(struct highway_port *port)
{
	struct rte_eth_dev_data *data = port->dev->data;
	uint32_t slot;
	uint16_t i;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		struct highway_link *link = port->links[slot];

		for (i = 0; link != NULL && i < highway_n_txq(port); i++) {
			if (i >= link->geometry.n_queues[link->end] ||
			    place_tx(link, data->tx_queues[i]) != 0) {
				highway_link_fault(link, HIGHWAY_CLOSE_BAD_INDEX);
				link->usable = false;
			}
		}
	}
}

static const char *
misfit(const struct highway_port *port, const struct highway_link_geometry *g,
       const struct highway_msg_link *msg)
{
	if (g->link_id != msg->link_id)
		return "the region is another link's";
	if (msg->end > 1 || g->port_id[msg->end] != port->region_id ||
	    g->port_id[1 - msg->end] != msg->peer_id)
		return "the region is for other ports";
	if (g->n_queues[msg->end] < port->dev->data->nb_tx_queues)
		return "it has fewer rings than this port has transmit queues";
	return NULL;
}

static int
free_slot(const struct highway_port *port)
{
	int slot;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		if (port->links[slot] == NULL)
			return slot;
	}
	return -ENOSPC;
}

/** The link of this id, NULL if the port does not have it. */
struct highway_link *
highway_vnf_find_link(const struct highway_port *port, uint64_t link_id)
{
	uint32_t slot;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		if (port->links[slot] != NULL && port->links[slot]->geometry.link_id == link_id)
			return port->links[slot];
	}
	return NULL;
}

/*
 * Is this memory cached? A guest may have mapped a PCI device's memory without, and then the bypass
 * is slower than the switch. Timed on a ring that nobody uses yet.
 */
static bool
fast_enough(const struct highway_port *port, const struct highway_map *map,
	    const struct highway_link_geometry *g, uint32_t end, char *why, size_t len)
{
	uint32_t limit = port->options.bar_limit_ns, cost;

	if (!port->conn.serial || limit == 0)
		return true;
	cost = highway_bar_cost(RTE_PTR_ADD(map->base, g->ring_offset[end] +
					    HIGHWAY_RING_DESC_OFFSET +
					    g->ring_size * sizeof(struct highway_desc)),
				g->ring_data);
	HW_LOG(DEBUG, "port %s: 64 bytes of the link's memory take %u ns", port->options.port,
	       cost);
	if (cost <= limit)
		return true;
	snprintf(why, len, "its memory is too slow in this VM: %u ns for 64 bytes, the limit is %u",
		 cost, limit);
	return false;
}

/**
 * Attach a link. The mapping is the link's from now on; if it cannot be used, it is unmapped.
 *
 * @return 0, or -errno with the reason in `why`
 */
int
highway_vnf_link_add(struct highway_port *port, struct highway_map *map,
		     const struct highway_msg_link *msg, char *why, size_t len)
{
	struct highway_link_geometry g;
	struct highway_link *link;
	const char *fault = NULL;
	uint32_t n_rx, i;
	int slot, ret;

	slot = free_slot(port);
	if (slot < 0) {
		snprintf(why, len, "the port has %d links already", HIGHWAY_MAX_LINKS);
		ret = slot;
		goto unmap;
	}
	ret = highway_link_region_check(map, &g, &fault);
	if (ret == 0) {
		fault = misfit(port, &g, msg);
		ret = fault == NULL ? 0 : -EBADMSG;
	}
	if (ret != 0) {
		snprintf(why, len, "%s", fault);
		goto unmap;
	}
	if (!fast_enough(port, map, &g, msg->end, why, len)) {
		ret = -ETIME;
		goto unmap;
	}
	n_rx = g.n_queues[1 - msg->end];
	link = rte_zmalloc("highway_link", sizeof(*link) + n_rx * sizeof(link->rx[0]),
			   RTE_CACHE_LINE_SIZE);
	ret = -ENOMEM;
	if (link == NULL)
		goto no_memory;
	link->slot = (uint32_t)slot;
	link->attachment = ++port->attachments;
	link->end = msg->end;
	link->flags = msg->flags;
	link->geometry = g;
	link->map = *map;
	link->peer_id = msg->peer_id;
	link->n_rx_rings = n_rx;
	memcpy(link->peer_name, msg->peer_name, sizeof(link->peer_name) - 1);
	ret = place_rx(link);
	if (ret == -ENOMEM)
		goto no_memory;
	if (ret != 0)
		goto bad_ring;
	for (i = 0; i < highway_n_txq(port); i++) {
		ret = place_tx(link, port->dev->data->tx_queues[i]);
		if (ret != 0)
			goto bad_ring;
	}
	port->links[slot] = link;
	port->n_links++;
	/* The queues must know the link before the other end may send: a mark for a link that
	 * they do not know would be lost on them.
	 */
	if (port->view != NULL && highway_view_renew(port) != 0) {
		port->links[slot] = NULL;
		port->n_links--;
		ret = -ENOMEM;
		goto no_memory;
	}
	end_of(link, link->end)->epoch = port->epoch;
	end_of(link, link->end)->max_frame = HIGHWAY_MAX_FRAME;
	end_of(link, link->end)->rx_ready = port->started;
	__atomic_store_n(&end_of(link, link->end)->attached, 1, __ATOMIC_RELEASE);
	HW_LOG(INFO, "port %s: link %016" PRIx64 " to %s attached", port->options.port, g.link_id,
	       link->peer_name);
	return 0;

bad_ring:
	snprintf(why, len, "a ring of the link has impossible indexes");
	goto free_link;
no_memory:
	snprintf(why, len, "no memory in the VNF");
free_link:
	if (link != NULL)
		free_loans(link);
	rte_free(link);
unmap:
	highway_unmap(map);
	return ret;
}

/**
 * Follow what highwayd says of a link that the port has.
 *
 * @return true if other flags hold now than before
 */
bool
highway_vnf_link_update(struct highway_port *port, const struct highway_msg_link *msg)
{
	struct highway_link *link = highway_vnf_find_link(port, msg->link_id);
	uint32_t before;

	if (link == NULL || link->leaving || link->flags == msg->flags)
		return false;
	before = link->flags;
	link->flags = msg->flags;
	if (port->view == NULL || highway_view_renew(port) == 0)
		return true;
	link->flags = before;
	return false;
}

/* -------------------------------------------------------------------------------- leaving --- */

static void
begin_leaving(struct highway_port *port, struct highway_link *link, const char *why)
{
	if (link->leaving)
		return;
	link->leaving = true;
	link->usable = false;
	link->leaving_tsc = rte_rdtsc();
	snprintf(link->why, sizeof(link->why), "%s", why);
	HW_LOG(INFO, "port %s: link %016" PRIx64 " to %s goes: %s", port->options.port,
	       link->geometry.link_id, link->peer_name, why);
}

void
highway_vnf_link_remove(struct highway_port *port, uint64_t link_id)
{
	struct highway_link *link = highway_vnf_find_link(port, link_id);

	if (link != NULL)
		begin_leaving(port, link, "highwayd takes it back");
	else
		highway_ctrl_link_reply(port, HIGHWAY_MSG_LINK_REMOVED, link_id, 0,
					HIGHWAY_STATUS_OK, "");
}

/* Is everything received at this end that the other will ever have sent, and at the other too? */
static bool
drained(const struct highway_link *link)
{
	const struct highway_link_end *peer = end_of(link, 1 - link->end);
	bool peer_here = __atomic_load_n(&peer->attached, __ATOMIC_ACQUIRE) != 0;
	uint32_t i;

	if (link->close != HIGHWAY_CLOSE_NONE)
		return true;
	/* Pairs with the store of tx_done in highway_links_tick(). */
	if (__atomic_load_n(&peer->tx_done, __ATOMIC_ACQUIRE) == 0 && peer_here)
		return false;
	/* Else what a queue sends from now on, the normal way, might overtake it. */
	for (i = 0; peer_here && i < link->geometry.n_queues[link->end]; i++) {
		const struct highway_ring *ring = ring_at(link, link->end, i);

		if (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) <
		    __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE))
			return false;
	}
	for (i = 0; i < link->n_rx_rings; i++) {
		const struct highway_consumer *ring = &link->rx[i].ring;

		/* The head of a peer that was killed may lag behind. */
		if (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) <
		    __atomic_load_n(&ring->mem.ctl->head, __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

static void
tell_counts(const struct highway_link *link)
{
	uint32_t i;

	for (i = 0; i < link->n_rx_rings; i++) {
		region_of(link)->received[link->end][i].packets = link->rx[i].packets;
		region_of(link)->received[link->end][i].bytes = link->rx[i].bytes;
	}
}

/*
 * Take back what the peer has not received of all that this port sent; no queue sends any more. A
 * peer that was only held up finds its rings empty: what is reported as lost is not delivered late,
 * behind what went the normal way meanwhile.
 */
static uint64_t
abandon(const struct highway_link *link)
{
	const struct highway_link_geometry *g = &link->geometry;
	uint64_t sum = 0, head, tail;
	uint32_t i;

	for (i = 0; i < g->n_queues[link->end]; i++) {
		struct highway_ring_mem mem;

		highway_ring_place(&mem, ring_at(link, link->end, i), g->ring_size, g->ring_data);
		head = highway_ring_published(&mem);
		tail = __atomic_load_n(&mem.ctl->tail, __ATOMIC_ACQUIRE);
		if (head - tail > g->ring_size)
			continue;
		__atomic_store_n(&mem.ctl->head, tail, __ATOMIC_RELEASE);
		for (; tail != head; tail++) {
			uint8_t kind = highway_desc_read(&mem, tail).kind;

			sum += kind == HIGHWAY_DESC_PACKET || kind == HIGHWAY_DESC_BUFFER;
			highway_ring_clear(&mem, tail);
		}
	}
	return sum;
}

/* Will nobody ever receive what stands in this end's rings? */
static bool
given_up(const struct highway_port *port, const struct highway_link *link)
{
	return __atomic_load_n(&end_of(link, 1 - link->end)->attached, __ATOMIC_ACQUIRE) == 0 ||
	       rte_rdtsc() - link->leaving_tsc >= highway_drain_limit(port);
}

/* Free a link, unless the application still reads frames in it. */
static bool
end_link(struct highway_link *link)
{
	uint32_t i;

	for (i = 0; i < link->n_rx_rings; i++) {
		if (highway_loans_out(link->rx[i].loans))
			return false;
	}
	free_loans(link);
	highway_unmap(&link->map);
	rte_free(link);
	return true;
}

/* The link stands in no view any more. */
static void
detach(struct highway_port *port, struct highway_link *link)
{
	uint64_t left = given_up(port, link) ? abandon(link) : 0;
	/* May have come when the link was leaving for another reason. */
	bool faulty = link->close != HIGHWAY_CLOSE_NONE;
	uint16_t i;

	if (left != 0) {
		port->abandoned += left;
		HW_LOG(WARNING, "port %s: %" PRIu64 " frames were lost in the link to %s: nobody "
		       "received them", port->options.port, left, link->peer_name);
	}
	tell_counts(link);
	end_of(link, link->end)->closed = link->close;
	__atomic_store_n(&end_of(link, link->end)->attached, 0, __ATOMIC_RELEASE);
	for (i = 0; i < highway_n_txq(port); i++) {
		struct highway_vnf_txq *txq = port->dev->data->tx_queues[i];

		memset(&txq->links[link->slot], 0, sizeof(txq->links[0]));
	}
	highway_ctrl_link_reply(port, HIGHWAY_MSG_LINK_REMOVED, link->geometry.link_id,
				link->peer_id, faulty ? HIGHWAY_STATUS_REFUSED : HIGHWAY_STATUS_OK,
				faulty ? close_text(link->close) : link->why);
	if (!end_link(link))
		TAILQ_INSERT_TAIL(&pinned, link, next);
}

/** End what loans alone have kept. Called by the control thread. */
void
highway_links_reap(void)
{
	struct highway_link *link, *after;

	for (link = TAILQ_FIRST(&pinned); link != NULL; link = after) {
		after = TAILQ_NEXT(link, next);
		TAILQ_REMOVE(&pinned, link, next);
		if (!end_link(link))
			TAILQ_INSERT_HEAD(&pinned, link, next);
	}
}

/** Are there such links? */
bool
highway_links_pinned(void)
{
	return !TAILQ_EMPTY(&pinned);
}

/* What the link's phase and the other end allow. */
static bool
may_use(const struct highway_link *link)
{
	const struct highway_link_region *region = region_of(link);
	const struct highway_link_end *peer = &region->end[1 - link->end];

	return !link->leaving && region->phase == HIGHWAY_LINK_ACTIVE && peer->attached != 0 &&
	       peer->rx_ready != 0;
}

/**
 * Move every link on. Called by the control thread.
 *
 * @return true if the queues need a new view
 */
bool
highway_links_tick(struct highway_port *port)
{
	uint64_t limit = highway_drain_limit(port);
	bool renew = false;
	uint32_t slot;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		struct highway_link *link = port->links[slot];
		uint32_t fault;
		bool usable;

		if (link == NULL)
			continue;
		fault = __atomic_load_n(&link->close, __ATOMIC_ACQUIRE);
		if (fault != HIGHWAY_CLOSE_NONE && !link->leaving) {
			HW_LOG(ERR, "port %s: the link to %s is closed: %s", port->options.port,
			       link->peer_name, close_text(fault));
			port->closed_links++;
			begin_leaving(port, link, close_text(fault));
		}
		usable = may_use(link);
		if (usable != link->usable) {
			link->usable = usable;
			renew = true;
		}
		tell_counts(link);
		if (!link->leaving)
			continue;
		if (!link->tx_done) {
			if (port->view != NULL && highway_view_renew(port) != 0)
				continue; /* no memory: try again with the next tick */
			/* Pairs with drained() at the other end: heads are final now. */
			__atomic_store_n(&end_of(link, link->end)->tx_done, 1, __ATOMIC_RELEASE);
			link->tx_done = true;
		}
		if (!drained(link) && port->started && rte_rdtsc() - link->leaving_tsc < limit)
			continue;
		port->links[slot] = NULL;
		if (port->view != NULL && highway_view_renew(port) != 0) {
			port->links[slot] = link;
			continue;
		}
		port->n_links--;
		detach(port, link);
	}
	return renew;
}

/** Say at every link whether this port receives. */
void
highway_links_ready(struct highway_port *port, bool ready)
{
	uint32_t slot;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		const struct highway_link *link = port->links[slot];

		if (link != NULL)
			__atomic_store_n(&end_of(link, link->end)->rx_ready, ready,
					 __ATOMIC_RELEASE);
	}
}

/** Unmap everything at once; no view shows anything. */
void
highway_links_drop_all(struct highway_port *port)
{
	uint32_t slot;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		struct highway_link *link = port->links[slot];

		if (link == NULL)
			continue;
		port->links[slot] = NULL;
		port->n_links--;
		__atomic_store_n(&end_of(link, link->end)->rx_ready, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&end_of(link, link->end)->tx_done, 1, __ATOMIC_RELEASE);
		begin_leaving(port, link, "the port is closed");
		detach(port, link);
	}
}
