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

#include "highway_shm.h"

#define HIGHWAY_KEY_WORDS 8 /* struct highway_key as 64-bit words */

/** A key as it is compared: whole words, so that none is read sooner than it is written. */
union highway_key_words {
	struct highway_key key;
	uint64_t words[HIGHWAY_KEY_WORDS];
};

/** What stands in highway_class_rule.link where there is no link slot. */
enum highway_class_no_link {
	/** Nothing can be sent by this rule now; it is here for rules that disagree with it */
	HIGHWAY_CLASS_UNLINKED = UINT8_MAX,
	/** Rules of the same pattern disagree; set by highway_classifier_build() */
	HIGHWAY_CLASS_CONFLICT
};

/** A rule as a sender keeps it. */
struct highway_class_rule {
	union highway_key_words match; /**< masked */
	/** In shared memory; its `live` equals generation, or the rule is gone */
	const struct highway_rule *shared;
	uint64_t generation;
	uint64_t born;		/**< version of the first view that had the rule on this link */
	uint32_t slot;
	uint32_t max_frame;	/**< bytes */
	uint32_t link;		/**< link slot, or enum highway_class_no_link */
};

/**
 * The rules of one mask. A bucket holds the upper half of its key's hash and the rule's index + 1,
 * or 0. Open addressing, at most a quarter full, each pattern once. Few rules have no buckets.
 */
struct highway_class_group {
	union highway_key_words mask;
	uint32_t n_rules;
	uint32_t first;		/**< index of the first; the others of the group follow */
	uint64_t *buckets;
	uint32_t bucket_mask;	/**< number of buckets - 1; UINT32_MAX if there are none */
	uint8_t n_used;		/**< words of the mask that are not 0 ... */
	uint8_t n_hashed;	/**< ... and those of them that tell its rules apart ... */
	uint8_t used[HIGHWAY_KEY_WORDS]; /**< ... which come first here */
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
	/** The only rule, if what it says of a frame without a tag can be seen in two words of it */
	const struct highway_class_rule *alone;
	uint64_t alone_mask[2], alone_value[2];
	/** Random, so that nobody can choose addresses and ports whose hashes are equal */
	uint64_t secret, multiplier;
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

/** Both halves of a product: each bit of the result depends on every bit of the arguments. */
static inline uint64_t
highway_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
highway_group_hash(const struct highway_classifier *c, const struct highway_class_group *group,
		   const uint64_t *words)
{
	uint64_t hash = c->secret;
	int i;

	for (i = 0; i < group->n_hashed; i++) {
		int w = group->used[i];

		hash = highway_mix(hash ^ (words[w] & group->mask.words[w]), c->multiplier);
	}
	/* Once more for the last word. */
	return highway_mix(hash, c->multiplier);
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
	uint64_t hash, bucket;
	uint32_t at, index;

	if (group->n_rules <= HIGHWAY_FEW_RULES) {
		for (index = 0; index < group->n_rules; index++, rule++) {
			if (highway_group_equal(group, words, rule))
				return rule;
		}
		return NULL;
	}
	hash = highway_group_hash(c, group, words);
	for (at = (uint32_t)hash & group->bucket_mask; (bucket = group->buckets[at]) != 0;
	     at = (at + 1) & group->bucket_mask) {
		if ((bucket ^ hash) >> 32 != 0)
			continue;
		rule = &c->rules[(uint32_t)bucket - 1];
		if (highway_group_equal(group, words, rule))
			return rule;
	}
	return NULL;
}

/** What the rules say that were found: this one, nothing, or that they disagree. */
static inline const struct highway_class_rule *
highway_verdict(const struct highway_class_rule *found, bool *conflict)
{
	if (found == NULL || likely(found->link < HIGHWAY_CLASS_UNLINKED))
		return found;
	*conflict = found->link == HIGHWAY_CLASS_CONFLICT;
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
	return highway_verdict(found, conflict);
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
	return highway_verdict(found, conflict);
}

#endif /* HIGHWAY_CLASS_H */
