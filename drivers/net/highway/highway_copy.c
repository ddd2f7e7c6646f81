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

/* Read a descriptor of a frame, and see where the frame lies. NULL: it cannot be. */
static inline const uint8_t *
place_of(const struct highway_consumer *ring, struct highway_loans *loans, struct highway_desc desc,
	 uint64_t index)
{
	const struct highway_loan *loan;

	if (unlikely(desc.length < RTE_ETHER_HDR_LEN || desc.length > HIGHWAY_MAX_FRAME))
		return NULL;
	if (likely(desc.kind == HIGHWAY_DESC_PACKET))
		return likely(highway_desc_valid(&ring->mem, desc)) ?
		       ring->mem.data + desc.offset : NULL;
	loan = highway_loan_of(loans, index, desc.length);
	return likely(loan != NULL) ?
	       highway_buffer(&loans->buffers, loan->number) + HIGHWAY_BUFFER_HEADROOM : NULL;
}

void
HIGHWAY_ISA(highway_take)(struct highway_consumer *ring, struct highway_loans *loans,
			  const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n,
			  struct highway_taken *done)
{
	const uint8_t *places[HIGHWAY_BURST];
	struct highway_desc desc[HIGHWAY_BURST];
	uint16_t run = 0, out = 0, i;

	*done = (struct highway_taken){ 0 };
	n = RTE_MIN(n, HIGHWAY_BURST);
	/* Whatever a sender writes, no buffer is lent twice: they come in turn. */
	if (unlikely(loans != NULL && n > loans->buffers.n))
		n = (uint16_t)loans->buffers.n;
	while (run < n && highway_consumer_peek(ring, run, &desc[run])) {
		if (unlikely(desc[run].kind != HIGHWAY_DESC_PACKET) &&
		    (loans == NULL || desc[run].kind != HIGHWAY_DESC_BUFFER))
			break;
		places[run] = place_of(ring, loans, desc[run], ring->tail + run);
		if (unlikely(places[run] == NULL)) {
			ring->broken = true;
			break;
		}
		rte_prefetch0(places[run]);
		run++;
	}
	if (run == 0)
		return;
	if (unlikely(rte_pktmbuf_alloc_bulk(mbufs->pool, pkts, run) != 0)) {
		done->no_mbuf = true;
		return;
	}
	for (i = 0; i < run; i++) {
		struct rte_mbuf *mbuf = pkts[i];
		uint32_t length = desc[i].length;

		mbuf->port = mbufs->port_id;
		mbuf->hash.fdir.hi = mbufs->tag;
		if (desc[i].kind == HIGHWAY_DESC_BUFFER && likely(mbufs->external)) {
			highway_loan_begin(highway_loan_at(loans, ring->tail + i), mbuf);
			mbuf->data_len = (uint16_t)length;
			mbuf->pkt_len = length;
			done->lent++;
		} else if (likely(length <= rte_pktmbuf_tailroom(mbuf))) {
			mbuf->data_len = (uint16_t)length;
			mbuf->pkt_len = length;
			rte_memcpy(rte_pktmbuf_mtod(mbuf, void *), places[i], length);
		} else if (!mbufs->scatter) {
			rte_pktmbuf_free(mbuf);
			done->too_long++;
			done->off_bytes += length;
			continue;
		} else if (!fill_chain(mbuf, mbufs->pool, places[i], length)) {
			done->no_mbuf = true;
			done->off_bytes += length;
			continue;
		}
		done->bytes += length;
		pkts[out++] = mbuf;
	}
	ring->tail += run;
	done->packets = out;
	done->off = run;
	done->off_bytes += done->bytes;
}
