/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * A ring of shared memory (highway_ring.h) against a model, driven by tests/unit/test_rings.py.
 *
 * The commands come on standard input, one per line; the answer is a line each:
 *   init SIZE DATA          a new ring; all of its memory is poisoned beyond its end
 *   put LENGTH SEED KIND    reserve, fill, commit: 1, or 0 if it is full, -1 if it is broken
 *   publish                 the producer's index
 *   get                     "LENGTH SUM KIND" of the next, "none", or "broken"
 *   release                 the consumer's index
 *   restart-producer        attach again: 0 or -EBADMSG
 *   restart-consumer        attach again: 0 or -EBADMSG
 *   head VALUE, tail VALUE  overwrite a shared index
 *   desc SLOT VALUE         overwrite a descriptor
 *   unstamp SLOT            take its stamp away
 *   sum LENGTH SEED         the checksum of what put writes
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "highway_ring.h"

static struct highway_producer producer;
static struct highway_consumer consumer;
static void *memory;

static uint32_t
checksum(const uint8_t *bytes, uint32_t length)
{
	uint32_t sum = 1, i;

	for (i = 0; i < length; i++)
		sum = sum * 31 + bytes[i];
	return sum;
}

static void
fill(uint8_t *bytes, uint32_t length, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < length; i++) {
		seed = seed * 1103515245 + 12345;
		bytes[i] = (uint8_t)(seed >> 16);
	}
}

/* Exactly as long as the ring is, so that the address sanitizer sees what goes beyond it. */
static int
init(uint32_t size, uint32_t data)
{
	size_t bytes = HIGHWAY_RING_DESC_OFFSET + (size_t)size * sizeof(struct highway_desc) + data;

	free(memory);
	memory = aligned_alloc(128, bytes);
	if (memory == NULL)
		return -1;
	memset(memory, 0, bytes);
	memset(&producer, 0, sizeof(producer));
	memset(&consumer, 0, sizeof(consumer));
	highway_ring_place(&producer.mem, memory, size, data);
	highway_ring_place(&consumer.mem, memory, size, data);
	return highway_producer_attach(&producer) | highway_consumer_attach(&consumer);
}

static int
put(uint32_t length, uint32_t seed, uint32_t kind)
{
	uint8_t *place = producer.broken ? NULL : highway_producer_reserve(&producer, length);

	if (place == NULL)
		return producer.broken ? -1 : 0;
	fill(place, length, seed);
	highway_producer_commit(&producer, length, kind);
	return 1;
}

/* As the driver does: every descriptor is checked before anything is read. */
static void
get(void)
{
	static uint8_t frame[HIGHWAY_MAX_FRAME];
	struct highway_desc desc;

	unsigned int look;

	for (look = 0; look < HIGHWAY_LOOKS && !consumer.broken; look++) {
		if (highway_consumer_ready(&consumer))
			break;
	}
	if (consumer.broken || look == HIGHWAY_LOOKS) {
		puts(consumer.broken ? "broken" : "none");
		return;
	}
	desc = highway_desc_read(&consumer.mem, consumer.tail);
	if (!highway_desc_valid(&consumer.mem, desc) || desc.length > sizeof(frame)) {
		consumer.broken = true;
		puts("broken");
		return;
	}
	memcpy(frame, consumer.mem.data + desc.offset, desc.length);
	consumer.tail++;
	printf("%u %u %u\n", desc.length, checksum(frame, desc.length), desc.kind);
}

static void
sum(uint32_t length, uint32_t seed)
{
	static uint8_t frame[HIGHWAY_MAX_FRAME];

	fill(frame, length, seed);
	printf("%u\n", checksum(frame, length));
}

static int
obey(const char *line)
{
	struct highway_ring *ring = memory;
	uint64_t value;
	uint32_t a, b, c;

	if (sscanf(line, "init %u %u", &a, &b) == 2)
		printf("%d\n", init(a, b));
	else if (sscanf(line, "put %u %u %u", &a, &b, &c) == 3)
		printf("%d\n", put(a, b, c));
	else if (sscanf(line, "sum %u %u", &a, &b) == 2)
		sum(a, b);
	else if (strcmp(line, "publish\n") == 0) {
		highway_producer_publish(&producer);
		printf("%" PRIu64 "\n", producer.head);
	} else if (strcmp(line, "get\n") == 0)
		get();
	else if (strcmp(line, "release\n") == 0) {
		highway_consumer_publish(&consumer);
		printf("%" PRIu64 "\n", consumer.tail);
	} else if (strcmp(line, "restart-producer\n") == 0)
		printf("%d\n", highway_producer_attach(&producer));
	else if (strcmp(line, "restart-consumer\n") == 0)
		printf("%d\n", highway_consumer_attach(&consumer));
	else if (sscanf(line, "head %" SCNu64, &value) == 1) {
		ring->head = value;
		puts("0");
	} else if (sscanf(line, "tail %" SCNu64, &value) == 1) {
		ring->tail = value;
		puts("0");
	} else if (sscanf(line, "desc %u %" SCNu64, &a, &value) == 2) {
		producer.mem.desc[a & producer.mem.mask] = value;
		puts("0");
	} else if (sscanf(line, "unstamp %u", &a) == 1) {
		producer.mem.desc[a & producer.mem.mask] &= UINT64_MAX >> 8;
		puts("0");
	} else
		return -1;
	return 0;
}

int
main(void)
{
	char line[128];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (obey(line) != 0) {
			fprintf(stderr, "not understood: %s", line);
			return 2;
		}
	}
	free(memory);
	return 0;
}
