/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From a frame's key to the bypass rule that it matches. A classifier is built once, by the
 * control thread, and only read afterwards.
 */

#ifndef HIGHWAY_CLASS_H
#define HIGHWAY_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_hash_crc.h>

#include "highway_shm.h"

#define HIGHWAY_KEY_WORDS 8 /* struct highway_key as 64-bit words */

/** A key as it is compared: whole words, so that none is read sooner than it is written. */
union highway_key_words {
	struct highway_key key;
	uint64_t words[HIGHWAY_KEY_WORDS];
};

/** A rule as a sender keeps it. */
struct highway_class_rule {
	union highway_key_words match; /**< masked */
	/** The rule's word in shared memory; equals generation, or it is gone */
	const uint64_t *live;
	uint64_t generation;
	uint64_t born;		/**< version of the first view that had the rule on this link */
	uint32_t slot;
	uint32_t max_frame;	/**< bytes */
	uint32_t link;		/**< link slot */
};

/** The rules of one mask. */
struct highway_class_group {
	union highway_key_words mask;
	uint32_t n_rules;
	uint32_t first;		/**< index of the first; the others of the group follow */
	uint32_t bucket_mask;	/**< number of buckets - 1 */
	uint32_t *buckets;	/**< index into rules + 1, or 0; open addressing */
	uint8_t n_used;		/**< words of the mask that are not 0 ... */
	uint8_t used[HIGHWAY_KEY_WORDS]; /**< ... and which */
};

/** How far a frame has to be parsed for these rules. */
enum highway_class_depth {
	HIGHWAY_DEPTH_L2,
	HIGHWAY_DEPTH_L3,	/**< also for whether it is a fragment */
	HIGHWAY_DEPTH_L4
};

struct highway_classifier {
	uint32_t n_rules;
	uint32_t n_groups;
	enum highway_class_depth depth;
	bool plain;		/**< few rules, and only on what words 1 and 2 of a key say */
	struct highway_class_rule *rules;
	struct highway_class_group *groups;
};

#define HIGHWAY_FEW_RULES 4	/* in a group: comparing each is cheaper than a hash */
#define HIGHWAY_FEW_GROUPS 4

/** Take over `n` rules (copied; their keys masked by `masks`) and group them. 0 or -ENOMEM. */
int highway_classifier_build(struct highway_classifier *classifier,
			     const struct highway_class_rule *rules,
			     const struct highway_key *masks, uint32_t n);
void highway_classifier_free(struct highway_classifier *classifier);

static inline uint32_t
highway_group_hash(const struct highway_class_group *group, const uint64_t *words)
{
	uint32_t hash = 0;
	int i;

	for (i = 0; i < group->n_used; i++) {
		int w = group->used[i];

		hash = rte_hash_crc_8byte(words[w] & group->mask.words[w], hash);
	}
	return hash;
}

static inline bool
highway_group_equal(const struct highway_class_group *group, const uint64_t *words,
		    const struct highway_class_rule *rule)
{
	uint64_t differ = 0;
	int i;

	for (i = 0; i < group->n_used; i++) {
		int w = group->used[i];

		differ |= (words[w] & group->mask.words[w]) ^ rule->match.words[w];
	}
	return differ == 0;
}

/** The rule of a group that a key matches, NULL if none does. */
static inline const struct highway_class_rule *
highway_group_find(const struct highway_classifier *c, const struct highway_class_group *group,
		   const uint64_t *words)
{
	const struct highway_class_rule *rule = &c->rules[group->first];
	uint32_t at, index;

	if (group->n_rules <= HIGHWAY_FEW_RULES) {
		for (index = 0; index < group->n_rules; index++, rule++) {
			if (highway_group_equal(group, words, rule))
				return rule;
		}
		return NULL;
	}
	at = highway_group_hash(group, words) & group->bucket_mask;
	while ((index = group->buckets[at]) != 0) {
		rule = &c->rules[index - 1];
		if (highway_group_equal(group, words, rule))
			return rule;
		at = (at + 1) & group->bucket_mask;
	}
	return NULL;
}

/** The one rule for a key; NULL if there is none, or if two of them disagree (*conflict). */
static inline const struct highway_class_rule *
highway_classify(const struct highway_classifier *c, const union highway_key_words *key,
		 bool *conflict)
{
	const struct highway_class_rule *found = NULL;
	uint32_t i;

	for (i = 0; i < c->n_groups; i++) {
		const struct highway_class_rule *rule =
			highway_group_find(c, &c->groups[i], key->words);

		if (rule == NULL)
			continue;
		if (unlikely(found != NULL && found->link != rule->link)) {
			*conflict = true;
			return NULL;
		}
		found = rule;
	}
	return found;
}

/** The same for a plain classifier, which looks at two words only. */
static inline const struct highway_class_rule *
highway_classify_plain(const struct highway_classifier *c, uint64_t w1, uint64_t w2,
		       bool *conflict)
{
	const struct highway_class_rule *found = NULL, *rule;
	uint32_t i, n;

	for (i = 0; i < c->n_groups; i++) {
		const struct highway_class_group *group = &c->groups[i];
		uint64_t v1 = w1 & group->mask.words[1], v2 = w2 & group->mask.words[2];

		rule = &c->rules[group->first];
		for (n = group->n_rules; n != 0; n--, rule++) {
			if (((v1 ^ rule->match.words[1]) | (v2 ^ rule->match.words[2])) != 0)
				continue;
			if (unlikely(found != NULL && found->link != rule->link)) {
				*conflict = true;
				return NULL;
			}
			found = rule;
		}
	}
	return found;
}

#endif /* HIGHWAY_CLASS_H */
