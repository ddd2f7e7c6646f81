/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Views: what a VNF's queues know of rules and links. The control thread makes a new view when
 * something changes, swaps it in, waits until no queue looks at the old one, and only then frees
 * what the old one showed.
 */

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "highway.h"
#include "highway_vnf.h"

static int
membarrier(int command)
{
	return (int)syscall(__NR_membarrier, command, 0, 0);
}

int
highway_presence_init(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 ? 0 : -errno;
}

static uint64_t
presence_of(const struct highway_presence *presence)
{
	/* Pairs with highway_presence_exit(). */
	return __atomic_load_n(&presence->count, __ATOMIC_ACQUIRE);
}

static void
wait_for(const struct highway_presence *presence)
{
	uint64_t seen = presence_of(presence);

	while ((seen & 1) != 0 && presence_of(presence) == seen)
		rte_delay_us_sleep(20);
}

/**
 * Return when every burst that may have seen the previous view is over. A queue that nobody polls
 * is outside of bursts, so this does not wait for silent ones.
 */
void
highway_wait_for_queues(struct highway_port *port)
{
	struct rte_eth_dev_data *data = port->dev->data;
	struct highway_vnf_txq *txq;
	struct highway_vnf_rxq *rxq;
	uint16_t i;

	/* After this, a queue either is seen inside its burst or sees the new view. A kernel
	 * without it: store buffers are long empty after a millisecond.
	 */
	if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0)
		rte_delay_us_sleep(1000);
	for (i = 0; i < highway_n_txq(port); i++) {
		txq = data->tx_queues[i];
		wait_for(&txq->presence);
	}
	for (i = 0; i < highway_n_rxq(port); i++) {
		rxq = data->rx_queues[i];
		wait_for(&rxq->presence);
	}
}

/* ----------------------------------------------------------------------------------- rules --- */

static struct highway_link *
link_to(const struct highway_port *port, uint64_t peer_id)
{
	uint32_t i;

	for (i = 0; i < HIGHWAY_MAX_LINKS; i++) {
		struct highway_link *link = port->links[i];

		if (link != NULL && !link->leaving && link->peer_id == peer_id)
			return link;
	}
	return NULL;
}

/** Copy one rule out of shared memory; false if it is not in force or changes just now. */
bool
highway_rule_read(const struct highway_rule *shared, struct highway_rule *rule)
{
	uint64_t live = __atomic_load_n(&shared->live, __ATOMIC_ACQUIRE);

	if (live == 0)
		return false;
	memcpy(rule, shared, sizeof(*rule));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&shared->live, __ATOMIC_RELAXED) == live &&
	       rule->generation == live;
}

static void
apply_mask(struct highway_key *key, const struct highway_key *mask)
{
	uint8_t *k = (uint8_t *)key;
	const uint8_t *m = (const uint8_t *)mask;
	size_t i;

	for (i = 0; i < sizeof(*key); i++)
		k[i] &= m[i];
}

/** What the classifier has to know of a rule; the caller adds what depends on the channel. */
void
highway_rule_prepare(const struct highway_rule *rule, struct highway_class_rule *prepared,
		     struct highway_key *mask)
{
	*prepared = (struct highway_class_rule){
		.match.key = rule->key,
		.generation = rule->generation,
		.max_frame = RTE_MIN(rule->max_frame, (uint32_t)HIGHWAY_MAX_FRAME),
	};
	apply_mask(&prepared->match.key, &rule->mask);
	*mask = rule->mask;
}

static uint64_t
birth_of(struct highway_port *port, uint32_t slot, const struct highway_rule *rule,
	 const struct highway_link *link, uint64_t version)
{
	struct highway_birth *birth = &port->births[slot];

	if (birth->generation != rule->generation || birth->link_id != link->geometry.link_id) {
		birth->generation = rule->generation;
		birth->link_id = link->geometry.link_id;
		birth->version = version;
	}
	return birth->version;
}

/* The link that frames are to take by a rule, NULL if none. */
static struct highway_link *
link_of(const struct highway_port *port, const struct highway_rule *rule)
{
	struct highway_link *link = link_to(port, rule->peer_id);

	if (link == NULL || rule->suppressed == rule->generation ||
	    (link->flags & HIGHWAY_LINK_NO_SEND) != 0)
		return NULL;
	if ((link->flags & HIGHWAY_LINK_PEER_CHECKS) != 0 &&
	    (rule->flags & HIGHWAY_RULE_UNCHECKED) != 0)
		return NULL;
	return link;
}

static int
collect_rules(struct highway_port *port, struct highway_view *view)
{
	const struct highway_rule *table = RTE_PTR_ADD(port->map.base,
						       port->geometry.rules_offset);
	uint32_t n_slots = port->geometry.n_rules, slot, n = 0;
	struct highway_class_rule *rules;
	struct highway_key *masks;
	bool linked = false;
	int ret;

	rules = rte_malloc("highway_rules", n_slots * sizeof(*rules), RTE_CACHE_LINE_SIZE);
	masks = rte_malloc("highway_masks", n_slots * sizeof(*masks), 0);
	if (rules == NULL || masks == NULL) {
		ret = -ENOMEM;
		goto out;
	}
	for (slot = 0; slot < n_slots; slot++) {
		const struct highway_link *link;
		struct highway_rule rule;

		if (!highway_rule_read(&table[slot], &rule))
			continue;
		link = link_of(port, &rule);
		highway_rule_prepare(&rule, &rules[n], &masks[n]);
		rules[n].shared = &table[slot];
		rules[n].slot = slot;
		if (link == NULL) {
			rules[n].link = HIGHWAY_CLASS_UNLINKED;
			/* When it has a link again, what it lets through has to enter anew. */
			port->births[slot].generation = 0;
		} else {
			rules[n].link = link->slot;
			rules[n].born = birth_of(port, slot, &rule, link, view->version);
			linked = true;
		}
		n++;
	}
	ret = highway_classifier_build(&view->classifier, rules, masks, linked ? n : 0);
out:
	rte_free(rules);
	rte_free(masks);
	return ret;
}

/* ----------------------------------------------------------------------------------- views --- */

/** Is highwayd alive, or does it not matter? */
bool
highway_lease_holds(const struct highway_port *port)
{
	return port->region->gate.fail_mode != 0 ||
	       rte_rdtsc() - port->lease_tsc < HIGHWAY_LEASE_S * rte_get_tsc_hz();
}

static void
free_view(struct highway_view *view)
{
	uint32_t slot;

	if (view == NULL)
		return;
	for (slot = 0; slot < view->n_slots; slot++) {
		if (view->links[slot].check != NULL)
			highway_classifier_free(view->links[slot].check);
		rte_free(view->links[slot].check);
	}
	highway_classifier_free(&view->classifier);
	rte_free(view);
}

static void
swap_in(struct highway_port *port, struct highway_view *view)
{
	struct highway_view *old = port->view;

	/* Pairs with the load at the start of each burst. */
	__atomic_store_n(&port->view, view, __ATOMIC_RELEASE);
	highway_wait_for_queues(port);
	free_view(old);
}

void
highway_view_drop(struct highway_port *port)
{
	swap_in(port, NULL);
}

int
highway_view_renew(struct highway_port *port)
{
	struct highway_port_region *region = port->region;
	struct highway_gate *gate = &region->gate;
	struct highway_view *view;
	uint32_t slot;
	int ret;

	view = rte_zmalloc("highway_view", sizeof(*view), RTE_CACHE_LINE_SIZE);
	if (view == NULL)
		return -ENOMEM;
	/* Before anything that it announces; pairs with highway_gate_change(). */
	view->change = __atomic_load_n(&gate->change, __ATOMIC_ACQUIRE);
	view->version = ++port->view_version;
	view->switch_epoch = region->switch_state.epoch;
	view->switch_here = region->switch_state.attached != 0;
	view->up = highway_port_up(region) && port->admin_up;
	view->receiving = port->admin_up && (view->up || !view->switch_here);
	view->n_rxq = port->dev->data->nb_rx_queues;
	view->lease_good = highway_lease_holds(port);
	view->bypass_on = view->up && view->lease_good && highway_off_bits(region) == 0;
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		if (port->links[slot] == NULL)
			continue;
		view->links[slot].link = port->links[slot];
		view->links[slot].usable = port->links[slot]->usable;
		view->n_slots = slot + 1;
		view->n_links++;
		view->link_mask |= UINT64_C(1) << slot;
	}
	ret = collect_rules(port, view);
	if (ret == 0)
		ret = highway_checks_collect(port, view);
	if (ret != 0) {
		HW_LOG(ERR, "port %s: no memory for %u rules: traffic stays on the normal channel",
		       port->options.port, port->geometry.n_rules);
		free_view(view);
		return ret;
	}
	swap_in(port, view);
	/* No queue uses a rule any more that was gone by then: its slot is free again. */
	__atomic_store_n(&region->vnf_state.ack, view->change, __ATOMIC_RELEASE);
	/* And what was received by an inbound rule that had been received in full is counted. */
	__atomic_store_n(&region->vnf_state.in_ack, highway_checks_ack(port, view),
			 __ATOMIC_RELEASE);
	return 0;
}
