/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From a frame to its rule: extraction and classification together, the same at a sender and at a
 * receiver that checks.
 */

#ifndef HIGHWAY_LOOKUP_H
#define HIGHWAY_LOOKUP_H

#include "highway_class.h"
#include "highway_extract.h"

static __rte_noinline const struct highway_class_rule *
highway_lookup_deep(const struct highway_classifier *classifier, const struct rte_mbuf *mbuf,
		    bool *conflict)
{
	union highway_key_words key;

	if (!highway_extract(mbuf, classifier->depth, &key))
		return NULL;
	return highway_classify(classifier, &key, conflict);
}

/** The one rule for a frame; NULL if there is none, or if two of them disagree (*conflict). */
static inline const struct highway_class_rule *
highway_lookup(const struct highway_classifier *classifier, const struct rte_mbuf *mbuf,
	       bool *conflict)
{
	union highway_key_words key;
	uint64_t w1, w2;

	if (classifier->plain && likely(highway_extract_plain(mbuf, &w1, &w2)))
		return highway_classify_plain(classifier, w1, w2, conflict);
	if (classifier->depth == HIGHWAY_DEPTH_L4 && likely(highway_extract_usual(mbuf, key.words)))
		return highway_classify(classifier, &key, conflict);
	return highway_lookup_deep(classifier, mbuf, conflict);
}

#endif /* HIGHWAY_LOOKUP_H */
