/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Frames: UDP over IPv4. Class i has the destination port 1000 + i, and for flows that match
 * several classes at once the source port (i % 100 + 1) * 256 + i % 10 + 1. All else is the same
 * in all of them.
 */

#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "gauge.h"

#define FIRST_PORT 1000

struct headers {
	struct rte_ether_hdr ether;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
};

union frame {
	struct headers headers;
	uint8_t bytes[RTE_CACHE_LINE_SIZE];
};

static union frame frames[MAX_CLASSES] __rte_cache_aligned;
static unsigned int n_frames, turn;
static uint32_t frame_size;

static void
prepare(struct headers *h, unsigned int class, uint32_t size)
{
	uint16_t ip_length = (uint16_t)(size - sizeof(h->ether));

	*h = (struct headers){
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
			.src_port = rte_cpu_to_be_16(
				(uint16_t)((class % 100 + 1) << 8 | (class % 10 + 1))),
			.dst_port = rte_cpu_to_be_16((uint16_t)(FIRST_PORT + class)),
			.dgram_len = rte_cpu_to_be_16((uint16_t)(ip_length - sizeof(h->ip))),
		},
	};
	h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
}

void
frames_prepare(unsigned int n_classes, uint32_t size)
{
	unsigned int i;

	for (i = 0; i < n_classes; i++)
		prepare(&frames[i].headers, i, size);
	n_frames = n_classes;
	frame_size = size;
	turn = 0;
}

void
frames_write(struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct rte_mbuf *mbuf = pkts[i];

		memcpy(rte_pktmbuf_mtod(mbuf, void *), &frames[turn], sizeof(frames[turn]));
		mbuf->data_len = (uint16_t)frame_size;
		mbuf->pkt_len = frame_size;
		turn = turn + 1 == n_frames ? 0 : turn + 1;
	}
}
