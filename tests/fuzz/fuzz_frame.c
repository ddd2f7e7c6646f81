/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Parsing of any frame, in any segments. All ways to parse one say the same of it, and none looks
 * behind its end.
 */

#include <stdlib.h>

#include "fuzz.h"
#include "highway_extract.h"

#define LONGEST 256

static struct rte_mempool *whole, *pieces;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	whole = fuzz_pool(1, LONGEST);
	pieces = fuzz_pool(FUZZ_SEGMENTS, LONGEST);
	return 0;
}

static void
fill(struct rte_mbuf *mbuf, const uint8_t *from)
{
	for (; mbuf != NULL; mbuf = mbuf->next) {
		memcpy(rte_pktmbuf_mtod(mbuf, void *), from, mbuf->data_len);
		from += mbuf->data_len;
	}
}

/* The short cuts say what the long way says, if anything. */
static void
check_short_cuts(const struct rte_mbuf *mbuf)
{
	union highway_key_words key, usual;
	uint64_t w1, w2;
	bool found;

	if (highway_extract_plain(mbuf, &w1, &w2)) {
		found = highway_extract(mbuf, HIGHWAY_DEPTH_L3, &key);
		CHECK(found && key.words[1] == w1 && key.words[2] == w2);
	}
	if (highway_extract_usual(mbuf, usual.words)) {
		found = highway_extract(mbuf, HIGHWAY_DEPTH_L4, &key);
		CHECK(found && memcmp(&key, &usual, sizeof(key)) == 0);
	}
}

/* The only rule there is, for all of IPv4. */
static void
check_alone(const struct rte_mbuf *mbuf)
{
	static const struct highway_classifier ipv4 = {
		.alone_mask = { HIGHWAY_A_TYPE, HIGHWAY_B_FRAGMENT },
		.alone_value = { HIGHWAY_A_IPV4, 0 },
	};
	union highway_key_words key;

	if (!highway_alone_match(&ipv4, mbuf))
		return;
	CHECK(highway_extract(mbuf, HIGHWAY_DEPTH_L3, &key));
	CHECK(key.key.eth_type == RTE_BE16(RTE_ETHER_TYPE_IPV4) && key.key.vlan_tci == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	union highway_key_words key, other;
	enum highway_class_depth depth;
	struct rte_mbuf *one, *many;
	uint32_t segment;
	bool found;

	if (size < RTE_ETHER_HDR_LEN + 2 || size > LONGEST + 2)
		return 0;
	segment = 1 + data[0] % 80;
	depth = data[1] % (HIGHWAY_DEPTH_L4 + 1);
	data += 2;
	size -= 2;
	one = fuzz_frame(whole, (uint32_t)size, LONGEST);
	many = fuzz_frame(pieces, (uint32_t)size, segment);
	fill(one, data);
	fill(many, data);
	memset(&key, 0, sizeof(key));
	memset(&other, 0, sizeof(other));
	found = highway_extract(one, depth, &key);
	CHECK(highway_extract(many, depth, &other) == found);
	CHECK(!found || memcmp(&key, &other, sizeof(key)) == 0);
	check_short_cuts(one);
	check_short_cuts(many);
	check_alone(one);
	check_alone(many);
	rte_pktmbuf_free(one);
	rte_pktmbuf_free(many);
	return 0;
}
