/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_ether.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_tcp.h>

#include "highway_class.h"

#define BE16(x) RTE_BE16(x)
#define VLAN_PRESENT 0x1000
#define FIRST_ETHER_TYPE 0x600 /* below: a length, and an LLC frame */
#define SCTP_HEADER_LEN 12
#define UDP_HEADER_LEN 8
#define ICMP_HEADER_LEN 8
/* OVS takes a packet for broken that is longer than its IP length by more than this. */
#define MAX_PADDING 255

/* ---------------------------------------------------------------------------------- building --- */

static uint32_t
key_hash(const struct highway_class_group *group, const uint64_t *words)
{
	uint32_t hash = 0;
	int i;

	for (i = 0; i < group->n_used; i++) {
		int w = group->used[i];

		hash = rte_hash_crc_8byte(words[w] & group->words[w], hash);
	}
	return hash;
}

static bool
key_equal(const struct highway_class_group *group, const uint64_t *words,
	  const struct highway_class_rule *rule)
{
	uint64_t differ = 0;
	int i;

	for (i = 0; i < group->n_used; i++) {
		int w = group->used[i];

		differ |= (words[w] & group->words[w]) ^ rule->words[w];
	}
	return differ == 0;
}

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
	group->mask = *mask;
	for (i = 0; i < HIGHWAY_KEY_WORDS; i++) {
		if (group->words[i] != 0)
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

static void
insert(struct highway_classifier *c, struct highway_class_group *group, uint32_t index)
{
	uint32_t at = key_hash(group, c->rules[index].words) & group->bucket_mask;

	while (group->buckets[at] != 0)
		at = (at + 1) & group->bucket_mask;
	group->buckets[at] = index + 1;
}

int
highway_classifier_build(struct highway_classifier *c, const struct highway_class_rule *rules,
			 const struct highway_key *masks, uint32_t n)
{
	struct highway_class_group *group;
	uint32_t i, size;

	memset(c, 0, sizeof(*c));
	if (n == 0)
		return 0;
	c->rules = rte_calloc("highway_rules", n, sizeof(*c->rules), RTE_CACHE_LINE_SIZE);
	c->groups = rte_calloc("highway_groups", n, sizeof(*c->groups), RTE_CACHE_LINE_SIZE);
	if (c->rules == NULL || c->groups == NULL)
		goto no_memory;
	memcpy(c->rules, rules, n * sizeof(*rules));
	c->n_rules = n;
	for (i = 0; i < n; i++) {
		group_of(c, &masks[i])->n_rules++;
		c->depth = RTE_MAX(c->depth, mask_depth(&masks[i]));
	}
	for (i = 0; i < c->n_groups; i++) {
		group = &c->groups[i];
		size = rte_align32pow2(RTE_MAX(group->n_rules * 2, 4U));
		group->bucket_mask = size - 1;
		group->buckets = rte_calloc("highway_buckets", size, sizeof(uint32_t),
					    RTE_CACHE_LINE_SIZE);
		if (group->buckets == NULL)
			goto no_memory;
	}
	for (i = 0; i < n; i++)
		insert(c, group_of(c, &masks[i]), i);
	return 0;

no_memory:
	highway_classifier_free(c);
	return -ENOMEM;
}

void
highway_classifier_free(struct highway_classifier *c)
{
	uint32_t i;

	for (i = 0; i < c->n_groups; i++)
		rte_free(c->groups[i].buckets);
	rte_free(c->groups);
	rte_free(c->rules);
	memset(c, 0, sizeof(*c));
}

/* ----------------------------------------------------------------------------------- parsing --- */

static bool
is_vlan_tpid(uint16_t type)
{
	return type == BE16(RTE_ETHER_TYPE_VLAN) || type == BE16(RTE_ETHER_TYPE_QINQ);
}

/* Layer 4 of `size` bytes at `l4`, bounded by the IP length and not by the frame. */
static bool
extract_l4(const uint8_t *l4, uint32_t size, struct highway_key *key)
{
	const struct rte_tcp_hdr *tcp = (const void *)l4;
	uint32_t least, offset;

	switch (key->ip_proto) {
	case IPPROTO_TCP:
		if (size < sizeof(*tcp))
			return false;
		offset = (uint32_t)(tcp->data_off >> 4) * 4;
		if (offset < sizeof(*tcp) || offset > size)
			return false;
		key->tcp_flags = *(const unaligned_uint16_t *)&tcp->data_off & BE16(0x0fff);
		least = sizeof(*tcp);
		break;
	case IPPROTO_UDP:
		least = UDP_HEADER_LEN;
		break;
	case IPPROTO_SCTP:
		least = SCTP_HEADER_LEN;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (size < ICMP_HEADER_LEN)
			return false;
		/* OVS keeps type and code as if they were ports. */
		key->l4_src = rte_cpu_to_be_16(l4[0]);
		key->l4_dst = rte_cpu_to_be_16(l4[1]);
		return true;
	default:
		return true;
	}
	if (size < least)
		return false;
	memcpy(&key->l4_src, l4, 2);
	memcpy(&key->l4_dst, l4 + 2, 2);
	return true;
}

static bool
extract_ipv4(const uint8_t *l3, uint32_t size, uint32_t readable, enum highway_class_depth depth,
	     struct highway_key *key)
{
	const struct rte_ipv4_hdr *ip = (const void *)l3;
	uint32_t header_len, total_len;

	if (size < sizeof(*ip) || readable < sizeof(*ip) || (ip->version_ihl >> 4) != 4)
		return false;
	header_len = (ip->version_ihl & 0xf) * 4U;
	total_len = rte_be_to_cpu_16(ip->total_length);
	if (header_len < sizeof(*ip) || header_len > total_len || total_len > size ||
	    size - total_len > MAX_PADDING)
		return false;
	/* One datagram's fragments fall into two classes: all of them take the normal way. */
	if ((ip->fragment_offset & BE16(0x3fff)) != 0)
		return false;
	key->ip_proto = ip->next_proto_id;
	key->ip_tos = ip->type_of_service;
	key->ip_ttl = ip->time_to_live;
	memcpy(key->ip_src, &ip->src_addr, 4);
	memcpy(key->ip_dst, &ip->dst_addr, 4);
	if (depth < HIGHWAY_DEPTH_L4)
		return true;
	if (readable < header_len + sizeof(struct rte_tcp_hdr) && readable < size)
		return false;
	return extract_l4(l3 + header_len, total_len - header_len, key);
}

static bool
extract_ipv6(const uint8_t *l3, uint32_t size, uint32_t readable, enum highway_class_depth depth,
	     struct highway_key *key)
{
	const struct rte_ipv6_hdr *ip = (const void *)l3;
	uint32_t payload_len;

	if (size < sizeof(*ip) || readable < sizeof(*ip) || (l3[0] >> 4) != 6)
		return false;
	size -= sizeof(*ip);
	payload_len = rte_be_to_cpu_16(ip->payload_len);
	if (payload_len > size || size - payload_len > MAX_PADDING)
		return false;
	switch (ip->proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_ESP:
	case IPPROTO_AH:
	case IPPROTO_NONE:
	case IPPROTO_DSTOPTS:
	case 135: /* mobility */
	case 139: /* host identity */
	case 140: /* shim6 */
		return false;
	}
	key->ip_proto = ip->proto;
	key->ip_tos = (uint8_t)(rte_be_to_cpu_32(ip->vtc_flow) >> 20);
	key->ip_ttl = ip->hop_limits;
	memcpy(key->ip_src, &l3[8], 16);
	memcpy(key->ip_dst, &l3[24], 16);
	if (depth < HIGHWAY_DEPTH_L4)
		return true;
	if (readable < sizeof(*ip) + sizeof(struct rte_tcp_hdr) && readable < size + sizeof(*ip))
		return false;
	return extract_l4(l3 + sizeof(*ip), payload_len, key);
}

bool
highway_key_extract(const struct rte_mbuf *mbuf, enum highway_class_depth depth,
		    struct highway_key *key)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const struct rte_ether_hdr *eth = (const void *)frame;
	uint32_t readable = mbuf->data_len, size = mbuf->pkt_len, l3 = sizeof(*eth);
	uint16_t type;

	memset(key, 0, sizeof(*key));
	if (readable < sizeof(*eth))
		return false;
	memcpy(key->eth_dst, frame, 12); /* both addresses */
	type = eth->ether_type;
	if (unlikely(is_vlan_tpid(type))) {
		uint16_t tci;

		if (readable < l3 + 4)
			return false;
		memcpy(&tci, frame + 14, 2);
		key->vlan_tci = tci | BE16(VLAN_PRESENT);
		key->vlan_tpid = type;
		memcpy(&type, frame + 16, 2);
		l3 += 4;
		if (is_vlan_tpid(type))
			return false;
	}
	if (rte_be_to_cpu_16(type) < FIRST_ETHER_TYPE)
		return false;
	key->eth_type = type;
	if (depth == HIGHWAY_DEPTH_L2)
		return true;
	if (type == BE16(RTE_ETHER_TYPE_IPV4))
		return extract_ipv4(frame + l3, size - l3, readable - l3, depth, key);
	if (type == BE16(RTE_ETHER_TYPE_IPV6))
		return extract_ipv6(frame + l3, size - l3, readable - l3, depth, key);
	return true;
}

/* ----------------------------------------------------------------------------------- lookup --- */

const struct highway_class_rule *
highway_classify(const struct highway_classifier *c, const struct highway_key *key)
{
	const uint64_t *words = (const uint64_t *)key;
	const struct highway_class_rule *found = NULL;
	uint32_t i, at, index;

	for (i = 0; i < c->n_groups; i++) {
		const struct highway_class_group *group = &c->groups[i];

		at = key_hash(group, words) & group->bucket_mask;
		while ((index = group->buckets[at]) != 0) {
			const struct highway_class_rule *rule = &c->rules[index - 1];

			if (key_equal(group, words, rule)) {
				if (found != NULL && found->link != rule->link)
					return NULL;
				found = rule;
			}
			at = (at + 1) & group->bucket_mask;
		}
	}
	return found;
}
