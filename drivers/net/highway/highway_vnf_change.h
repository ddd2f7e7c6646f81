/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The sender's half of every change of channel (docs/architecture.md, "Changing channels"), for the
 * transmit burst alone.
 */

#ifndef HIGHWAY_VNF_CHANGE_H
#define HIGHWAY_VNF_CHANGE_H

#include <rte_cycles.h>

#include "highway.h"

static inline uint64_t
link_bit(uint32_t slot)
{
	return UINT64_C(1) << slot;
}

/* Tell the switch, in order, where the bypass rings stand. false: no room, try again later. */
static inline bool
leave_links(struct highway_vnf_txq *txq, const struct highway_view *view)
{
	bool mark = view->switch_here && !txq->port->options.unordered;

	while (txq->leave_mask != 0) {
		uint32_t slot = (uint32_t)__builtin_ctzll(txq->leave_mask);
		struct highway_tx_link *tl = &txq->links[slot];
		struct highway_marker marker = {
			.peer_id = tl->peer_id,
			.link_id = tl->link_id,
			.value = tl->ring.head,
		};

		if (tl->ring.head != tl->left_at && tl->link_id != 0) {
			/* The receiver closes a link whose Leave points beyond what is published. */
			highway_producer_publish(&tl->ring);
			if (mark &&
			    !highway_producer_mark(&txq->normal, HIGHWAY_DESC_LEAVE, &marker,
						   sizeof(marker)))
				return false;
			tl->left_at = tl->ring.head;
			txq->stats.leaves++;
		}
		txq->leave_mask &= txq->leave_mask - 1;
	}
	return true;
}

/* Everything that is on this link comes back to the normal channel. */
static inline void
give_up_link(struct highway_vnf_txq *txq, uint32_t slot)
{
	txq->links[slot].entered = 0;
	txq->entered_mask &= ~link_bit(slot);
	txq->leave_mask |= link_bit(slot);
}

static inline void
give_up_all(struct highway_vnf_txq *txq)
{
	while (txq->entered_mask != 0)
		give_up_link(txq, (uint32_t)__builtin_ctzll(txq->entered_mask));
}

/* Per link, so that a receiver that takes nothing keeps nobody from entering other links. */
static inline bool
enter_unfinished(struct highway_tx_link *tl)
{
	if (!tl->entering)
		return false;
	highway_producer_refresh(&tl->ring);
	tl->entering = tl->ring.tail_seen <= tl->fence_at && !tl->ring.broken;
	return tl->entering;
}

/* Begin an Enter for every rule of the link that this view shows. */
static inline bool
enter_link(struct highway_vnf_txq *txq, const struct highway_view *view, uint32_t slot)
{
	struct highway_tx_link *tl = &txq->links[slot];
	struct highway_marker marker = {
		.peer_id = tl->peer_id,
		.link_id = tl->link_id,
		/* Grows even when the queue is set up anew and has forgotten its last epoch. */
		.value = RTE_MAX(tl->epoch + 1, rte_rdtsc()),
	};

	if (enter_unfinished(tl) || !leave_links(txq, view))
		return false;
	if (view->switch_here && !txq->port->options.unordered) {
		if (highway_producer_reserve(&tl->ring, sizeof(marker)) == NULL ||
		    !highway_producer_mark(&txq->normal, HIGHWAY_DESC_ENTER, &marker,
					   sizeof(marker)))
			return false;
		highway_producer_mark(&tl->ring, HIGHWAY_DESC_FENCE, &marker, sizeof(marker));
		tl->epoch = marker.value;
		txq->touched |= link_bit(slot);
		tl->fence_at = tl->ring.head - 1;
		tl->entering = true;
	}
	tl->entered = view->version;
	txq->entered_mask |= link_bit(slot);
	txq->stats.enters++;
	return true;
}

/* A new ovs-vswitchd knows nothing of the marks that the old one took with it. */
static inline void
new_switch(struct highway_vnf_txq *txq, const struct highway_view *view)
{
	struct highway_tx_link *tl;
	uint32_t slot;

	txq->switch_epoch = view->switch_epoch;
	for (slot = 0; slot < view->n_slots; slot++) {
		tl = &txq->links[slot];
		if (view->links[slot].link == NULL)
			continue;
		if (tl->ring.head != 0)
			tl->left_at = UINT64_MAX;
		if (enter_unfinished(tl)) {
			struct highway_marker marker = {
				.peer_id = tl->peer_id,
				.link_id = tl->link_id,
				.value = tl->epoch,
			};

			/* Without room the receiver's time limit opens the gate. */
			highway_producer_mark(&txq->normal, HIGHWAY_DESC_ENTER, &marker,
					      sizeof(marker));
		}
	}
}

static inline void
new_view(struct highway_vnf_txq *txq, const struct highway_view *view)
{
	uint32_t slot;

	txq->view_version = view->version;
	txq->barred = 0;
	/* Parsed deeper or less deep, a class may take the other channel without being asked. */
	if (txq->depth != view->classifier.depth) {
		txq->depth = view->classifier.depth;
		give_up_all(txq);
	}
	if (txq->switch_epoch != view->switch_epoch)
		new_switch(txq, view);
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		struct highway_tx_link *tl = &txq->links[slot];

		if (slot >= view->n_slots || view->links[slot].link == NULL) {
			txq->leave_mask &= ~link_bit(slot);
			txq->entered_mask &= ~link_bit(slot);
			continue;
		}
		/* Some rule may be gone: what it sent stays in front of what follows. */
		if (tl->ring.head != tl->left_at)
			txq->leave_mask |= link_bit(slot);
		if (!view->links[slot].usable && (txq->entered_mask & link_bit(slot)) != 0)
			give_up_link(txq, slot);
	}
}

#endif /* HIGHWAY_VNF_CHANGE_H */
