/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * What a receiver checks against: the inbound rules that the switch has written into its region.
 * A sender's word that a frame matched a rule is no proof; on a checked link only frames that an
 * inbound rule of that sender lets through are received.
 *
 * A rule that the switch has withdrawn is kept until everything that the sender had published by
 * then was received, and the switch hears when that is so: only then is its slot another's. Used by
 * the control thread only; queues see the classifiers in their view.
 */

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "highway.h"
#include "highway_vnf.h"

/** A rule that is gone, while frames that were sent by it may still stand in a link's rings. */
struct highway_ended {
	TAILQ_ENTRY(highway_ended) next;
	struct highway_rule rule;
	uint32_t slot;
	uint32_t change;			/**< gate.change when it was last seen */
	uint64_t link_id;
	uint64_t until[HIGHWAY_MAX_QUEUES];	/**< ring indexes */
	uint64_t since_tsc;
};

struct highway_checks {
	TAILQ_HEAD(, highway_ended) ended;
	uint32_t change;		/**< gate.change when the table was last read */
	struct highway_rule known[];	/**< per slot; generation 0 = none */
};

static struct highway_link *
checked_link(const struct highway_port *port, uint32_t slot)
{
	struct highway_link *link = port->links[slot];

	return link != NULL && (link->flags & HIGHWAY_LINK_CHECKED) != 0 ? link : NULL;
}

/* The frames that a rule has let through so far stay allowed. -ENOMEM: try again later. */
static int
end_rule(struct highway_port *port, uint32_t in_slot)
{
	struct highway_rule *rule = &port->checks->known[in_slot];
	struct highway_link *link = NULL;
	struct highway_ended *ended;
	uint32_t slot, i;

	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		link = checked_link(port, slot);
		if (link != NULL && link->peer_id == rule->peer_id)
			break;
	}
	if (slot < HIGHWAY_MAX_LINKS) {
		ended = rte_zmalloc("highway_ended", sizeof(*ended), 0);
		if (ended == NULL)
			return -ENOMEM;
		ended->rule = *rule;
		ended->slot = in_slot;
		ended->change = port->checks->change;
		ended->link_id = link->geometry.link_id;
		ended->since_tsc = rte_rdtsc();
		for (i = 0; i < link->n_rx_rings; i++)
			ended->until[i] = __atomic_load_n(&link->rx[i].ring.mem.ctl->head,
							  __ATOMIC_ACQUIRE);
		TAILQ_INSERT_TAIL(&port->checks->ended, ended, next);
	}
	rule->generation = 0;
	return 0;
}

/* Follow the table of inbound rules, as of a change of the gate. */
static int
read_table(struct highway_port *port, uint32_t change)
{
	const struct highway_rule *table = RTE_PTR_ADD(port->map.base,
						       port->geometry.in_rules_offset);
	uint32_t slot;

	for (slot = 0; slot < port->geometry.n_rules; slot++) {
		struct highway_rule *known = &port->checks->known[slot], rule;
		bool live = highway_rule_read(&table[slot], &rule);

		if (known->generation != 0 && (!live || known->generation != rule.generation) &&
		    end_rule(port, slot) != 0)
			return -ENOMEM;
		if (live)
			*known = rule;
	}
	port->checks->change = change;
	return 0;
}

/* What a link is checked against; nothing lets anything through if it is to carry nothing. */
static struct highway_classifier *
build_check(const struct highway_port *port, const struct highway_link *link)
{
	const struct highway_checks *checks = port->checks;
	struct highway_classifier *check;
	struct highway_class_rule *rules;
	const struct highway_ended *ended;
	bool forbidden = (link->flags & HIGHWAY_LINK_NO_RECEIVE) != 0;
	uint32_t most = port->geometry.n_rules, n = 0, longest = 0, slot, i;
	struct highway_key *masks;
	int ret = -ENOMEM;

	TAILQ_FOREACH(ended, &checks->ended, next)
		most++;
	check = rte_zmalloc("highway_check", sizeof(*check), 0);
	rules = rte_malloc("highway_rules", most * sizeof(*rules), RTE_CACHE_LINE_SIZE);
	masks = rte_malloc("highway_masks", most * sizeof(*masks), 0);
	if (check == NULL || rules == NULL || masks == NULL)
		goto out;
	for (slot = 0; slot < port->geometry.n_rules && !forbidden; slot++) {
		const struct highway_rule *rule = &checks->known[slot];

		if (rule->generation != 0 && rule->peer_id == link->peer_id) {
			highway_rule_prepare(rule, &rules[n], &masks[n]);
			rules[n].slot = slot;
			n++;
		}
	}
	TAILQ_FOREACH(ended, &checks->ended, next) {
		if (ended->link_id == link->geometry.link_id && !forbidden) {
			highway_rule_prepare(&ended->rule, &rules[n], &masks[n]);
			rules[n].slot = ended->slot;
			n++;
		}
	}
	/* All lead here, so they differ in it only while the MTU changes. */
	for (i = 0; i < n; i++)
		longest = RTE_MAX(longest, rules[i].max_frame);
	for (i = 0; i < n; i++)
		rules[i].max_frame = longest;
	ret = highway_classifier_build(check, rules, masks, n);
out:
	rte_free(rules);
	rte_free(masks);
	if (ret == 0)
		return check;
	rte_free(check);
	return NULL;
}

/** Put into a new view what its links are checked against. 0 or -ENOMEM. */
int
highway_checks_collect(struct highway_port *port, struct highway_view *view)
{
	bool any = false;
	uint32_t slot;

	for (slot = 0; slot < view->n_slots; slot++)
		any |= checked_link(port, slot) != NULL;
	if (!any) {
		highway_checks_drop(port);
		return 0;
	}
	if (port->checks == NULL) {
		port->checks = rte_zmalloc("highway_checks", sizeof(*port->checks) +
					   port->geometry.n_rules *
					   sizeof(port->checks->known[0]), 0);
		if (port->checks == NULL)
			return -ENOMEM;
		TAILQ_INIT(&port->checks->ended);
	}
	if (read_table(port, view->change) != 0)
		return -ENOMEM;
	for (slot = 0; slot < view->n_slots; slot++) {
		const struct highway_link *link = checked_link(port, slot);

		if (link == NULL)
			continue;
		view->links[slot].check = build_check(port, link);
		if (view->links[slot].check == NULL)
			return -ENOMEM;
	}
	return 0;
}

/**
 * Once the queues use this view: up to which change of the gate is there no inbound rule any more,
 * kept or not, that was gone by then? A kept one was there at the change when it was last seen, and
 * may be gone since the next.
 */
uint32_t
highway_checks_ack(const struct highway_port *port, const struct highway_view *view)
{
	const struct highway_ended *oldest = NULL;

	if (port->checks != NULL)
		oldest = TAILQ_FIRST(&port->checks->ended);
	return oldest == NULL ? view->change : oldest->change;
}

static bool
received(const struct highway_port *port, const struct highway_ended *ended)
{
	uint64_t limit = 2 * highway_drain_limit(port);
	uint32_t slot, i;

	if (rte_rdtsc() - ended->since_tsc > limit)
		return true;
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		const struct highway_link *link = checked_link(port, slot);

		if (link == NULL || link->geometry.link_id != ended->link_id)
			continue;
		for (i = 0; i < link->n_rx_rings; i++) {
			if (__atomic_load_n(&link->rx[i].ring.tail, __ATOMIC_ACQUIRE) <
			    ended->until[i])
				return false;
		}
	}
	return true;
}

/** Forget rules whose last frames were received. Return true if the queues need a new view. */
bool
highway_checks_tick(struct highway_port *port)
{
	struct highway_ended *ended, *next;
	bool renew = false;

	if (port->checks == NULL)
		return false;
	for (ended = TAILQ_FIRST(&port->checks->ended); ended != NULL; ended = next) {
		next = TAILQ_NEXT(ended, next);
		if (!received(port, ended))
			continue;
		TAILQ_REMOVE(&port->checks->ended, ended, next);
		rte_free(ended);
		renew = true;
	}
	return renew;
}

/** The region goes: nothing is checked any more. */
void
highway_checks_drop(struct highway_port *port)
{
	struct highway_ended *ended;

	if (port->checks == NULL)
		return;
	while ((ended = TAILQ_FIRST(&port->checks->ended)) != NULL) {
		TAILQ_REMOVE(&port->checks->ended, ended, next);
		rte_free(ended);
	}
	rte_free(port->checks);
	port->checks = NULL;
}
