/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * What the fuzzers have in common. DPDK's environment is not started: its memory comes from here,
 * piece by piece, so that the address sanitizer knows where each ends.
 */

#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_log.h>
#include <rte_malloc.h>

#include "fuzz.h"

#define ALIGNMENT 128
#define SCRIBBLED 2048 /* bytes at the beginning of ring data that scribbling reaches */

void
fuzz_fail(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

uint64_t
fuzz_near(struct fuzz_input *in, uint64_t base)
{
	uint8_t how = fuzz_u8(in);

	if (how < 0xf0)
		return base + (uint64_t)(int64_t)(int8_t)(how - 0x78);
	if (how < 0xf4)
		return base + fuzz_u16(in);
	if (how < 0xfc)
		return base + ((uint64_t)fuzz_u8(in) << fuzz_u8(in) % 64);
	return fuzz_u64(in);
}

void *
fuzz_memory(size_t size)
{
	void *memory = NULL;

	if (posix_memalign(&memory, ALIGNMENT, size) != 0)
		abort();
	memset(memory, 0, size);
	return memory;
}

/* -------------------------------------------------------------------------------- for DPDK --- */

void *
rte_malloc(const char *type, size_t size, unsigned int align)
{
	(void)type;
	(void)align;
	return fuzz_memory(size);
}

void *
rte_zmalloc(const char *type, size_t size, unsigned int align)
{
	return rte_malloc(type, size, align);
}

void *
rte_calloc(const char *type, size_t n, size_t size, unsigned int align)
{
	return rte_malloc(type, n * size, align);
}

void
rte_free(void *memory)
{
	free(memory);
}

uint64_t fuzz_tsc_hz = FUZZ_TSC_HZ;

uint64_t
rte_get_tsc_hz(void)
{
	return fuzz_tsc_hz;
}

/* The fuzzers' logs would be long. */
int
rte_log(uint32_t level, uint32_t type, const char *format, ...)
{
	(void)level;
	(void)type;
	(void)format;
	return 0;
}

/* ----------------------------------------------------------------------------------- rings --- */

void
fuzz_ring_clear(const struct highway_ring_mem *mem)
{
	memset(mem->ctl, 0, sizeof(*mem->ctl));
	memset(mem->desc, 0, ((size_t)mem->mask + 1) * sizeof(*mem->desc));
	memset(mem->data, 0, RTE_MIN(mem->data_len, (uint32_t)SCRIBBLED));
}

struct highway_buffers
fuzz_buffers(uint32_t n, uint32_t size)
{
	return (struct highway_buffers){
		.states = fuzz_memory(n),
		.data = fuzz_memory((size_t)n * size),
		.n = n,
		.size = size,
	};
}

/* A descriptor that is sound but for what the input says. */
static uint64_t
descriptor(struct fuzz_input *in, const struct highway_ring_mem *mem, uint64_t index)
{
	uint8_t how = fuzz_u8(in);
	uint32_t offset, length;
	uint8_t kind, stamp;

	if (how == 0xff)
		return fuzz_u64(in);
	offset = (how & 1) != 0 ? fuzz_u32(in) :
				  fuzz_u8(in) * (uint32_t)HIGHWAY_GRANULE % mem->data_len;
	if ((how & 2) != 0)
		length = fuzz_u16(in);
	else
		length = (how & 4) != 0 ? sizeof(struct highway_marker) : 60;
	if ((how & 0x24) == 0x24)
		length = sizeof(struct highway_sync);
	kind = (how & 8) != 0 ? fuzz_u8(in) : (how & 64) != 0 ? HIGHWAY_DESC_BUFFER :
							       HIGHWAY_DESC_PACKET;
	stamp = (how & 16) != 0 ? fuzz_u8(in) : highway_stamp(mem, index);
	return highway_desc_word(offset, length, kind, stamp);
}

void
fuzz_ring_scribble(struct fuzz_input *in, const struct highway_ring_mem *mem, uint64_t index)
{
	uint8_t how = fuzz_u8(in);
	uint32_t n;

	if (how >= 0xfe) {
		*(how == 0xff ? &mem->ctl->head : &mem->ctl->tail) = fuzz_near(in, index);
	} else if (how >= 0xe0) {
		n = fuzz_u8(in) % SCRIBBLED;
		fuzz_take(in, mem->data + n, how & 15);
	} else {
		/* The next one, or some more of them that are alike. */
		uint64_t word;

		index += how & 31;
		word = descriptor(in, mem, index);
		for (n = how >> 5; ; n--, index++) {
			mem->desc[index & mem->mask] = word;
			if (n == 0)
				break;
			word = (word & UINT64_MAX >> 8) |
			       (uint64_t)highway_stamp(mem, index + 1) << 56;
		}
	}
}
