/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The checks of a region's head. Whatever passes them lies inside of the region, part by part.
 */

#include "fuzz.h"
#include "highway_region.h"

#define LARGEST (UINT64_C(1) << 30) /* that is mapped at all */

typedef unsigned __int128 wide;

struct field {
	uint32_t offset, width;
};
#define FIELD(type, name) { offsetof(struct type, name), sizeof(((struct type *)0)->name) }

static const struct field port_fields[] = {
	FIELD(highway_port_region, header.magic),
	FIELD(highway_port_region, header.abi_version),
	FIELD(highway_port_region, header.abi_oldest),
	FIELD(highway_port_region, header.size),
	FIELD(highway_port_region, header.region_id),
	FIELD(highway_port_region, n_queues),
	FIELD(highway_port_region, n_rules),
	FIELD(highway_port_region, ring_size),
	FIELD(highway_port_region, ring_data),
	FIELD(highway_port_region, rules_offset),
	FIELD(highway_port_region, in_rules_offset),
	FIELD(highway_port_region, counters_offset),
	FIELD(highway_port_region, in_counters_offset),
	FIELD(highway_port_region, to_switch_offset),
	FIELD(highway_port_region, to_vnf_offset),
	FIELD(highway_port_region, ring_stride),
};
static const struct field link_fields[] = {
	FIELD(highway_link_region, header.magic),
	FIELD(highway_link_region, header.abi_version),
	FIELD(highway_link_region, header.abi_oldest),
	FIELD(highway_link_region, header.size),
	FIELD(highway_link_region, header.region_id),
	FIELD(highway_link_region, n_queues[0]),
	FIELD(highway_link_region, n_queues[1]),
	FIELD(highway_link_region, ring_size),
	FIELD(highway_link_region, ring_data),
	FIELD(highway_link_region, ring_offset[0]),
	FIELD(highway_link_region, ring_offset[1]),
	FIELD(highway_link_region, ring_stride),
	FIELD(highway_link_region, pools_offset[0]),
	FIELD(highway_link_region, pools_offset[1]),
	FIELD(highway_link_region, buffer_size[0]),
	FIELD(highway_link_region, buffer_size[1]),
	FIELD(highway_link_region, n_buffers[0]),
	FIELD(highway_link_region, n_buffers[1]),
};

static uint8_t *head; /* the checks need no more of a region */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	head = fuzz_memory(HIGHWAY_PORT_HEADER_LEN);
	return 0;
}

static void
inside(wide offset, wide length, wide size)
{
	CHECK(offset + length <= size);
}

/* All that the driver does with a ring's place. */
static void
check_ring(wide offset, uint32_t ring_size, uint32_t ring_data, wide size)
{
	struct highway_ring_mem mem;

	CHECK(offset % RTE_CACHE_LINE_SIZE == 0);
	inside(offset, FUZZ_RING_HEAD(ring_size) + (wide)ring_data, size);
	highway_ring_place(&mem, head, ring_size, ring_data);
	CHECK(mem.mask == ring_size - 1 && (ring_size & mem.mask) == 0);
	CHECK(UINT32_C(1) << mem.shift == ring_size && ring_size >= HIGHWAY_BATCH);
	CHECK(ring_data % HIGHWAY_GRANULE == 0 && ring_data >= HIGHWAY_MAX_FRAME);
}

static void
check_port(const struct highway_map *map)
{
	struct highway_geometry g;
	const char *why = NULL;
	uint32_t i;

	if (highway_port_region_check(map, &g, &why) != 0) {
		CHECK(why != NULL);
		return;
	}
	CHECK(g.size == map->size && g.n_queues >= 1 && g.n_queues <= HIGHWAY_MAX_QUEUES);
	CHECK(g.n_rules >= 1 && g.n_rules <= HIGHWAY_MAX_RULES);
	inside(g.rules_offset, (wide)g.n_rules * sizeof(struct highway_rule), g.size);
	inside(g.in_rules_offset, (wide)g.n_rules * sizeof(struct highway_rule), g.size);
	inside(g.counters_offset,
	       (wide)g.n_rules * g.n_queues * sizeof(struct highway_counter), g.size);
	inside(g.in_counters_offset,
	       (wide)g.n_rules * g.n_queues * sizeof(struct highway_counter), g.size);
	CHECK(((g.rules_offset | g.in_rules_offset | g.counters_offset |
		g.in_counters_offset) & 7) == 0);
	for (i = 0; i < g.n_queues; i++) {
		check_ring(g.to_switch_offset + (wide)i * g.ring_stride, g.ring_size, g.ring_data,
			   g.size);
		check_ring(g.to_vnf_offset + (wide)i * g.ring_stride, g.ring_size, g.ring_data,
			   g.size);
	}
}

/* A byte and memory for each buffer of each ring. */
static void
check_pools(const struct highway_link_geometry *g, uint32_t end, wide size)
{
	uint32_t n = g->n_buffers[end], i;
	uint64_t stride = highway_pool_stride(n, g->buffer_size[end]);
	uint64_t states = highway_pool_states(n);

	if (g->buffer_size[end] == 0)
		return;
	CHECK(g->buffer_size[end] > HIGHWAY_BUFFER_HEADROOM);
	CHECK(g->buffer_size[end] <= UINT16_MAX); /* an mbuf can say no more */
	CHECK(n != 0 && (n & (n - 1)) == 0 && states >= n);
	for (i = 0; i < g->n_queues[end]; i++)
		inside(g->pools_offset[end] + (wide)i * stride + states,
		       (wide)n * g->buffer_size[end], size);
}

static void
check_link(const struct highway_map *map)
{
	struct highway_link_geometry g;
	const char *why = NULL;
	uint32_t end, i;

	if (highway_link_region_check(map, &g, &why) != 0) {
		CHECK(why != NULL);
		return;
	}
	for (end = 0; end < 2; end++) {
		check_pools(&g, end, map->size);
		CHECK(g.n_queues[end] >= 1 && g.n_queues[end] <= HIGHWAY_MAX_QUEUES);
		for (i = 0; i < g.n_queues[end]; i++)
			check_ring(g.ring_offset[end] + (wide)i * g.ring_stride, g.ring_size,
				   g.ring_data, map->size);
	}
}

static uint64_t
make_port(struct highway_geometry *g)
{
	struct highway_port_region *region = (void *)head;

	region->header.magic = HIGHWAY_PORT_MAGIC;
	region->n_queues = g->n_queues;
	region->n_rules = g->n_rules;
	region->ring_size = g->ring_size;
	region->ring_data = g->ring_data;
	region->rules_offset = g->rules_offset;
	region->in_rules_offset = g->in_rules_offset;
	region->counters_offset = g->counters_offset;
	region->in_counters_offset = g->in_counters_offset;
	region->to_switch_offset = g->to_switch_offset;
	region->to_vnf_offset = g->to_vnf_offset;
	region->ring_stride = g->ring_stride;
	return g->size;
}

static uint64_t
make_link(const struct highway_geometry *g, uint32_t buffer)
{
	struct highway_link_region *region = (void *)head;
	uint64_t end, pools;

	region->header.magic = HIGHWAY_LINK_MAGIC;
	region->n_queues[0] = region->n_queues[1] = g->n_queues;
	region->ring_size = g->ring_size;
	region->ring_data = g->ring_data;
	region->ring_offset[0] = HIGHWAY_LINK_HEADER_LEN;
	region->ring_offset[1] = HIGHWAY_LINK_HEADER_LEN + g->n_queues * g->ring_stride;
	region->ring_stride = g->ring_stride;
	end = region->ring_offset[1] + g->n_queues * g->ring_stride;
	if (buffer == 0)
		return end;
	pools = g->n_queues * highway_pool_stride(HIGHWAY_MIN_RING_SIZE, buffer);
	region->n_buffers[0] = region->n_buffers[1] = HIGHWAY_MIN_RING_SIZE;
	region->buffer_size[0] = region->buffer_size[1] = buffer;
	region->pools_offset[0] = end;
	region->pools_offset[1] = end + pools;
	return end + 2 * pools;
}

static void
spoil(struct fuzz_input *in, const struct field *fields, uint32_t n)
{
	const struct field *field = &fields[fuzz_u8(in) % n];
	uint64_t value = 0;

	memcpy(&value, head + field->offset, field->width);
	value = fuzz_near(in, value);
	memcpy(head + field->offset, &value, field->width);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { .at = data, .left = size };
	struct highway_header *header = (void *)head;
	struct highway_geometry g = { 0 };
	struct highway_map map = { .base = head };
	uint8_t how = fuzz_u8(&in);

	g.n_queues = 1 + (how >> 1) % HIGHWAY_MAX_QUEUES;
	g.n_rules = 1 + fuzz_u16(&in) % HIGHWAY_MAX_RULES;
	g.ring_size = HIGHWAY_MIN_RING_SIZE << fuzz_u8(&in) % 10;
	highway_geometry_complete(&g);
	memset(head, 0, sizeof(struct highway_port_region));
	map.size = (how & 1) != 0 ? make_port(&g) :
			       make_link(&g, (how >> 5) % 3 * 5 * HIGHWAY_GRANULE);
	*header = (struct highway_header){
		.magic = header->magic,
		.abi_version = HIGHWAY_ABI_VERSION,
		.abi_oldest = HIGHWAY_ABI_OLDEST,
		.size = map.size,
		.region_id = 1,
	};
	while (in.left != 0) {
		if (fuzz_u8(&in) < 16) {
			map.size = fuzz_near(&in, map.size) % (LARGEST + 1);
			header->size = map.size;
		} else if ((how & 1) != 0) {
			spoil(&in, port_fields, RTE_DIM(port_fields));
		} else {
			spoil(&in, link_fields, RTE_DIM(link_fields));
		}
	}
	if ((how & 1) != 0)
		check_port(&map);
	else
		check_link(&map);
	return 0;
}
