/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * What the fuzzers share. The input is a list of small commands: some are what the driver does,
 * the others what a hostile peer does to the memory that it shares with it.
 */

#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <rte_mbuf.h>

#include "highway_ring.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Something that must hold whatever the peer writes. */
#define CHECK(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))

void fuzz_fail(const char *condition, const char *file, int line) __attribute__((noreturn));

/** What is left of the input; all zeros behind its end. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline void
fuzz_take(struct fuzz_input *in, void *to, size_t n)
{
	size_t some = n < in->left ? n : in->left;

	memset(to, 0, n);
	if (some == 0)
		return;
	memcpy(to, in->at, some);
	in->at += some;
	in->left -= some;
}

static inline uint8_t
fuzz_u8(struct fuzz_input *in)
{
	uint8_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

static inline uint16_t
fuzz_u16(struct fuzz_input *in)
{
	uint16_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

static inline uint32_t
fuzz_u32(struct fuzz_input *in)
{
	uint32_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

static inline uint64_t
fuzz_u64(struct fuzz_input *in)
{
	uint64_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

/** A number that is near another one, or any. */
uint64_t fuzz_near(struct fuzz_input *in, uint64_t base);

/** Memory that ends where it says, for the address sanitizer; never freed. */
void *fuzz_memory(size_t size);

/** How fast time passes, for the driver's time limits; a small number is fast. */
extern uint64_t fuzz_tsc_hz;
#define FUZZ_TSC_HZ 2000000000

/* ----------------------------------------------------------------------------------- rings --- */

/** What the sound part of a ring's memory takes before its data. */
#define FUZZ_RING_HEAD(size) \
	(HIGHWAY_RING_DESC_OFFSET + (size_t)(size) * sizeof(struct highway_desc))

/** Both indexes and the descriptors are 0, and so is the beginning of the data. */
void fuzz_ring_clear(const struct highway_ring_mem *mem);

/** A hostile peer writes an index, a descriptor, or some data. */
void fuzz_ring_scribble(struct fuzz_input *in, const struct highway_ring_mem *mem, uint64_t index);

/* ----------------------------------------------------------------------------------- mbufs --- */

/** A pool whose mbufs have buffers of exactly this size. */
struct rte_mempool *fuzz_pool(unsigned int n, uint16_t buf_len);

/** How many mbufs are in it. */
unsigned int fuzz_pool_count(const struct rte_mempool *pool);

/** Called at each allocation: between the driver's check of memory and its use. */
extern void (*fuzz_pool_hook)(void);

#define FUZZ_SEGMENTS 4

/**
 * A frame in segments of this length, which end where their buffers do; the last of FUZZ_SEGMENTS
 * has whatever is left.
 */
struct rte_mbuf *fuzz_frame(struct rte_mempool *pool, uint32_t length, uint32_t segment);

/** A received frame is what it says, and can be read. */
void fuzz_check_received(const struct rte_mbuf *mbuf, bool scatter);

#define FUZZ_HELD 16

/** The application keeps a frame; frees what it has kept. */
void fuzz_hold(struct rte_mbuf *mbuf);
void fuzz_release(void);

/** A pool of a link's buffers, in memory that ends where it says. */
struct highway_buffers fuzz_buffers(uint32_t n, uint32_t size);

#endif /* FUZZ_H */
