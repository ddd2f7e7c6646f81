/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The driver's classifier as a shared object, driven by tests/unit/driver_classifier.py: patterns
 * are read, rules grouped and frames looked up by the driver's own sources, compiled with this
 * file. Only memory and random numbers come from here.
 */

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#include "highway_lookup.h"
#include "highway_pattern.h"

#define SEGMENT 16384
#define POISON 64	/* bytes behind each segment that nobody may look at */

/** What check_lookup() says. A rule is its index. */
enum check_verdict {
	CHECK_NONE = -1,	/**< no rule */
	CHECK_CONFLICT = -2,	/**< rules that disagree */
	CHECK_OVERRUN = -3,	/**< the verdict depends on bytes behind the frame */
	CHECK_WRONG_ALONE = -4	/**< highway_alone_match() disagrees */
};

static uint64_t random_state = 1;

/* The driver's are of the kernel; these are the same in each run. */
uint64_t
highway_random_id(void)
{
	uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void *
rte_zmalloc(const char *type __rte_unused, size_t size, unsigned int align)
{
	void *memory = aligned_alloc(align, RTE_ALIGN_CEIL(size, align));

	if (memory != NULL)
		memset(memory, 0, size);
	return memory;
}

void
rte_free(void *memory)
{
	free(memory);
}

/* -------------------------------------------------------------------------------- patterns --- */

static const struct {
	const char *name;
	enum rte_flow_item_type type;
	size_t size;
} item_types[] = {
	{ "end", RTE_FLOW_ITEM_TYPE_END, 0 },
	{ "void", RTE_FLOW_ITEM_TYPE_VOID, 0 },
	{ "any", RTE_FLOW_ITEM_TYPE_ANY, sizeof(struct rte_flow_item_any) },
	{ "eth", RTE_FLOW_ITEM_TYPE_ETH, sizeof(struct rte_flow_item_eth) },
	{ "vlan", RTE_FLOW_ITEM_TYPE_VLAN, sizeof(struct rte_flow_item_vlan) },
	{ "ipv4", RTE_FLOW_ITEM_TYPE_IPV4, sizeof(struct rte_flow_item_ipv4) },
	{ "ipv6", RTE_FLOW_ITEM_TYPE_IPV6, sizeof(struct rte_flow_item_ipv6) },
	{ "frag_ext", RTE_FLOW_ITEM_TYPE_IPV6_FRAG_EXT,
	  sizeof(struct rte_flow_item_ipv6_frag_ext) },
	{ "tcp", RTE_FLOW_ITEM_TYPE_TCP, sizeof(struct rte_flow_item_tcp) },
	{ "udp", RTE_FLOW_ITEM_TYPE_UDP, sizeof(struct rte_flow_item_udp) },
	{ "sctp", RTE_FLOW_ITEM_TYPE_SCTP, sizeof(struct rte_flow_item_sctp) },
	{ "icmp", RTE_FLOW_ITEM_TYPE_ICMP, sizeof(struct rte_flow_item_icmp) },
	{ "icmp6", RTE_FLOW_ITEM_TYPE_ICMP6, sizeof(struct rte_flow_item_icmp6) },
	{ "vxlan", RTE_FLOW_ITEM_TYPE_VXLAN, sizeof(struct rte_flow_item_vxlan) },
	{ "gre", RTE_FLOW_ITEM_TYPE_GRE, sizeof(struct rte_flow_item_gre) },
	{ "mpls", RTE_FLOW_ITEM_TYPE_MPLS, sizeof(struct rte_flow_item_mpls) },
};

/** Type of an item by its name, and the bytes of its spec; -1 if there is none. */
int
check_item(const char *name, size_t *size)
{
	size_t i;

	for (i = 0; i < RTE_DIM(item_types); i++) {
		if (strcmp(item_types[i].name, name) == 0) {
			*size = item_types[i].size;
			return (int)item_types[i].type;
		}
	}
	return -1;
}

/* ----------------------------------------------------------------------------------- rules --- */

/** A classifier of n rules; links[i] is what rule i says. NULL: no memory. */
struct highway_classifier *
check_build(const struct highway_key *keys, const struct highway_key *masks,
	    const uint32_t *links, uint32_t n, uint64_t seed)
{
	struct highway_classifier *classifier = calloc(1, sizeof(*classifier));
	struct highway_class_rule *rules = calloc(n + 1, sizeof(*rules));
	uint32_t i, w;
	int ret;

	random_state = seed;
	for (i = 0; i < n; i++) {
		union highway_key_words key = { .key = keys[i] }, mask = { .key = masks[i] };

		for (w = 0; w < HIGHWAY_KEY_WORDS; w++)
			rules[i].match.words[w] = key.words[w] & mask.words[w];
		rules[i].slot = i;
		rules[i].link = links[i];
		rules[i].max_frame = HIGHWAY_MAX_FRAME;
	}
	ret = highway_classifier_build(classifier, rules, masks, n);
	free(rules);
	if (ret == 0)
		return classifier;
	free(classifier);
	return NULL;
}

void
check_free(struct highway_classifier *classifier)
{
	highway_classifier_free(classifier);
	free(classifier);
}

uint32_t
check_groups(const struct highway_classifier *classifier)
{
	return classifier->n_groups;
}

int
check_depth(const struct highway_classifier *classifier)
{
	return (int)classifier->depth;
}

bool
check_plain(const struct highway_classifier *classifier)
{
	return classifier->plain;
}

/** The most buckets that a look-up can walk over in one group. */
uint32_t
check_longest_walk(const struct highway_classifier *classifier)
{
	uint32_t longest = 0, run, i, at;

	for (i = 0; i < classifier->n_groups; i++) {
		const struct highway_class_group *group = &classifier->groups[i];

		if (group->n_rules <= HIGHWAY_FEW_RULES) {
			longest = RTE_MAX(longest, group->n_rules);
			continue;
		}
		/* Twice round, for the run that goes over the end. */
		for (run = 0, at = 0; at < 2 * (group->bucket_mask + 1); at++) {
			run = group->buckets[at & group->bucket_mask] != 0 ? run + 1 : 0;
			longest = RTE_MAX(longest, run);
		}
	}
	return longest;
}

struct hashed {
	uint64_t hash;	/**< the half that an entry carries, and the bucket */
	uint32_t source;
};

static int
compare_hashed(const void *a, const void *b)
{
	const struct hashed *one = a, *other = b;

	return (one->hash > other->hash) - (one->hash < other->hash);
}

/** Two IPv4 sources whose keys begin at the same bucket with the same half of the hash. */
bool
check_twins(const struct highway_classifier *classifier, const struct highway_key *key,
	    uint32_t twins[2])
{
	const struct highway_class_group *group = &classifier->groups[0];
	union highway_key_words words = { .key = *key };
	const uint32_t n = 1 << 21;
	struct hashed *all = calloc(n, sizeof(*all));
	uint32_t i, source;
	bool found = false;

	for (i = 0; i < n; i++) {
		source = rte_cpu_to_be_32(i + 100);
		memcpy(words.key.ip_src, &source, sizeof(source));
		all[i].source = i + 100;
		all[i].hash = highway_group_hash(classifier, group, words.words) &
			      (UINT64_MAX << 32 | group->bucket_mask);
	}
	qsort(all, n, sizeof(*all), compare_hashed);
	for (i = 1; i < n && !found; i++) {
		found = all[i].hash == all[i - 1].hash;
		twins[0] = all[i - 1].source;
		twins[1] = all[i].source;
	}
	free(all);
	return found;
}

/* ---------------------------------------------------------------------------------- frames --- */

static struct rte_mbuf segments[2];
static uint8_t buffers[2][SEGMENT];

/* The frame as an mbuf whose first segment has `first` bytes; `poison` stands behind each. */
static const struct rte_mbuf *
make_mbuf(const uint8_t *frame, uint32_t size, uint32_t first, uint8_t poison)
{
	uint32_t sizes[2] = { first, size - first }, i;

	for (i = 0; i < 2; i++) {
		segments[i] = (struct rte_mbuf){
			.buf_addr = buffers[i],
			.data_len = (uint16_t)sizes[i],
			.pkt_len = i == 0 ? size : 0,
			.nb_segs = first < size ? 2 : 1,
			.next = i == 0 && first < size ? &segments[1] : NULL,
		};
		memcpy(buffers[i], frame + (i == 0 ? 0 : first), sizes[i]);
		memset(buffers[i] + sizes[i], poison, POISON);
	}
	return &segments[0];
}

static int
lookup(const struct highway_classifier *classifier, const struct rte_mbuf *mbuf)
{
	bool conflict = false;
	const struct highway_class_rule *rule = highway_lookup(classifier, mbuf, &conflict);
	uint64_t w1, w2;

	/* The short cut for an only rule agrees, on the frames that it is made for. */
	if (classifier->alone != NULL &&
	    highway_alone_match(classifier, mbuf) !=
	    (highway_extract_plain(mbuf, &w1, &w2) && rule == classifier->alone))
		return CHECK_WRONG_ALONE;
	if (rule != NULL)
		return (int)rule->slot;
	return conflict ? CHECK_CONFLICT : CHECK_NONE;
}

/** The rule for a frame whose first segment has `first` bytes: its index or enum check_verdict. */
int
check_lookup(const struct highway_classifier *classifier, const uint8_t *frame, uint32_t size,
	     uint32_t first)
{
	int verdict = lookup(classifier, make_mbuf(frame, size, first, 0x00));

	if (lookup(classifier, make_mbuf(frame, size, first, 0xff)) != verdict)
		return CHECK_OVERRUN;
	return verdict;
}

/** A frame's key at a depth; false if it cannot be parsed for certain. */
bool
check_extract(const uint8_t *frame, uint32_t size, uint32_t first, int depth,
	      struct highway_key *key)
{
	union highway_key_words words = { .words = { 0 } };

	if (!highway_extract(make_mbuf(frame, size, first, 0xff), (enum highway_class_depth)depth,
			     &words))
		return false;
	*key = words.key;
	return true;
}

/* ------------------------------------------------------------------------------------ cost --- */

static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/** Nanoseconds per look-up of `n` frames of `size` bytes each, one behind the other. */
double
check_cost(const struct highway_classifier *classifier, const uint8_t *frames, uint32_t size,
	   uint32_t n, uint32_t rounds)
{
	struct rte_mbuf *mbufs = calloc(n, sizeof(*mbufs));
	uint64_t found = 0;
	double start;
	uint32_t i, round;

	for (i = 0; i < n; i++) {
		mbufs[i] = (struct rte_mbuf){
			.buf_addr = (void *)(uintptr_t)(frames + (size_t)i * size),
			.data_len = (uint16_t)size,
			.pkt_len = size,
			.nb_segs = 1,
		};
	}
	start = now_ns();
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < n; i++) {
			bool conflict = false;

			found += highway_lookup(classifier, &mbufs[i], &conflict) != NULL;
		}
	}
	start = (now_ns() - start) / ((double)n * rounds);
	free(mbufs);
	return found == (uint64_t)n * rounds ? start : -1;
}

/** Nanoseconds to build and free a classifier. */
double
check_build_cost(const struct highway_key *keys, const struct highway_key *masks,
		 const uint32_t *links, uint32_t n)
{
	double start = now_ns();

	check_free(check_build(keys, masks, links, n, 1));
	return now_ns() - start;
}
