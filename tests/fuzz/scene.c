/* SPDX-License-Identifier: Apache-2.0 */

#include <sys/mman.h>
#include <unistd.h>

#include <sanitizer/asan_interface.h>

#include <rte_ip.h>

#include "scene.h"

#define PAGE 4096

/* What the control thread would have been told. */
pthread_mutex_t highway_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
struct highway_ports highway_ports = TAILQ_HEAD_INITIALIZER(highway_ports);
rte_spinlock_t highway_ports_spin = RTE_SPINLOCK_INITIALIZER;
bool highway_is_switch_port[RTE_MAX_ETHPORTS];
int highway_logtype;

void
highway_link_status(struct highway_port *port, bool up)
{
	port->link_up = up;
}

/* --------------------------------------------------------------------------------- regions --- */

const struct highway_geometry *
scene_geometry(void)
{
	static struct highway_geometry g = {
		.n_queues = SCENE_QUEUES,
		.n_rules = SCENE_RULES,
		.ring_size = SCENE_RING_SIZE,
	};

	if (g.size == 0) {
		highway_geometry_complete(&g);
		/* Ends with its last ring. */
		g.size = g.to_vnf_offset + g.n_queues * g.ring_stride;
	}
	return &g;
}

static struct highway_ring_mem
ring_at(const struct scene_region *region, uint64_t offset)
{
	struct highway_ring_mem mem;

	highway_ring_place(&mem, RTE_PTR_ADD(region->map.base, offset), SCENE_RING_SIZE,
			   SCENE_RING_DATA);
	return mem;
}

struct highway_ring_mem
scene_ring(const struct scene_region *region, uint64_t offset, uint32_t queue)
{
	return ring_at(region, offset + queue % SCENE_QUEUES * scene_geometry()->ring_stride);
}

struct highway_ring_mem
scene_link_ring(const struct scene_region *region, uint32_t end, uint32_t queue)
{
	uint32_t ring = end % 2 * SCENE_QUEUES + queue % SCENE_QUEUES;

	return ring_at(region, HIGHWAY_LINK_HEADER_LEN + ring * scene_geometry()->ring_stride);
}

bool
scene_map(struct scene_region *region, struct highway_map *map)
{
	unsigned int i;

	for (i = 0; i < SCENE_PLACES; i++) {
		unsigned int place = region->next++ % SCENE_PLACES;

		if (region->used[place])
			continue;
		region->used[place] = true;
		*map = region->places[place];
		ASAN_UNPOISON_MEMORY_REGION(map->base, map->size);
		return true;
	}
	return false;
}

bool
scene_unmap(struct scene_region *region, const struct highway_map *map)
{
	unsigned int i;

	for (i = 0; i < SCENE_PLACES; i++) {
		if (map->base != region->places[i].base)
			continue;
		CHECK(region->used[i]);
		region->used[i] = false;
		ASAN_POISON_MEMORY_REGION(map->base, map->size);
		return true;
	}
	return false;
}

unsigned int
scene_mapped(const struct scene_region *region)
{
	unsigned int i, n = 0;

	for (i = 0; i < SCENE_PLACES; i++)
		n += region->used[i];
	return n;
}

/* One more mapping, with pages around it that nobody can touch. */
static struct highway_map
place_at(int fd, uint64_t size)
{
	uint8_t *around = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);
	struct highway_map map = { .base = around + PAGE, .size = size };

	CHECK(around != MAP_FAILED);
	CHECK(mmap(map.base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	      map.base);
	return map;
}

static void
make(struct scene_region *region, uint64_t size)
{
	int fd = memfd_create("region", MFD_CLOEXEC);
	unsigned int i;

	CHECK(size % PAGE == 0 && fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	region->map = place_at(fd, size);
	for (i = 0; i < SCENE_PLACES; i++) {
		region->places[i] = place_at(fd, size);
		ASAN_POISON_MEMORY_REGION(region->places[i].base, size);
	}
	close(fd);
}

/* The same memory each time; everything before the first ring is 0. */
static void
begin(struct scene_region *region, uint64_t size, uint64_t rings, uint32_t n)
{
	struct highway_ring_mem mem;
	uint32_t i;

	if (region->map.base == NULL)
		make(region, size);
	CHECK(scene_mapped(region) == 0);
	region->next = 0;
	memset(region->map.base, 0, rings);
	for (i = 0; i < n; i++) {
		mem = ring_at(region, rings + i * scene_geometry()->ring_stride);
		fuzz_ring_clear(&mem);
	}
}

static struct highway_header
header(uint64_t magic, uint64_t size, uint64_t id)
{
	return (struct highway_header){
		.magic = magic,
		.abi_version = HIGHWAY_ABI_VERSION,
		.abi_oldest = HIGHWAY_ABI_OLDEST,
		.size = size,
		.region_id = id,
	};
}

void
scene_port_region(struct scene_region *region, uint64_t region_id)
{
	const struct highway_geometry *g = scene_geometry();
	struct highway_port_region *port;

	begin(region, g->size, g->to_switch_offset, 2 * g->n_queues);
	port = region->map.base;
	port->header = header(HIGHWAY_PORT_MAGIC, g->size, region_id);
	port->n_queues = g->n_queues;
	port->n_rules = g->n_rules;
	port->ring_size = g->ring_size;
	port->ring_data = g->ring_data;
	port->rules_offset = g->rules_offset;
	port->in_rules_offset = g->in_rules_offset;
	port->counters_offset = g->counters_offset;
	port->to_switch_offset = g->to_switch_offset;
	port->to_vnf_offset = g->to_vnf_offset;
	port->ring_stride = g->ring_stride;
	port->switch_state.epoch = 1;
	port->switch_state.attached = 1;
	port->switch_state.link_up = 1;
	port->gate.fail_mode = 1;
}

void
scene_link_region(struct scene_region *region, uint64_t link_id, const uint64_t port_id[2])
{
	uint64_t stride = scene_geometry()->ring_stride;
	uint64_t pools = HIGHWAY_LINK_HEADER_LEN + 2 * SCENE_QUEUES * stride;
	uint64_t pool = highway_pool_stride(SCENE_BUFFERS, SCENE_BUFFER);
	uint64_t size = pools + 2 * SCENE_QUEUES * pool;
	struct highway_link_region *link;
	uint32_t end;

	begin(region, size, HIGHWAY_LINK_HEADER_LEN, 2 * SCENE_QUEUES);
	link = region->map.base;
	link->header = header(HIGHWAY_LINK_MAGIC, size, link_id);
	link->ring_size = SCENE_RING_SIZE;
	link->ring_data = SCENE_RING_DATA;
	link->ring_stride = stride;
	link->phase = HIGHWAY_LINK_ACTIVE;
	for (end = 0; end < 2; end++) {
		link->port_id[end] = port_id[end];
		link->n_queues[end] = SCENE_QUEUES;
		link->ring_offset[end] = HIGHWAY_LINK_HEADER_LEN + end * SCENE_QUEUES * stride;
		link->buffer_size[end] = SCENE_BUFFER;
		link->n_buffers[end] = SCENE_BUFFERS;
		link->pools_offset[end] = pools + end * SCENE_QUEUES * pool;
		link->end[end] = (struct highway_link_end){ .attached = 1, .rx_ready = 1 };
	}
}

/* ----------------------------------------------------------------------------------- ports --- */

void
scene_port(struct scene_port *scene, uint16_t port_id, enum highway_role role)
{
	memset(&scene->port, 0, sizeof(scene->port));
	scene->dev.data = &scene->data;
	scene->data.dev_private = &scene->port;
	scene->data.port_id = port_id;
	scene->data.mtu = RTE_ETHER_MTU;
	scene->data.scattered_rx = 0;
	scene->port.dev = &scene->dev;
	scene->port.options.role = role;
	scene->port.options.drain_timeout_s = HIGHWAY_DRAIN_TIMEOUT_S;
	scene->port.options.port[0] = 'a';
	scene->port.epoch = 1;
	scene->port.admin_up = true;
	scene->port.conn.fd = -1;
	scene->port.conn.input.fd = -1;
	TAILQ_INIT(&scene->port.awaited);
}

/* ------------------------------------------------------------------------ the hostile peer --- */

void
scene_scribble_head(struct fuzz_input *in, const struct scene_region *region)
{
	uint32_t at = fuzz_u16(in) % (HIGHWAY_PORT_HEADER_LEN / sizeof(uint32_t));
	uint32_t *word = (uint32_t *)region->map.base + at;

	*word = (uint32_t)fuzz_near(in, *word);
}

void
scene_scribble_rule(struct fuzz_input *in, const struct scene_region *region, uint64_t offset,
		    const uint64_t peer_id[2])
{
	uint32_t slot = fuzz_u8(in) % SCENE_RULES;
	struct highway_rule *rule = (struct highway_rule *)RTE_PTR_ADD(region->map.base, offset) +
				    slot;
	uint8_t how = fuzz_u8(in), more;

	rule->generation = fuzz_u8(in);
	rule->live = (how & 1) != 0 ? 0 : rule->generation;
	if ((how & 64) != 0) /* caught while it is written */
		rule->live++;
	rule->peer_id = (how & 2) != 0 ? fuzz_u64(in) : peer_id[how >> 7];
	rule->max_frame = (how & 4) != 0 ? fuzz_u32(in) : 1518;
	rule->flags = (how & 8) != 0 ? fuzz_u32(in) : 0;
	rule->suppressed = (how & 16) != 0 ? rule->generation : 0;
	memset(&rule->key, 0, sizeof(rule->key));
	memset(&rule->mask, 0, sizeof(rule->mask));
	rule->key.eth_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
	rule->mask.eth_type = UINT16_MAX;
	if ((how & 32) == 0)
		return;
	more = fuzz_u8(in);
	fuzz_take(in, (uint8_t *)&rule->key + more % 8 * 8, 8);
	fuzz_take(in, (uint8_t *)&rule->mask + more % 8 * 8, 8);
	if ((more & 8) != 0) {
		rule->key.l4_dst = rte_cpu_to_be_16(more >> 4);
		rule->mask.l4_dst = UINT16_MAX;
		rule->key.ip_proto = IPPROTO_UDP;
		rule->mask.ip_proto = UINT8_MAX;
	}
}

struct rte_mbuf *
scene_frame(struct fuzz_input *in, struct rte_mempool *pool)
{
	static const uint8_t udp[RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr) + 8] = {
		[12] = 0x08, [14] = 0x45, [17] = 28, [22] = 64, [23] = IPPROTO_UDP,
	};
	uint8_t how = fuzz_u8(in);
	uint32_t length = (how & 1) != 0 ? fuzz_u16(in) % 1600 : 60;
	struct rte_mbuf *mbuf = fuzz_frame(pool, length, (how & 2) != 0 ? 1024 : UINT32_MAX);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	memset(frame, 0, mbuf->data_len);
	memcpy(frame, udp, RTE_MIN(sizeof(udp), (size_t)mbuf->data_len));
	if (mbuf->data_len > 37)
		frame[37] = how >> 4; /* the destination's port */
	if ((how & 4) != 0 && mbuf->data_len > 40)
		fuzz_take(in, frame + fuzz_u8(in) % 32, 4);
	return mbuf;
}
