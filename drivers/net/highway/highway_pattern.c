/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From an rte_flow pattern, as OVS writes it (parse_flow_match() in OVS's
 * lib/netdev-offload-dpdk.c), to key and mask.
 */

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ip.h>

#include "highway_pattern.h"

#define VLAN_PRESENT RTE_BE16(0x1000)
#define FRAG_ANY 1
#define FRAG_LATER 2
#define IPV4_FRAG_BITS RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK | RTE_IPV4_HDR_MF_FLAG)

/** How far the items have come; each stands for a layer behind the one before it. */
enum stage {
	STAGE_NONE,
	STAGE_ETH,
	STAGE_VLAN,
	STAGE_IP,
	STAGE_IP_FRAG,
	STAGE_L4
};

/* What has been read so far. */
struct reading {
	struct highway_key *key;
	struct highway_key *mask;
	enum stage stage;
	bool has_vlan_item;
	bool usable;	/**< false: understood, but such packets never take the bypass */
};

static void
copy_masked(void *key_field, void *mask_field, const void *spec, const void *mask, size_t len)
{
	uint8_t *k = key_field, *m = mask_field;
	const uint8_t *s = spec, *b = mask;
	size_t i;

	for (i = 0; i < len; i++) {
		m[i] = b[i];
		k[i] = s[i] & b[i];
	}
}

#define COPY(field, spec_field) \
	copy_masked(&r->key->field, &r->mask->field, &spec->spec_field, &mask->spec_field, \
		    sizeof(r->key->field))

/**
 * Does the item have what it needs, and is it about nothing else than `known`?
 *
 * A bit that the pattern asks for and the classifier does not look at would make it match more
 * than it says.
 */
static bool
is_known(const struct rte_flow_item *item, const void *known, size_t size)
{
	const uint8_t *m = item->mask, *k = known;
	size_t i;

	if (item->spec == NULL || item->mask == NULL)
		return false;
	for (i = 0; i < size; i++) {
		if ((m[i] & ~k[i]) != 0)
			return false;
	}
	return true;
}

static bool
advance(struct reading *r, enum stage from, enum stage to)
{
	if (r->stage < from || r->stage >= to)
		return false;
	r->stage = to;
	return true;
}

static int
read_eth(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_eth known = {
		.hdr.dst_addr.addr_bytes = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		.hdr.src_addr.addr_bytes = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		.hdr.ether_type = RTE_BE16(0xffff),
		.has_vlan = 1,
	};
	const struct rte_flow_item_eth *spec = item->spec, *mask = item->mask;

	if (!advance(r, STAGE_NONE, STAGE_ETH) || item->last != NULL ||
	    !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	COPY(eth_dst, hdr.dst_addr);
	COPY(eth_src, hdr.src_addr);
	COPY(eth_type, hdr.ether_type);
	if (mask->has_vlan) {
		r->mask->vlan_tci = VLAN_PRESENT;
		r->key->vlan_tci = spec->has_vlan ? VLAN_PRESENT : 0;
	}
	return 0;
}

/* Behind an ETH item whose type is then the tag's, and with the frame's own type inside. */
static int
read_vlan(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_vlan known = {
		.hdr.vlan_tci = RTE_BE16(0xefff),
		.hdr.eth_proto = RTE_BE16(0xffff),
	};
	const struct rte_flow_item_vlan *spec = item->spec, *mask = item->mask;

	if (!advance(r, STAGE_ETH, STAGE_VLAN) || item->last != NULL ||
	    !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	if (r->mask->vlan_tci != 0 && r->key->vlan_tci == 0)
		return -ENOTSUP;
	r->has_vlan_item = true;
	r->key->vlan_tpid = r->key->eth_type;
	r->mask->vlan_tpid = r->mask->eth_type;
	COPY(eth_type, hdr.eth_proto);
	/* The bit of the drop-eligible indicator says "there is a tag" in our keys. */
	r->mask->vlan_tci = mask->hdr.vlan_tci | VLAN_PRESENT;
	r->key->vlan_tci = (spec->hdr.vlan_tci & mask->hdr.vlan_tci) | VLAN_PRESENT;
	return 0;
}

/* An IP item is about frames of that type only, and says so in front of it. */
static bool
begin_ip(struct reading *r, rte_be16_t eth_type)
{
	return advance(r, STAGE_ETH, STAGE_IP) && r->key->eth_type == eth_type &&
	       r->mask->eth_type == RTE_BE16(0xffff);
}

static int
read_ipv4(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_ipv4 known = {
		.hdr.type_of_service = 0xff,
		.hdr.fragment_offset = IPV4_FRAG_BITS,
		.hdr.time_to_live = 0xff,
		.hdr.next_proto_id = 0xff,
		.hdr.src_addr = RTE_BE32(0xffffffff),
		.hdr.dst_addr = RTE_BE32(0xffffffff),
	};
	const struct rte_flow_item_ipv4 *spec = item->spec, *mask = item->mask;
	uint16_t frag;

	if (!begin_ip(r, RTE_BE16(RTE_ETHER_TYPE_IPV4)) || !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	COPY(ip_tos, hdr.type_of_service);
	COPY(ip_ttl, hdr.time_to_live);
	COPY(ip_proto, hdr.next_proto_id);
	copy_masked(r->key->ip_src, r->mask->ip_src, &spec->hdr.src_addr, &mask->hdr.src_addr, 4);
	copy_masked(r->key->ip_dst, r->mask->ip_dst, &spec->hdr.dst_addr, &mask->hdr.dst_addr, 4);
	frag = mask->hdr.fragment_offset;
	if (item->last != NULL) {
		/* OVS's "a later fragment": the offset is 1 or more. */
		r->usable = false;
	} else if (frag != 0) {
		/* All of these bits are 0, or it is a fragment. */
		if (frag != IPV4_FRAG_BITS || (spec->hdr.fragment_offset & frag) != 0)
			r->usable = false;
	} else {
		return 0;
	}
	r->mask->ip_frag = FRAG_ANY | FRAG_LATER;
	r->key->ip_frag = r->usable ? 0 : FRAG_ANY;
	return 0;
}

static int
read_ipv6(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_ipv6 known = {
		.hdr.vtc_flow = RTE_BE32(RTE_IPV6_HDR_TC_MASK),
		.hdr.proto = 0xff,
		.hdr.hop_limits = 0xff,
		.hdr.src_addr = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		.hdr.dst_addr = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		.has_frag_ext = 1,
	};
	const struct rte_flow_item_ipv6 *spec = item->spec, *mask = item->mask;

	if (!begin_ip(r, RTE_BE16(RTE_ETHER_TYPE_IPV6)) || item->last != NULL ||
	    !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	COPY(ip_proto, hdr.proto);
	COPY(ip_ttl, hdr.hop_limits);
	copy_masked(r->key->ip_src, r->mask->ip_src, &spec->hdr.src_addr, &mask->hdr.src_addr, 16);
	copy_masked(r->key->ip_dst, r->mask->ip_dst, &spec->hdr.dst_addr, &mask->hdr.dst_addr, 16);
	r->mask->ip_tos = (uint8_t)(rte_be_to_cpu_32(mask->hdr.vtc_flow) >> RTE_IPV6_HDR_TC_SHIFT);
	r->key->ip_tos = r->mask->ip_tos &
			 (uint8_t)(rte_be_to_cpu_32(spec->hdr.vtc_flow) >> RTE_IPV6_HDR_TC_SHIFT);
	if (mask->has_frag_ext) {
		r->mask->ip_frag = FRAG_ANY | FRAG_LATER;
		r->key->ip_frag = spec->has_frag_ext ? FRAG_ANY : 0;
		r->usable = r->usable && !spec->has_frag_ext;
	}
	return 0;
}

/*
 * Ports mean something only where the protocol is given. A first IPv6 fragment has it in its
 * extension header instead, but is not used anyway.
 */
static bool
begin_l4(struct reading *r, const struct rte_flow_item *item, uint8_t proto)
{
	return advance(r, STAGE_IP, STAGE_L4) && item->last == NULL &&
	       (!r->usable || (r->key->ip_proto == proto && r->mask->ip_proto == 0xff));
}

static int
read_tcp(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_tcp known = {
		.hdr.src_port = RTE_BE16(0xffff),
		.hdr.dst_port = RTE_BE16(0xffff),
		.hdr.data_off = 0x0f,
		.hdr.tcp_flags = 0xff,
	};
	const struct rte_flow_item_tcp *spec = item->spec, *mask = item->mask;

	if (!begin_l4(r, item, IPPROTO_TCP) || !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	COPY(l4_src, hdr.src_port);
	COPY(l4_dst, hdr.dst_port);
	/* OVS puts the upper four of its twelve flag bits into data_off, unshifted. */
	r->mask->tcp_flags = rte_cpu_to_be_16((uint16_t)(mask->hdr.data_off << 8 |
							  mask->hdr.tcp_flags));
	r->key->tcp_flags = rte_cpu_to_be_16((uint16_t)(spec->hdr.data_off << 8 |
							 spec->hdr.tcp_flags)) &
			    r->mask->tcp_flags;
	return 0;
}

static int
read_udp(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_udp known = {
		.hdr.src_port = RTE_BE16(0xffff),
		.hdr.dst_port = RTE_BE16(0xffff),
	};
	const struct rte_flow_item_udp *spec = item->spec, *mask = item->mask;

	if (!begin_l4(r, item, IPPROTO_UDP) || !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	COPY(l4_src, hdr.src_port);
	COPY(l4_dst, hdr.dst_port);
	return 0;
}

static int
read_sctp(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_sctp known = {
		.hdr.src_port = RTE_BE16(0xffff),
		.hdr.dst_port = RTE_BE16(0xffff),
	};
	const struct rte_flow_item_sctp *spec = item->spec, *mask = item->mask;

	if (!begin_l4(r, item, IPPROTO_SCTP) || !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	COPY(l4_src, hdr.src_port);
	COPY(l4_dst, hdr.dst_port);
	return 0;
}

/* Type and code stand in the low bytes of the port fields, as in OVS. */
static void
set_icmp(struct reading *r, uint8_t type, uint8_t type_mask, uint8_t code, uint8_t code_mask)
{
	r->mask->l4_src = rte_cpu_to_be_16(type_mask);
	r->key->l4_src = rte_cpu_to_be_16(type & type_mask);
	r->mask->l4_dst = rte_cpu_to_be_16(code_mask);
	r->key->l4_dst = rte_cpu_to_be_16(code & code_mask);
}

/* Over IPv6 too: OVS goes by the protocol's number alone. */
static int
read_icmp(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_icmp known = {
		.hdr.icmp_type = 0xff,
		.hdr.icmp_code = 0xff,
	};
	const struct rte_flow_item_icmp *spec = item->spec, *mask = item->mask;

	if (!begin_l4(r, item, IPPROTO_ICMP) || !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	set_icmp(r, spec->hdr.icmp_type, mask->hdr.icmp_type, spec->hdr.icmp_code,
		 mask->hdr.icmp_code);
	return 0;
}

static int
read_icmp6(struct reading *r, const struct rte_flow_item *item)
{
	static const struct rte_flow_item_icmp6 known = { .type = 0xff, .code = 0xff };
	const struct rte_flow_item_icmp6 *spec = item->spec, *mask = item->mask;

	if (!begin_l4(r, item, IPPROTO_ICMPV6) || !is_known(item, &known, sizeof(known)))
		return -ENOTSUP;
	set_icmp(r, spec->type, mask->type, spec->code, mask->code);
	return 0;
}

static int
read_item(struct reading *r, const struct rte_flow_item *item)
{
	switch (item->type) {
	case RTE_FLOW_ITEM_TYPE_VOID:
		return 0;
	case RTE_FLOW_ITEM_TYPE_ETH:
		return read_eth(r, item);
	case RTE_FLOW_ITEM_TYPE_VLAN:
		return read_vlan(r, item);
	case RTE_FLOW_ITEM_TYPE_IPV4:
		return read_ipv4(r, item);
	case RTE_FLOW_ITEM_TYPE_IPV6:
		return read_ipv6(r, item);
	case RTE_FLOW_ITEM_TYPE_IPV6_FRAG_EXT:
		r->usable = false;
		return advance(r, STAGE_IP, STAGE_IP_FRAG) ? 0 : -ENOTSUP;
	case RTE_FLOW_ITEM_TYPE_TCP:
		return read_tcp(r, item);
	case RTE_FLOW_ITEM_TYPE_UDP:
		return read_udp(r, item);
	case RTE_FLOW_ITEM_TYPE_SCTP:
		return read_sctp(r, item);
	case RTE_FLOW_ITEM_TYPE_ICMP:
		return read_icmp(r, item);
	case RTE_FLOW_ITEM_TYPE_ICMP6:
		return read_icmp6(r, item);
	default:
		return -ENOTSUP;
	}
}

int
highway_pattern_parse(const struct rte_flow_item *items, struct highway_key *key,
		      struct highway_key *mask, bool *usable)
{
	struct reading r = { .key = key, .mask = mask, .usable = true };
	int ret;

	memset(key, 0, sizeof(*key));
	memset(mask, 0, sizeof(*mask));
	if (items == NULL)
		return -ENOTSUP;
	for (; items->type != RTE_FLOW_ITEM_TYPE_END; items++) {
		ret = read_item(&r, items);
		if (ret != 0)
			return ret;
	}
	if (r.stage == STAGE_NONE)
		return -ENOTSUP;
	/* Without a VLAN item nobody knows whether ETH's type is the tag's or the frame's. */
	if (key->vlan_tci != 0 && !r.has_vlan_item)
		return -ENOTSUP;
	*usable = r.usable;
	return 0;
}
