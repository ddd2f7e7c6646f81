/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Frames: UDP over IPv4. Class i has the destination port 1000 + i, and for flows that match
 * several classes at once the source port (i % 100 + 1) * 256 + i % 10 + 1. All else is the same
 * in all of them.
 */

#include <string.h>

#include "gauge.h"
#include "udp.h"

#define FIRST_PORT 1000

union frame {
	struct udp_headers headers;
	uint8_t bytes[RTE_CACHE_LINE_SIZE];
};

static union frame frames[MAX_CLASSES] __rte_cache_aligned;
static unsigned int n_frames, turn;
static uint32_t frame_size;

void
frames_prepare(unsigned int n_classes, uint32_t size)
{
	unsigned int i;

	for (i = 0; i < n_classes; i++)
		udp_headers_fill(&frames[i].headers, size,
				 (uint16_t)((i % 100 + 1) << 8 | (i % 10 + 1)),
				 (uint16_t)(FIRST_PORT + i));
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
