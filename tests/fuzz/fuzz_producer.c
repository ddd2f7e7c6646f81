/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The writing end of a ring whose consumer writes what it likes. As long as it is honest, all
 * that was put arrives.
 */

#include <stdlib.h>

#include "fuzz.h"
#include "highway_put.h"

#define SIZE HIGHWAY_MIN_RING_SIZE
#define DATA 16384
#define BURST 40
#define BUFFERS 16
#define BUFFER (HIGHWAY_BUFFER_HEADROOM + 1536)
#define FRAMES (2 * SIZE)

uint16_t highway_put_avx2(struct highway_producer *ring, struct rte_mbuf **pkts, uint16_t n);

static struct rte_mempool *pool, *received;
static struct highway_producer producer;
static struct highway_consumer consumer;
static struct highway_loans *loans;
static struct highway_buffers buffers;
static struct fuzz_input input;
static uint8_t *before;
static size_t ring_len;
static bool have_avx2, honest;

/* Of what the producer has put and the consumer has not seen: the lengths, 0 for a mark. */
static uint32_t lengths[FRAMES];
static uint64_t put_index, taken_index;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	void *memory;

	(void)argc;
	(void)argv;
	ring_len = FUZZ_RING_HEAD(SIZE) + DATA;
	memory = fuzz_memory(ring_len);
	before = fuzz_memory(ring_len);
	buffers = fuzz_buffers(BUFFERS, BUFFER);
	loans = highway_loans_make(&buffers);
	pool = fuzz_pool(4 * BURST, HIGHWAY_MAX_FRAME);
	received = fuzz_pool(HIGHWAY_BURST + FUZZ_HELD, RTE_PKTMBUF_HEADROOM + HIGHWAY_MAX_FRAME);
	highway_ring_place(&producer.mem, memory, SIZE, DATA);
	highway_ring_place(&consumer.mem, memory, SIZE, DATA);
	have_avx2 = __builtin_cpu_supports("avx2");
	return 0;
}

static void
check_producer(void)
{
	CHECK(producer.head - producer.published <= HIGHWAY_BATCH);
	CHECK(producer.head - producer.tail_seen <= SIZE);
	CHECK(producer.data_head <= DATA && producer.data_tail <= DATA);
	CHECK(((producer.data_head | producer.data_tail) & (HIGHWAY_GRANULE - 1)) == 0);
	CHECK(producer.mem.ctl->head == producer.published || !honest);
}

static void
note(uint32_t length)
{
	CHECK(put_index - taken_index < FRAMES || !honest);
	lengths[put_index++ % FRAMES] = length;
}

static void
put(uint8_t how)
{
	uint32_t length = 14 + fuzz_u16(&input) % (HIGHWAY_MAX_FRAME - 13);
	uint32_t segment = (how & 1) != 0 ? 1 + length / 2 : length, i;
	uint16_t n = 1 + fuzz_u8(&input) % BURST, done;
	struct rte_mbuf *pkts[BURST];
	bool broken = producer.broken;

	if ((how & 2) != 0)
		length = segment = 14 + length % 200;
	producer.stores = fuzz_u8(&input) % 4;
	producer.far = (how & 4) != 0;
	for (i = 0; i < n; i++) {
		pkts[i] = fuzz_frame(pool, length, segment);
		*rte_pktmbuf_mtod(pkts[i], uint8_t *) = (uint8_t)(put_index + i);
	}
	if (broken)
		memcpy(before, producer.mem.ctl, ring_len);
	done = (how & 8) != 0 && have_avx2 ? highway_put_avx2(&producer, pkts, n) :
					     highway_put_base(&producer, pkts, n);
	CHECK(done <= n);
	for (i = 0; i < done; i++)
		note(length);
	CHECK(!broken || (producer.broken && done == 0 &&
			  memcmp(before, producer.mem.ctl, ring_len) == 0));
	rte_pktmbuf_free_bulk(pkts, n);
}

static void
mark(void)
{
	struct highway_marker marker = { .value = put_index };
	bool broken = producer.broken;

	if (highway_producer_mark(&producer, HIGHWAY_DESC_FENCE, &marker, sizeof(marker))) {
		CHECK(!broken);
		note(0);
	}
}

static void
take_frames(uint16_t n)
{
	struct rte_mbuf *pkts[HIGHWAY_BURST];
	const struct highway_mbufs mbufs = { .pool = received, .external = true };
	struct highway_taken done;
	uint16_t i;

	highway_take_base(&consumer, loans, &mbufs, pkts, n, &done);
	CHECK(!consumer.broken && !done.no_mbuf && done.too_long == 0);
	for (i = 0; i < done.packets; i++) {
		CHECK(pkts[i]->pkt_len == lengths[taken_index % FRAMES]);
		CHECK(*rte_pktmbuf_mtod(pkts[i], uint8_t *) == (uint8_t)taken_index);
		taken_index++;
		fuzz_check_received(pkts[i], false);
		if (i < 2)
			fuzz_hold(pkts[i]);
		else
			rte_pktmbuf_free(pkts[i]);
	}
}

static void
take(void)
{
	uint8_t n = fuzz_u8(&input) % HIGHWAY_BURST;
	struct highway_marker marker;
	struct highway_desc desc;

	if (!honest)
		return;
	take_frames(n);
	if (highway_consumer_peek(&consumer, 0, &desc) && desc.kind == HIGHWAY_DESC_FENCE) {
		CHECK(highway_marker_read(&consumer, desc, &marker, sizeof(marker)));
		CHECK(marker.value == taken_index && lengths[taken_index % FRAMES] == 0);
		taken_index++;
		consumer.tail++;
	}
	highway_consumer_publish(&consumer);
	CHECK(taken_index <= put_index);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input = (struct fuzz_input){ .at = data, .left = size };
	fuzz_ring_clear(&producer.mem);
	memset(buffers.states, 0, BUFFERS);
	producer.buffers.size = 0;
	if (size % 2 != 0)
		producer.buffers = buffers;
	producer.in_a_row = 0;
	producer.untimed = 0;
	honest = true;
	put_index = taken_index = 0;
	CHECK(highway_producer_attach(&producer) == 0 && highway_consumer_attach(&consumer) == 0);
	while (input.left != 0) {
		uint8_t command = fuzz_u8(&input);
		bool broken = producer.broken;

		if (command < 0x30) {
			honest = false;
			buffers.states[command % BUFFERS] ^= command & 1;
			fuzz_ring_scribble(&input, &producer.mem, producer.tail_seen);
			continue;
		}
		if (command < 0x80)
			put(command);
		else if (command < 0xb0)
			take();
		else if (command < 0xd0)
			mark();
		else if (command < 0xe0)
			highway_producer_publish(&producer);
		else if (command < 0xe8)
			fuzz_release();
		else if (command < 0xf8)
			highway_producer_refresh(&producer);
		else {
			highway_producer_publish(&producer);
			CHECK(highway_producer_attach(&producer) == 0 || !honest);
			broken = false;
		}
		CHECK(!broken || producer.broken);
		CHECK(!honest || !producer.broken);
		check_producer();
	}
	fuzz_release();
	return 0;
}
