/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From a frame to its key. What this says must equal OVS's own verdict (miniflow_extract() in
 * OVS's lib/flow.c): a frame that cannot be parsed for certain has no key and takes the normal
 * way.
 *
 * The key is put together in registers and stored as whole words: stores of single fields that are
 * read back as words would stall the processor at each packet.
 */

#ifndef HIGHWAY_EXTRACT_H
#define HIGHWAY_EXTRACT_H

#include <netinet/in.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "highway_class.h"

#if RTE_BYTE_ORDER != RTE_LITTLE_ENDIAN
#error "keys are put together for little-endian machines"
#endif

/* Where the fields of struct highway_key stand in its words, in bits. */
#define HIGHWAY_W1_TCI 48
#define HIGHWAY_W2_PROTO 16
#define HIGHWAY_W2_TOS 24
#define HIGHWAY_W2_TTL 32
#define HIGHWAY_W2_TCP_FLAGS 48
#define HIGHWAY_W1_UNTAGGED UINT64_C(0x0000ffffffffffff)

/* Fields of IPv4 without a tag in two words of the frame, the ones at 8 and at 16. */
#define HIGHWAY_A_TYPE UINT64_C(0x00ffffff00000000) /* Ethernet type, version and header length */
#define HIGHWAY_A_IPV4 UINT64_C(0x0045000800000000)
#define HIGHWAY_A_TOS 56
#define HIGHWAY_B_FRAGMENT UINT64_C(0x0000ff3f00000000)
#define HIGHWAY_B_TTL 48
#define HIGHWAY_B_PROTO 56

#define HIGHWAY_VLAN_PRESENT RTE_BE16(0x1000)
#define HIGHWAY_FIRST_ETHER_TYPE 0x600	/* below: a length, and an LLC frame */
#define HIGHWAY_ETH_LEN 14
#define HIGHWAY_TAG_LEN 4
#define HIGHWAY_IPV4_LEN 20
#define HIGHWAY_IPV6_LEN 40
#define HIGHWAY_TCP_LEN 20
#define HIGHWAY_SCTP_LEN 12
#define HIGHWAY_UDP_LEN 8
#define HIGHWAY_ICMP_LEN 8
/* More than is ever looked at: Ethernet, a tag, IPv4 with all options, TCP without any. */
#define HIGHWAY_HEAD_LEN 128

static inline uint64_t
highway_load64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint32_t
highway_load32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint16_t
highway_load16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline bool
highway_is_tpid(uint16_t type)
{
	return type == RTE_BE16(RTE_ETHER_TYPE_VLAN) || type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* Layer 4 of `size` bytes, bounded by the IP length and not by the frame; adds to w2, w3. */
static inline bool
highway_extract_l4(const uint8_t *l4, uint32_t size, uint8_t proto, uint64_t *w2, uint64_t *w3)
{
	uint32_t header_len;

	switch (proto) {
	case IPPROTO_TCP:
		if (size < HIGHWAY_TCP_LEN)
			return false;
		header_len = (uint32_t)(l4[12] >> 4) * 4;
		if (header_len < HIGHWAY_TCP_LEN || header_len > size)
			return false;
		*w2 |= (uint64_t)(highway_load16(l4 + 12) & RTE_BE16(0x0fff)) <<
		       HIGHWAY_W2_TCP_FLAGS;
		break;
	case IPPROTO_UDP:
		if (size < HIGHWAY_UDP_LEN)
			return false;
		break;
	case IPPROTO_SCTP:
		if (size < HIGHWAY_SCTP_LEN)
			return false;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (size < HIGHWAY_ICMP_LEN)
			return false;
		/* OVS keeps type and code as if they were ports. */
		*w3 = (uint64_t)l4[0] << 8 | (uint64_t)l4[1] << 24;
		return true;
	default:
		return true;
	}
	*w3 = highway_load32(l4); /* both ports */
	return true;
}

static inline bool
highway_extract_ipv4(const uint8_t *l3, uint32_t size, enum highway_class_depth depth,
		     uint64_t *w)
{
	uint32_t header_len, total_len;
	uint64_t w2 = w[2], w3 = 0;

	if (unlikely(size < HIGHWAY_IPV4_LEN || (l3[0] >> 4) != 4))
		return false;
	header_len = (l3[0] & 0xf) * 4U;
	total_len = rte_be_to_cpu_16(highway_load16(l3 + 2));
	if (unlikely(header_len < HIGHWAY_IPV4_LEN || header_len > total_len || total_len > size))
		return false;
	/* One datagram's fragments fall into two classes: all of them take the normal way. */
	if (unlikely((highway_load16(l3 + 6) & RTE_BE16(0x3fff)) != 0))
		return false;
	w2 |= (uint64_t)l3[9] << HIGHWAY_W2_PROTO | (uint64_t)l3[1] << HIGHWAY_W2_TOS |
	      (uint64_t)l3[8] << HIGHWAY_W2_TTL;
	if (depth == HIGHWAY_DEPTH_L4 &&
	    unlikely(!highway_extract_l4(l3 + header_len, total_len - header_len, l3[9], &w2, &w3)))
		return false;
	w[2] = w2;
	w[3] = w3;
	w[4] = highway_load32(l3 + 12);
	w[5] = 0;
	w[6] = highway_load32(l3 + 16);
	w[7] = 0;
	return true;
}

static inline bool
highway_extract_ipv6(const uint8_t *l3, uint32_t size, enum highway_class_depth depth,
		     uint64_t *w)
{
	uint64_t w2 = w[2], w3 = 0;
	uint32_t payload_len;

	if (size < HIGHWAY_IPV6_LEN || (l3[0] >> 4) != 6)
		return false;
	payload_len = rte_be_to_cpu_16(highway_load16(l3 + 4));
	if (payload_len > size - HIGHWAY_IPV6_LEN)
		return false;
	/* What OVS looks behind; any other value is the protocol to it. */
	switch (l3[6]) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return false;
	}
	w2 |= (uint64_t)l3[6] << HIGHWAY_W2_PROTO |
	      (uint64_t)(uint8_t)(l3[0] << 4 | l3[1] >> 4) << HIGHWAY_W2_TOS |
	      (uint64_t)l3[7] << HIGHWAY_W2_TTL;
	if (depth == HIGHWAY_DEPTH_L4 &&
	    !highway_extract_l4(l3 + HIGHWAY_IPV6_LEN, payload_len, l3[6], &w2, &w3))
		return false;
	w[2] = w2;
	w[3] = w3;
	w[4] = highway_load64(l3 + 8);
	w[5] = highway_load64(l3 + 16);
	w[6] = highway_load64(l3 + 24);
	w[7] = highway_load64(l3 + 32);
	return true;
}

/**
 * Words 1 and 2 of the key of the most frequent kind of frame: IPv4 without tag, options and
 * fragmentation, down to layer 3.
 *
 * @return false if it is another kind, or cannot be parsed for certain
 */
static inline bool
highway_extract_plain(const struct rte_mbuf *mbuf, uint64_t *w1, uint64_t *w2)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const uint8_t *l3 = frame + HIGHWAY_ETH_LEN;
	uint32_t size = mbuf->pkt_len - HIGHWAY_ETH_LEN, total_len;

	if (unlikely(mbuf->data_len < HIGHWAY_ETH_LEN + HIGHWAY_IPV4_LEN))
		return false;
	*w1 = highway_load64(frame + 8) & HIGHWAY_W1_UNTAGGED;
	total_len = rte_be_to_cpu_16(highway_load16(l3 + 2));
	if (unlikely(*w1 >> 32 != RTE_BE16(RTE_ETHER_TYPE_IPV4) || l3[0] != 0x45 ||
		     total_len < HIGHWAY_IPV4_LEN || total_len > size ||
		     (highway_load16(l3 + 6) & RTE_BE16(0x3fff)) != 0))
		return false;
	*w2 = (uint64_t)l3[9] << HIGHWAY_W2_PROTO | (uint64_t)l3[1] << HIGHWAY_W2_TOS |
	      (uint64_t)l3[8] << HIGHWAY_W2_TTL;
	return true;
}

/**
 * All words of the key of an IPv4 frame without tag, options and fragmentation that carries UDP, or
 * TCP without options, to layer 4: the same as highway_extract(), without its branches.
 *
 * @return false if it is another kind, or cannot be parsed for certain
 */
static inline bool
highway_extract_usual(const struct rte_mbuf *mbuf, uint64_t *w)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const uint8_t *l4 = frame + HIGHWAY_ETH_LEN + HIGHWAY_IPV4_LEN;
	uint32_t size, total_len, l4_len;
	uint64_t a, b;

	if (unlikely(mbuf->data_len < HIGHWAY_ETH_LEN + HIGHWAY_IPV4_LEN + HIGHWAY_TCP_LEN))
		return false;
	size = mbuf->pkt_len - HIGHWAY_ETH_LEN;
	a = highway_load64(frame + 8);
	b = highway_load64(frame + 16);
	total_len = rte_be_to_cpu_16((uint16_t)b);
	l4_len = HIGHWAY_IPV4_LEN;
	w[2] = (b >> HIGHWAY_B_PROTO) << HIGHWAY_W2_PROTO | (a >> HIGHWAY_A_TOS) << HIGHWAY_W2_TOS |
	       (b >> HIGHWAY_B_TTL & 0xff) << HIGHWAY_W2_TTL;
	if (likely(b >> HIGHWAY_B_PROTO == IPPROTO_UDP)) {
		l4_len += HIGHWAY_UDP_LEN;
	} else if (b >> HIGHWAY_B_PROTO == IPPROTO_TCP && l4[12] >> 4 == HIGHWAY_TCP_LEN / 4) {
		l4_len += HIGHWAY_TCP_LEN;
		w[2] |= (uint64_t)(highway_load16(l4 + 12) & RTE_BE16(0x0fff)) <<
			HIGHWAY_W2_TCP_FLAGS;
	} else {
		return false;
	}
	w[0] = highway_load64(frame);
	w[1] = a & HIGHWAY_W1_UNTAGGED;
	w[3] = highway_load32(l4);
	w[4] = highway_load32(frame + HIGHWAY_ETH_LEN + 12);
	w[5] = 0;
	w[6] = highway_load32(frame + HIGHWAY_ETH_LEN + 16);
	w[7] = 0;
	return (((a & HIGHWAY_A_TYPE) ^ HIGHWAY_A_IPV4) | (b & HIGHWAY_B_FRAGMENT)) == 0 &&
	       total_len >= l4_len && total_len <= size;
}

/** Does a frame go by the classifier's only rule, for certain? */
static inline bool
highway_alone_match(const struct highway_classifier *c, const struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint32_t size = mbuf->pkt_len - HIGHWAY_ETH_LEN, total_len;
	uint64_t a, b;

	if (unlikely(mbuf->data_len < HIGHWAY_ETH_LEN + HIGHWAY_IPV4_LEN))
		return false;
	a = highway_load64(frame + 8);
	b = highway_load64(frame + 16);
	total_len = rte_be_to_cpu_16((uint16_t)b);
	return (((a & c->alone_mask[0]) ^ c->alone_value[0]) |
		((b & c->alone_mask[1]) ^ c->alone_value[1])) == 0 &&
	       total_len - HIGHWAY_IPV4_LEN <= size - HIGHWAY_IPV4_LEN;
}

/**
 * Parse a frame.
 *
 * @return false if it cannot be parsed for certain to this depth
 */
static inline bool
highway_extract(const struct rte_mbuf *mbuf, enum highway_class_depth depth,
		union highway_key_words *key)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint32_t size = mbuf->pkt_len, l3 = HIGHWAY_ETH_LEN;
	uint8_t head[HIGHWAY_HEAD_LEN];
	uint64_t *w = key->words, w1;
	uint16_t type;

	/* Where headers end in the middle of a chain must not decide on a frame's way. */
	if (unlikely(mbuf->data_len < RTE_MIN(size, sizeof(head)))) {
		frame = rte_pktmbuf_read(mbuf, 0, (uint32_t)RTE_MIN(size, sizeof(head)), head);
		if (frame == NULL)
			return false;
	}
	if (unlikely(size < HIGHWAY_ETH_LEN + HIGHWAY_TAG_LEN))
		return false;
	w1 = highway_load64(frame + 8) & HIGHWAY_W1_UNTAGGED;
	type = (uint16_t)(w1 >> 32);
	w[2] = 0;
	if (unlikely(highway_is_tpid(type))) {
		uint16_t tci = highway_load16(frame + 14) | HIGHWAY_VLAN_PRESENT;

		w[2] = type; /* the tag's */
		type = highway_load16(frame + 16);
		if (highway_is_tpid(type))
			return false;
		w1 = (w1 & 0xffffffff) | (uint64_t)type << 32 | (uint64_t)tci << HIGHWAY_W1_TCI;
		l3 += HIGHWAY_TAG_LEN;
	}
	if (unlikely(rte_be_to_cpu_16(type) < HIGHWAY_FIRST_ETHER_TYPE))
		return false;
	w[0] = highway_load64(frame);
	w[1] = w1;
	if (depth != HIGHWAY_DEPTH_L2) {
		if (likely(type == RTE_BE16(RTE_ETHER_TYPE_IPV4)))
			return highway_extract_ipv4(frame + l3, size - l3, depth, w);
		if (type == RTE_BE16(RTE_ETHER_TYPE_IPV6))
			return highway_extract_ipv6(frame + l3, size - l3, depth, w);
	}
	memset(&w[3], 0, 5 * sizeof(w[0]));
	return true;
}

#endif /* HIGHWAY_EXTRACT_H */
