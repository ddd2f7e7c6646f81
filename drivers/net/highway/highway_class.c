/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <errno.h>
#include <string.h>

#include <rte_common.h>
#include <rte_malloc.h>

#include "highway_class.h"

static struct highway_class_group *
group_of(struct highway_classifier *c, const struct highway_key *mask)
{
	struct highway_class_group *group;
	uint32_t i;

	for (i = 0; i < c->n_groups; i++) {
		if (memcmp(&c->groups[i].mask, mask, sizeof(*mask)) == 0)
			return &c->groups[i];
	}
	group = &c->groups[c->n_groups++];
	group->mask.key = *mask;
	for (i = 0; i < HIGHWAY_KEY_WORDS; i++) {
		if (group->mask.words[i] != 0)
			group->used[group->n_used++] = (uint8_t)i;
	}
	return group;
}

static enum highway_class_depth
mask_depth(const struct highway_key *m)
{
	static const uint8_t no_address[16];

	if (m->l4_src != 0 || m->l4_dst != 0 || m->tcp_flags != 0)
		return HIGHWAY_DEPTH_L4;
	if (m->ip_proto != 0 || m->ip_tos != 0 || m->ip_ttl != 0 || m->ip_frag != 0 ||
	    memcmp(m->ip_src, no_address, 16) != 0 || memcmp(m->ip_dst, no_address, 16) != 0)
		return HIGHWAY_DEPTH_L3;
	return HIGHWAY_DEPTH_L2;
}

static bool
is_plain(const struct highway_class_group *group)
{
	uint64_t others = 0;
	int i;

	for (i = 0; i < HIGHWAY_KEY_WORDS; i++) {
		if (i != 1 && i != 2)
			others |= group->mask.words[i];
	}
	return others == 0 && group->mask.key.tcp_flags == 0 &&
	       group->n_rules <= HIGHWAY_FEW_RULES;
}

static void
insert(struct highway_classifier *c, struct highway_class_group *group, uint32_t index)
{
	struct highway_class_rule *rule = &c->rules[index], *other;
	uint32_t at = highway_group_hash(group, rule->match.words) & group->bucket_mask;

	for (; group->buckets[at] != 0; at = (at + 1) & group->bucket_mask) {
		other = &c->rules[group->buckets[at] - 1];
		/* The same pattern twice, to different peers: no frame is short enough. */
		if (other->link != rule->link &&
		    highway_group_equal(group, other->match.words, rule)) {
			other->max_frame = 0;
			rule->max_frame = 0;
		}
	}
	group->buckets[at] = index + 1;
}

int
highway_classifier_build(struct highway_classifier *c, const struct highway_class_rule *rules,
			 const struct highway_key *masks, uint32_t n)
{
	struct highway_class_group *group;
	uint32_t i, size, first = 0;

	memset(c, 0, sizeof(*c));
	if (n == 0)
		return 0;
	c->rules = rte_calloc("highway_rules", n, sizeof(*c->rules), RTE_CACHE_LINE_SIZE);
	c->groups = rte_calloc("highway_groups", n, sizeof(*c->groups), RTE_CACHE_LINE_SIZE);
	if (c->rules == NULL || c->groups == NULL)
		goto no_memory;
	c->n_rules = n;
	for (i = 0; i < n; i++) {
		group_of(c, &masks[i])->n_rules++;
		c->depth = RTE_MAX(c->depth, mask_depth(&masks[i]));
	}
	c->plain = c->n_groups <= HIGHWAY_FEW_GROUPS;
	for (i = 0; i < c->n_groups; i++) {
		group = &c->groups[i];
		group->first = first;
		first += group->n_rules;
		c->plain = c->plain && is_plain(group);
		size = rte_align32pow2(RTE_MAX(group->n_rules * 2, 4U));
		group->bucket_mask = size - 1;
		group->buckets = rte_calloc("highway_buckets", size, sizeof(uint32_t),
					    RTE_CACHE_LINE_SIZE);
		if (group->buckets == NULL)
			goto no_memory;
	}
	/* Each group's rules side by side: n_rules counts up again while they come in. */
	for (i = 0; i < c->n_groups; i++)
		c->groups[i].n_rules = 0;
	for (i = 0; i < n; i++) {
		group = group_of(c, &masks[i]);
		c->rules[group->first + group->n_rules] = rules[i];
		insert(c, group, group->first + group->n_rules);
		group->n_rules++;
	}
	return 0;

no_memory:
	highway_classifier_free(c);
	return -ENOMEM;
}

void
highway_classifier_free(struct highway_classifier *c)
{
	uint32_t i;

	for (i = 0; c->groups != NULL && i < c->n_groups; i++)
		rte_free(c->groups[i].buckets);
	rte_free(c->groups);
	rte_free(c->rules);
	memset(c, 0, sizeof(*c));
}
