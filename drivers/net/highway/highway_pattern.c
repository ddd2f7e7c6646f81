/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * From an rte_flow pattern, as OVS writes it (parse_flow_match() in OVS's
 * lib/netdev-offload-dpdk.c), to key and mask.
 */

#include <errno.h>
#include <string.h>

#include <rte_flow.h>
#include <rte_ip.h>

#include "highway.h"

#define VLAN_PRESENT RTE_BE16(0x1000)
#define FRAG_ANY 1
#define FRAG_LATER 2

/* What has been read so far. */
struct reading {
	struct highway_key *key;
	struct highway_key *mask;
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

static int
read_eth(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_eth *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
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
	const struct rte_flow_item_vlan *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
		return -ENOTSUP;
	r->key->vlan_tpid = r->key->eth_type;
	r->mask->vlan_tpid = r->mask->eth_type;
	COPY(eth_type, inner_type);
	/* The bit of the drop-eligible indicator says "there is a tag" in our keys. */
	r->mask->vlan_tci = mask->tci | VLAN_PRESENT;
	r->key->vlan_tci = (spec->tci & mask->tci & ~VLAN_PRESENT) | VLAN_PRESENT;
	return 0;
}

static int
read_ipv4(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_ipv4 *spec = item->spec, *mask = item->mask;
	uint16_t frag;

	if (spec == NULL || mask == NULL)
		return -ENOTSUP;
	COPY(ip_tos, hdr.type_of_service);
	COPY(ip_ttl, hdr.time_to_live);
	COPY(ip_proto, hdr.next_proto_id);
	copy_masked(r->key->ip_src, r->mask->ip_src, &spec->hdr.src_addr, &mask->hdr.src_addr, 4);
	copy_masked(r->key->ip_dst, r->mask->ip_dst, &spec->hdr.dst_addr, &mask->hdr.dst_addr, 4);
	frag = mask->hdr.fragment_offset;
	if (frag == 0)
		return 0;
	r->mask->ip_frag = FRAG_ANY | FRAG_LATER;
	if (item->last != NULL) {
		/* Offsets 1 and more: a later fragment. */
		r->key->ip_frag = FRAG_ANY | FRAG_LATER;
		r->usable = false;
	} else if ((spec->hdr.fragment_offset & frag) != 0) {
		r->key->ip_frag = FRAG_ANY;
		r->usable = false;
	}
	return 0;
}

static int
read_ipv6(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_ipv6 *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
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

static int
read_tcp(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_tcp *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
		return -ENOTSUP;
	COPY(l4_src, hdr.src_port);
	COPY(l4_dst, hdr.dst_port);
	/* OVS puts the upper four of its twelve flag bits into data_off, unshifted. */
	r->mask->tcp_flags = rte_cpu_to_be_16((uint16_t)((mask->hdr.data_off << 8 |
							   mask->hdr.tcp_flags) & 0x0fff));
	r->key->tcp_flags = rte_cpu_to_be_16((uint16_t)((spec->hdr.data_off << 8 |
							  spec->hdr.tcp_flags) & 0x0fff)) &
			    r->mask->tcp_flags;
	return 0;
}

static int
read_udp(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_udp *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
		return -ENOTSUP;
	COPY(l4_src, hdr.src_port);
	COPY(l4_dst, hdr.dst_port);
	return 0;
}

static int
read_sctp(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_sctp *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
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

static int
read_icmp(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_icmp *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
		return -ENOTSUP;
	set_icmp(r, spec->hdr.icmp_type, mask->hdr.icmp_type, spec->hdr.icmp_code,
		 mask->hdr.icmp_code);
	return 0;
}

static int
read_icmp6(struct reading *r, const struct rte_flow_item *item)
{
	const struct rte_flow_item_icmp6 *spec = item->spec, *mask = item->mask;

	if (spec == NULL || mask == NULL || item->last != NULL)
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
		return 0;
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

/**
 * Read a pattern.
 *
 * @param[out] usable false if its packets never take the bypass (fragments)
 * @return 0; -ENOTSUP if it is not understood
 */
int
highway_pattern_parse(const struct rte_flow_item *items, struct highway_key *key,
		      struct highway_key *mask, bool *usable)
{
	struct reading r = { .key = key, .mask = mask, .usable = true };
	int ret;

	memset(key, 0, sizeof(*key));
	memset(mask, 0, sizeof(*mask));
	/* Without ETH nothing says which frames are meant. */
	if (items == NULL || items[0].type != RTE_FLOW_ITEM_TYPE_ETH)
		return -ENOTSUP;
	for (; items->type != RTE_FLOW_ITEM_TYPE_END; items++) {
		ret = read_item(&r, items);
		if (ret != 0)
			return ret;
	}
	*usable = r.usable;
	return 0;
}
