/* SPDX-License-Identifier: Apache-2.0 */

/** @file Headers of UDP over IPv4, as those programs make them that look at no more than these. */

#ifndef UDP_H
#define UDP_H

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

struct udp_headers {
	struct rte_ether_hdr ether;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
};

/** Make the headers of a frame of `size` bytes, without check sequence; ports as numbers. */
static inline void
udp_headers_fill(struct udp_headers *h, uint32_t size, uint16_t src_port, uint16_t dst_port)
{
	uint16_t ip_length = (uint16_t)(size - sizeof(h->ether));

	*h = (struct udp_headers){
		.ether = {
			.dst_addr = { { 0x02, 0, 0, 0, 0, 0x02 } },
			.src_addr = { { 0x02, 0, 0, 0, 0, 0x01 } },
			.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4),
		},
		.ip = {
			.version_ihl = RTE_IPV4_VHL_DEF,
			.total_length = rte_cpu_to_be_16(ip_length),
			.time_to_live = 64,
			.next_proto_id = IPPROTO_UDP,
			.src_addr = rte_cpu_to_be_32(RTE_IPV4(198, 18, 0, 1)),
			.dst_addr = rte_cpu_to_be_32(RTE_IPV4(198, 18, 0, 2)),
		},
		.udp = {
			.src_port = rte_cpu_to_be_16(src_port),
			.dst_port = rte_cpu_to_be_16(dst_port),
			.dgram_len = rte_cpu_to_be_16((uint16_t)(ip_length - sizeof(h->ip))),
		},
	};
	h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
}

#endif /* UDP_H */
