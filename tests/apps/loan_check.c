/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Frames through a ring with buffers (highway_put.c, highway_copy.c, highway_loan.c), run by
 * tests/unit/test_loans.py: of any length, in bursts of any length, kept by the application for any
 * time, with ends that attach anew in between.
 *
 *   loan_check SEED STEPS SLOTS BUFFERS
 *
 * Prints "SENT RECEIVED LENT" and ends with 0 if every frame arrived once, in order, and stayed as
 * it was until it was freed.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_malloc.h>

#include "highway_copy.h"
#include "highway_put.h"

#define MBUFS 4095
#define BUFFER (HIGHWAY_BUFFER_HEADROOM + 1536)
#define LONGEST 4000
#define MOST_HELD 300

static struct rte_mempool *pool;
static struct highway_producer producer;
static struct highway_consumer consumer;
static struct highway_loans *loans;
static uint64_t sent, received, lent;
static struct {
	struct rte_mbuf *mbuf;
	uint64_t number;
} held[MOST_HELD];
static unsigned int n_held;

static void
fail(const char *what, uint64_t number)
{
	printf("%s: frame %" PRIu64 "\n", what, number);
	exit(1);
}

/* A frame's bytes follow from its number, its length too; by times the data ends with a frame. */
static uint32_t
length_of(uint64_t number)
{
	uint32_t hash = (uint32_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> 32);

	if ((number >> 10) % 2 == 0)
		return hash % 3 == 0 ? 1024 : 2048;
	return hash % 3 == 0 ? 60 + hash / 3 % 400 : 400 + hash / 3 % (LONGEST - 400);
}

static void
fill(uint8_t *bytes, uint64_t number, uint32_t length)
{
	uint32_t i;

	for (i = 0; i < length; i++)
		bytes[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static void
verify(const struct rte_mbuf *mbuf, uint64_t number)
{
	uint8_t expected[LONGEST], scratch[LONGEST];
	uint32_t length = length_of(number);

	if (mbuf->pkt_len != length)
		fail("another length", number);
	fill(expected, number, length);
	if (memcmp(rte_pktmbuf_read(mbuf, 0, length, scratch), expected, length) != 0)
		fail("other bytes", number);
}

static void
send(uint16_t n)
{
	struct rte_mbuf *pkts[HIGHWAY_BURST];
	uint16_t i, done;

	if (rte_pktmbuf_alloc_bulk(pool, pkts, n) != 0)
		return;
	for (i = 0; i < n; i++)
		fill((uint8_t *)rte_pktmbuf_append(pkts[i], (uint16_t)length_of(sent + i)), sent + i,
		     length_of(sent + i));
	done = highway_put_base(&producer, pkts, n);
	highway_producer_publish(&producer);
	if (producer.broken)
		fail("the producer broke", sent);
	sent += done;
	rte_pktmbuf_free_bulk(pkts, n);
}

static void
let_go(unsigned int i)
{
	verify(held[i].mbuf, held[i].number);
	rte_pktmbuf_free(held[i].mbuf);
	held[i] = held[--n_held];
}

static void
receive(uint16_t n, unsigned int keep_one_in, bool external)
{
	const struct highway_mbufs mbufs = { .pool = pool, .scatter = true, .external = external };
	struct rte_mbuf *pkts[HIGHWAY_BURST];
	struct highway_taken done;
	uint16_t i;

	highway_take_base(&consumer, loans, &mbufs, pkts, n, &done);
	if (consumer.broken)
		fail("the consumer broke", received);
	lent += done.lent;
	for (i = 0; i < done.packets; i++, received++) {
		verify(pkts[i], received);
		if (n_held == MOST_HELD || rand() % keep_one_in != 0) {
			rte_pktmbuf_free(pkts[i]);
			continue;
		}
		held[n_held].mbuf = pkts[i];
		held[n_held++].number = received;
	}
	if (rand() % 4 != 0)
		highway_consumer_publish(&consumer);
}

/* Exactly as long as it has to be, so that the address sanitizer sees what goes beyond it. */
static void
init(uint32_t slots, uint32_t n_buffers)
{
	size_t ring = HIGHWAY_RING_DESC_OFFSET + slots * sizeof(struct highway_desc) +
		      HIGHWAY_MIN_RING_DATA;
	struct highway_buffers buffers = {
		.states = calloc(1, n_buffers),
		.data = aligned_alloc(128, (size_t)n_buffers * BUFFER),
		.size = BUFFER,
		.n = n_buffers,
	};
	void *memory = aligned_alloc(128, ring);

	if (memory == NULL || buffers.states == NULL || buffers.data == NULL)
		rte_exit(2, "no memory\n");
	memset(memory, 0, ring);
	highway_ring_place(&producer.mem, memory, slots, HIGHWAY_MIN_RING_DATA);
	highway_ring_place(&consumer.mem, memory, slots, HIGHWAY_MIN_RING_DATA);
	producer.buffers = buffers;
	loans = highway_loans_make(&buffers);
	pool = rte_pktmbuf_pool_create("mbufs", MBUFS, 0, 0, LONGEST + RTE_PKTMBUF_HEADROOM, -1);
	if (loans == NULL || pool == NULL || highway_producer_attach(&producer) != 0 ||
	    highway_consumer_attach(&consumer) != 0)
		rte_exit(2, "cannot begin\n");
}

static void
step(void)
{
	/* By times the ring fills up, or the application keeps much. */
	unsigned int mood = (unsigned int)(sent >> 12) % 4;
	unsigned int what = (unsigned int)rand() % 100;
	uint16_t n = (uint16_t)(1 + rand() % HIGHWAY_BURST);

	if (what < (mood == 1 ? 70U : 40U))
		send(n);
	else if (what < 80)
		receive(n, mood == 2 ? 2 : 20, mood != 3 || what % 2 == 0);
	else if (what < 98) {
		for (; n_held != 0 && n > 40; n--)
			let_go((unsigned int)rand() % n_held);
	} else if (what == 98) {
		producer.stores = rand() % 2 == 0 ? HIGHWAY_STORES_CACHED : HIGHWAY_STORES_STREAMED;
		if (highway_producer_attach(&producer) != 0)
			fail("the producer could not attach again", sent);
	} else {
		highway_consumer_publish(&consumer);
		if (highway_consumer_attach(&consumer) != 0)
			fail("the consumer could not attach again", received);
	}
}

int
main(int argc, char **argv)
{
	char eal[][16] = { "loan_check", "--no-pci", "--no-huge", "--no-shconf", "-m", "64",
			   "--no-telemetry", "--log-level=3" };
	char *args[RTE_DIM(eal) + 1] = { NULL };
	unsigned long steps;
	size_t i;

	for (i = 0; i < RTE_DIM(eal); i++)
		args[i] = eal[i];
	if (argc != 5 || rte_eal_init(RTE_DIM(eal), args) < 0)
		return 2;
	srand((unsigned int)strtoul(argv[1], NULL, 10));
	init((uint32_t)strtoul(argv[3], NULL, 10), (uint32_t)strtoul(argv[4], NULL, 10));
	for (steps = strtoul(argv[2], NULL, 10); steps > 0; steps--)
		step();
	while (received != sent)
		receive(HIGHWAY_BURST, 1000, true);
	highway_consumer_publish(&consumer);
	if ((n_held != 0) != highway_loans_out(loans) && lent != 0 && n_held == 0)
		fail("a loan that nobody has", received);
	while (n_held != 0)
		let_go(0);
	if (highway_loans_out(loans) || rte_mempool_avail_count(pool) != MBUFS)
		fail("not all came back", received);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", sent, received, lent);
	return 0;
}
