/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From a frame to the bypass rule that it matches. A classifier is built once, by the control
 * thread, and only read afterwards. What it says must equal OVS's own verdict (miniflow_extract()
 * in OVS's lib/flow.c): a frame that cannot be parsed for certain matches nothing.
 */

#ifndef HIGHWAY_CLASS_H
#define HIGHWAY_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "highway_shm.h"

#define HIGHWAY_KEY_WORDS 8 /* struct highway_key as 64-bit words */

/** A rule as a sender keeps it. */
struct highway_class_rule {
	union {
		struct highway_key key; /**< masked */
		uint64_t words[HIGHWAY_KEY_WORDS];
	};
	const uint64_t *live;	/**< the rule's word in shared memory; equals generation, or it is gone */
	uint64_t generation;
	uint64_t born;		/**< version of the first view that had the rule on this link */
	uint32_t slot;
	uint32_t max_frame;	/**< bytes */
	uint32_t link;		/**< link slot */
};

/** The rules of one mask. */
struct highway_class_group {
	union {
		struct highway_key mask;
		uint64_t words[HIGHWAY_KEY_WORDS];
	};
	uint32_t n_rules;
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
	struct highway_class_rule *rules;
	struct highway_class_group *groups;
};

/** Take over `n` rules (copied; their keys masked by `masks`) and group them. 0 or -ENOMEM. */
int highway_classifier_build(struct highway_classifier *classifier,
			     const struct highway_class_rule *rules,
			     const struct highway_key *masks, uint32_t n);
void highway_classifier_free(struct highway_classifier *classifier);

/**
 * Parse a frame.
 *
 * @return false if it cannot be parsed for certain to this depth.
 */
bool highway_key_extract(const struct rte_mbuf *mbuf, enum highway_class_depth depth,
			 struct highway_key *key);

/** The one rule for this key; NULL if there is none, or if two of them disagree. */
const struct highway_class_rule *
highway_classify(const struct highway_classifier *classifier, const struct highway_key *key);

#endif /* HIGHWAY_CLASS_H */
