/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_malloc.h>

#include "highway_class.h"
#include "highway_extract.h"
#include "highway_region.h"

/** While a classifier is built: which rule is of which group. */
struct grouping {
	uint32_t *group_of;	/**< per rule */
	uint32_t *sizes;	/**< rules per group */
	uint32_t *heads;	/**< per group: a rule of it, by whose mask it is known */
	uint32_t *buckets;	/**< hash table of the masks: index of a group + 1 */
	uint32_t bucket_mask;
};

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

static uint64_t
mask_hash(const struct highway_classifier *c, const struct highway_key *mask)
{
	union highway_key_words key = { .key = *mask };
	uint64_t hash = c->secret;
	int i;

	for (i = 0; i < HIGHWAY_KEY_WORDS; i++)
		hash = highway_mix(hash ^ key.words[i], c->multiplier);
	return hash;
}

/* Tell rules of different masks apart; counts the groups. */
static void
group_rules(struct highway_classifier *c, struct grouping *g, const struct highway_key *masks)
{
	uint32_t i, at, group;

	for (i = 0; i < c->n_rules; i++) {
		for (at = (uint32_t)mask_hash(c, &masks[i]) & g->bucket_mask; g->buckets[at] != 0;
		     at = (at + 1) & g->bucket_mask) {
			group = g->buckets[at] - 1;
			if (memcmp(&masks[g->heads[group]], &masks[i], sizeof(*masks)) == 0)
				break;
		}
		if (g->buckets[at] == 0) {
			g->heads[c->n_groups] = i;
			g->buckets[at] = ++c->n_groups;
		}
		group = g->buckets[at] - 1;
		g->group_of[i] = group;
		g->sizes[group]++;
	}
}

static uint32_t
bucket_count(uint32_t n_rules)
{
	return n_rules <= HIGHWAY_FEW_RULES ? 0 : rte_align32pow2(n_rules * 4);
}

static void
begin_group(struct highway_class_group *group, const struct highway_key *mask, uint32_t first,
	    uint64_t *buckets, uint32_t n_buckets)
{
	uint8_t i;

	group->mask.key = *mask;
	for (i = 0; i < HIGHWAY_KEY_WORDS; i++) {
		if (group->mask.words[i] != 0)
			group->used[group->n_used++] = i;
	}
	group->first = first;
	group->buckets = buckets;
	group->bucket_mask = n_buckets - 1;
}

/* Words that are the same in all rules of a group need not be hashed. */
static void
choose_hashed(const struct highway_classifier *c, struct highway_class_group *group)
{
	const struct highway_class_rule *rules = &c->rules[group->first];
	uint8_t i, w;
	uint32_t r;

	group->n_hashed = 0;
	for (i = 0; i < group->n_used; i++) {
		w = group->used[i];
		for (r = 1; r < group->n_rules; r++) {
			if (rules[r].match.words[w] != rules[0].match.words[w])
				break;
		}
		if (r >= group->n_rules)
			continue;
		group->used[i] = group->used[group->n_hashed];
		group->used[group->n_hashed++] = w;
	}
}

/* Memory for all of it, and the groups, which have no rules yet. */
static int
lay_out(struct highway_classifier *c, const struct grouping *g, const struct highway_key *masks)
{
	size_t rules_len = c->n_rules * sizeof(*c->rules);
	size_t groups_len = RTE_ALIGN_CEIL(c->n_groups * sizeof(*c->groups), sizeof(uint64_t));
	size_t n_buckets = 0;
	uint64_t *buckets;
	uint32_t i, first = 0;

	for (i = 0; i < c->n_groups; i++)
		n_buckets += bucket_count(g->sizes[i]);
	c->rules = rte_zmalloc("highway_rules",
			       rules_len + groups_len + n_buckets * sizeof(*buckets),
			       RTE_CACHE_LINE_SIZE);
	if (c->rules == NULL)
		return -ENOMEM;
	c->groups = RTE_PTR_ADD(c->rules, rules_len);
	buckets = RTE_PTR_ADD(c->groups, groups_len);
	for (i = 0; i < c->n_groups; i++) {
		begin_group(&c->groups[i], &masks[g->heads[i]], first, buckets,
			    bucket_count(g->sizes[i]));
		first += g->sizes[i];
		buckets += bucket_count(g->sizes[i]);
	}
	return 0;
}

/* The same pattern to different peers: no frame can be sent by it. */
static void
agree(struct highway_class_rule *rule, struct highway_class_rule *other)
{
	if (rule->link != other->link) {
		rule->link = HIGHWAY_CLASS_CONFLICT;
		other->link = HIGHWAY_CLASS_CONFLICT;
	}
}

static void
insert(struct highway_classifier *c, struct highway_class_group *group, uint32_t index)
{
	struct highway_class_rule *rule = &c->rules[index], *other;
	uint64_t hash, bucket;
	uint32_t at;

	if (group->bucket_mask == UINT32_MAX) {
		for (other = &c->rules[group->first]; other != rule; other++) {
			if (highway_group_equal(group, other->match.words, rule))
				agree(rule, other);
		}
		return;
	}
	hash = highway_group_hash(c, group, rule->match.words);
	for (at = (uint32_t)hash & group->bucket_mask; (bucket = group->buckets[at]) != 0;
	     at = (at + 1) & group->bucket_mask) {
		other = &c->rules[(uint32_t)bucket - 1];
		if (highway_group_equal(group, other->match.words, rule)) {
			agree(rule, other);
			return;
		}
	}
	group->buckets[at] = (hash >> 32) << 32 | (index + 1);
}

/* Prepare highway_alone_match() for a plain classifier's only rule, if IPv4 can go by it. */
static void
prepare_alone(struct highway_classifier *c)
{
	static const struct highway_key ipv4 = { .eth_type = RTE_BE16(RTE_ETHER_TYPE_IPV4) };
	static const struct highway_key checked = {
		.eth_type = UINT16_MAX,
		.vlan_tci = UINT16_MAX,
		.vlan_tpid = UINT16_MAX,
		.ip_frag = UINT8_MAX,
	};
	const union highway_key_words is = { .key = ipv4 }, says = { .key = checked };
	const uint64_t *mask = c->groups[0].mask.words, *value = c->rules[0].match.words;
	int i;

	for (i = 1; i <= 2; i++) {
		if (((is.words[i] ^ value[i]) & mask[i] & says.words[i]) != 0)
			return;
	}
	c->alone = &c->rules[0];
	c->alone_mask[0] = (mask[1] & HIGHWAY_W1_UNTAGGED) | HIGHWAY_A_TYPE |
			   (mask[2] >> HIGHWAY_W2_TOS & 0xff) << HIGHWAY_A_TOS;
	c->alone_value[0] = (value[1] & HIGHWAY_W1_UNTAGGED) | HIGHWAY_A_IPV4 |
			    (value[2] >> HIGHWAY_W2_TOS & 0xff) << HIGHWAY_A_TOS;
	c->alone_mask[1] = HIGHWAY_B_FRAGMENT |
			   (mask[2] >> HIGHWAY_W2_TTL & 0xff) << HIGHWAY_B_TTL |
			   (mask[2] >> HIGHWAY_W2_PROTO & 0xff) << HIGHWAY_B_PROTO;
	c->alone_value[1] = (value[2] >> HIGHWAY_W2_TTL & 0xff) << HIGHWAY_B_TTL |
			    (value[2] >> HIGHWAY_W2_PROTO & 0xff) << HIGHWAY_B_PROTO;
}

static int
build(struct highway_classifier *c, struct grouping *g, const struct highway_class_rule *rules,
      const struct highway_key *masks)
{
	struct highway_class_group *group;
	uint32_t i, rule;
	int ret;

	group_rules(c, g, masks);
	ret = lay_out(c, g, masks);
	if (ret != 0)
		return ret;
	/* Each group's rules side by side. */
	for (i = 0; i < c->n_rules; i++) {
		group = &c->groups[g->group_of[i]];
		c->rules[group->first + group->n_rules++] = rules[i];
	}
	for (i = 0; i < c->n_groups; i++) {
		group = &c->groups[i];
		choose_hashed(c, group);
		for (rule = 0; rule < group->n_rules; rule++)
			insert(c, group, group->first + rule);
	}
	c->plain = c->n_groups <= HIGHWAY_FEW_GROUPS;
	for (i = 0; i < c->n_groups; i++) {
		c->depth = RTE_MAX(c->depth, mask_depth(&c->groups[i].mask.key));
		c->plain = c->plain && is_plain(&c->groups[i]);
	}
	if (c->plain && c->n_rules == 1 && c->rules[0].link < HIGHWAY_CLASS_UNLINKED)
		prepare_alone(c);
	return 0;
}

int
highway_classifier_build(struct highway_classifier *c, const struct highway_class_rule *rules,
			 const struct highway_key *masks, uint32_t n)
{
	struct grouping g;
	uint32_t *scratch, n_buckets;
	int ret;

	memset(c, 0, sizeof(*c));
	if (n == 0)
		return 0;
	c->n_rules = n;
	c->secret = highway_random_id();
	c->multiplier = highway_random_id() | 1;
	n_buckets = rte_align32pow2(n * 2);
	scratch = calloc(3 * (size_t)n + n_buckets, sizeof(*scratch));
	if (scratch == NULL) {
		c->n_rules = 0;
		return -ENOMEM;
	}
	g = (struct grouping){
		.group_of = scratch,
		.sizes = scratch + n,
		.heads = scratch + 2 * (size_t)n,
		.buckets = scratch + 3 * (size_t)n,
		.bucket_mask = n_buckets - 1,
	};
	ret = build(c, &g, rules, masks);
	free(scratch);
	if (ret != 0)
		highway_classifier_free(c);
	return ret;
}

void
highway_classifier_free(struct highway_classifier *c)
{
	rte_free(c->rules);
	memset(c, 0, sizeof(*c));
}
