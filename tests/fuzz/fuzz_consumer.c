/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The reading end of a ring whose producer writes what it likes, also while frames are copied out.
 */

#include "fuzz.h"
#include "highway_copy.h"

#define SIZE HIGHWAY_MIN_RING_SIZE
#define DATA 16384
#define BURST (HIGHWAY_BURST + 8)

#define BUFFERS 16 /* fewer than a burst can bring */
#define BUFFER (HIGHWAY_BUFFER_HEADROOM + 512)

void highway_take_avx2(struct highway_consumer *ring, struct highway_loans *loans,
		       const struct highway_mbufs *mbufs, struct rte_mbuf **pkts, uint16_t n,
		       struct highway_taken *done);

static struct rte_mempool *pool;
static struct highway_consumer consumer;
static struct highway_loans *loans;
static struct fuzz_input input;
static unsigned int n_mbufs;
static bool have_avx2;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct highway_buffers buffers = fuzz_buffers(BUFFERS, BUFFER);

	(void)argc;
	(void)argv;
	loans = highway_loans_make(&buffers);
	pool = fuzz_pool(2 * BURST + FUZZ_HELD, RTE_PKTMBUF_HEADROOM + 1024);
	n_mbufs = fuzz_pool_count(pool);
	highway_ring_place(&consumer.mem, fuzz_memory(FUZZ_RING_HEAD(SIZE) + DATA), SIZE, DATA);
	have_avx2 = __builtin_cpu_supports("avx2");
	return 0;
}

/* Between the check of the descriptors and the copies. */
static void
scribble(void)
{
	fuzz_ring_scribble(&input, &consumer.mem, consumer.tail);
}

/* No buffer is lent twice. */
static void
check_lent(struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t seen = 0;
	uint16_t i;

	for (i = 0; i < n; i++) {
		const struct highway_loan *loan;

		if (!RTE_MBUF_HAS_EXTBUF(pkts[i]))
			continue;
		loan = pkts[i]->shinfo->fcb_opaque;
		CHECK((seen >> loan->number & 1) == 0 && loan->out == 1);
		seen |= UINT64_C(1) << loan->number;
	}
}

static void
take(uint8_t how)
{
	const struct highway_mbufs mbufs = {
		.pool = pool, .scatter = (how & 1) != 0, .external = (how & 8) != 0,
	};
	struct highway_loans *lent = (how & 0x20) != 0 ? loans : NULL;
	struct rte_mbuf *pkts[BURST];
	uint64_t before = consumer.tail, bytes = 0;
	uint16_t n = fuzz_u8(&input) % BURST, i;
	struct highway_taken done;

	fuzz_pool_hook = (how & 2) != 0 ? scribble : NULL;
	if ((how & 4) != 0 && have_avx2)
		highway_take_avx2(&consumer, lent, &mbufs, pkts, n, &done);
	else
		highway_take_base(&consumer, lent, &mbufs, pkts, n, &done);
	fuzz_pool_hook = NULL;
	CHECK(done.packets + done.too_long <= RTE_MIN(n, HIGHWAY_BURST));
	CHECK(consumer.tail - before >= (uint64_t)(done.packets + done.too_long));
	CHECK(consumer.tail - before <= (uint64_t)RTE_MIN(n, HIGHWAY_BURST));
	CHECK(done.lent <= done.packets && (done.lent == 0 || (lent != NULL && mbufs.external)));
	check_lent(pkts, done.packets);
	for (i = 0; i < done.packets; i++) {
		bytes += pkts[i]->pkt_len;
		fuzz_check_received(pkts[i], mbufs.scatter);
		if (i < (how & 0x10) / 8)
			fuzz_hold(pkts[i]);
		else
			rte_pktmbuf_free(pkts[i]);
	}
	CHECK(bytes == done.bytes);
}

/* As the bursts do: what stands at the front and is no frame. */
static void
look(void)
{
	union {
		struct highway_marker marker;
		struct highway_sync sync;
	} body;
	struct highway_desc desc;
	bool wide = (fuzz_u8(&input) & 1) != 0;

	if (!highway_consumer_ready(&consumer))
		return;
	desc = highway_desc_read(&consumer.mem, consumer.tail);
	if (desc.kind == HIGHWAY_DESC_PACKET)
		return;
	if (highway_marker_read(&consumer, desc, &body,
				wide ? sizeof(body.sync) : sizeof(body.marker)))
		consumer.tail++;
	else
		consumer.broken = true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t command;

	input = (struct fuzz_input){ .at = data, .left = size };
	fuzz_ring_clear(&consumer.mem);
	if (highway_consumer_attach(&consumer) != 0)
		return 0;
	while (input.left != 0) {
		command = fuzz_u8(&input);
		/* The bursts do not touch a broken ring; its next life may. */
		if (command < 0x80)
			scribble();
		else if (command < 0x88)
			consumer.broken = highway_consumer_attach(&consumer) != 0;
		else if (command < 0x8c)
			highway_consumer_publish(&consumer);
		else if (command < 0x90)
			fuzz_release();
		else if (consumer.broken)
			break;
		else if (command < 0xb0)
			look();
		else
			take(command);
	}
	fuzz_release();
	CHECK(fuzz_pool_count(pool) == n_mbufs && !highway_loans_out(loans));
	return 0;
}
