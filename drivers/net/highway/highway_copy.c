/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <rte_prefetch.h>

#include "highway_copy.h"

/* Fill a chain of mbufs. false if the pool ran dry; the head is then freed. */
static bool
fill_chain(struct rte_mbuf *head, struct rte_mempool *pool, const uint8_t *from, uint32_t length)
{
	struct rte_mbuf *last = head;
	uint32_t piece = rte_pktmbuf_tailroom(head);

	head->pkt_len = length;
	for (;;) {
		piece = RTE_MIN(piece, length);
		last->data_len = (uint16_t)piece;
		rte_memcpy(rte_pktmbuf_mtod(last, void *), from, piece);
		from += piece;
		length -= piece;
		if (length == 0)
			return true;
		last->next = rte_pktmbuf_alloc(pool);
		if (last->next == NULL) {
			rte_pktmbuf_free(head);
			return false;
		}
		last = last->next;
		last->data_off = 0;
		head->nb_segs++;
		piece = last->buf_len;
	}
}

void
HIGHWAY_ISA(highway_copy_in)(struct highway_consumer *ring, struct rte_mempool *pool,
			     uint16_t port_id, uint32_t tag, bool scatter,
			     struct rte_mbuf **pkts, uint16_t n, struct highway_copied *done)
{
	struct highway_desc desc[HIGHWAY_BURST];
	uint16_t run = 0, out = 0, i;

	*done = (struct highway_copied){ 0 };
	n = RTE_MIN(n, HIGHWAY_BURST);
	while (run < n && highway_consumer_peek(ring, run, &desc[run])) {
		if (unlikely(desc[run].kind != HIGHWAY_DESC_PACKET))
			break;
		if (unlikely(!highway_desc_valid(&ring->mem, desc[run]) ||
			     desc[run].length < RTE_ETHER_HDR_LEN ||
			     desc[run].length > HIGHWAY_MAX_FRAME)) {
			ring->broken = true;
			break;
		}
		rte_prefetch0(ring->mem.data + desc[run].offset);
		run++;
	}
	if (run == 0)
		return;
	if (unlikely(rte_pktmbuf_alloc_bulk(pool, pkts, run) != 0)) {
		done->no_mbuf = true;
		return;
	}
	for (i = 0; i < run; i++) {
		struct rte_mbuf *mbuf = pkts[i];
		const uint8_t *from = ring->mem.data + desc[i].offset;
		uint32_t length = desc[i].length;

		mbuf->port = port_id;
		mbuf->hash.fdir.hi = tag;
		if (likely(length <= rte_pktmbuf_tailroom(mbuf))) {
			mbuf->data_len = (uint16_t)length;
			mbuf->pkt_len = length;
			rte_memcpy(rte_pktmbuf_mtod(mbuf, void *), from, length);
		} else if (!scatter) {
			rte_pktmbuf_free(mbuf);
			done->too_long++;
			continue;
		} else if (!fill_chain(mbuf, pool, from, length)) {
			done->no_mbuf = true;
			continue;
		}
		done->bytes += length;
		pkts[out++] = mbuf;
	}
	ring->tail += run;
	done->packets = out;
}
