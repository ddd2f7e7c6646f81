/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * A whole port of the VNF role: highwayd's messages in any order, both bursts and the control
 * thread's tick, while its region and those of its links are written to by others.
 */

#include <errno.h>
#include <sys/socket.h>

#include "highway_copy.h"
#include "highway_vnf.h"
#include "scene.h"

#define OUR_ID 11
#define FAKE_FD 1000
#define N_LINKS 2
#define N_REGIONS (1 + N_LINKS)

static const uint64_t peer_ids[N_LINKS] = { 12, 13 }, link_ids[N_LINKS] = { 21, 22 };

static struct fuzz_input input;
static struct scene_port scene;
static struct scene_region regions[N_REGIONS];
static struct highway_vnf_txq txqs[SCENE_QUEUES];
static struct highway_vnf_rxq rxqs[SCENE_QUEUES];
static void *tx_queues[SCENE_QUEUES], *rx_queues[SCENE_QUEUES];
static struct rte_mempool *rx_pool, *tx_pool;
static unsigned int n_rx_mbufs, n_tx_mbufs;

/* -------------------------------------------------------------- in place of the real world --- */

int __wrap_highway_map_fd(struct highway_map *map, int fd, uint64_t size);
void __wrap_highway_unmap(struct highway_map *map);
void __wrap_highway_ctrl_kick(void);
uint64_t __wrap_highway_random_id(void);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *header, int flags);
int __wrap_close(int fd);
int __real_close(int fd);

int
__wrap_highway_map_fd(struct highway_map *map, int fd, uint64_t size)
{
	if (fd < FAKE_FD || fd >= FAKE_FD + N_REGIONS || size != regions[fd - FAKE_FD].map.size)
		return -EINVAL;
	return scene_map(&regions[fd - FAKE_FD], map) ? 0 : -ENOMEM;
}

void
__wrap_highway_unmap(struct highway_map *map)
{
	CHECK(map->base == NULL || scene_unmap(&regions[0], map) ||
	      scene_unmap(&regions[1], map) || scene_unmap(&regions[2], map));
	*map = (struct highway_map){ 0 };
}

void
__wrap_highway_ctrl_kick(void)
{
}

uint64_t
__wrap_highway_random_id(void)
{
	static uint64_t last;

	return last = last * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *header, int flags)
{
	(void)flags;
	CHECK(fd == FAKE_FD && header->msg_iov->iov_len == sizeof(struct highway_msg));
	CHECK(highway_msg_sound(header->msg_iov->iov_base));
	return sizeof(struct highway_msg);
}

int
__wrap_close(int fd)
{
	return fd >= FAKE_FD ? 0 : __real_close(fd);
}

/* -------------------------------------------------------------------------------- commands --- */

static void
send_msg(enum highway_msg_type type, unsigned int region, const union highway_msg_body *body)
{
	struct highway_msg msg = {
		.type = (uint16_t)type,
		.version = HIGHWAY_ABI_VERSION,
		.body = *body,
	};

	scene.port.conn.fd = FAKE_FD;
	highway_ctrl_handle(&scene.port, &msg, (int)(FAKE_FD + region));
}

static void
attach_port(void)
{
	const union highway_msg_body body = {
		.region = { .region_id = OUR_ID, .size = regions[0].map.size },
	};

	send_msg(HIGHWAY_MSG_PORT_REGION, 0, &body);
}

static void
link_message(enum highway_msg_type type, uint8_t how)
{
	unsigned int i = how & 1;
	const union highway_msg_body body = {
		.link = {
			.link_id = link_ids[i],
			.size = regions[1 + i].map.size,
			.peer_id = peer_ids[i],
			.end = 0,
			.flags = how >> 1 & 7,
		},
	};

	send_msg(type, 1 + i, &body);
}

/* Marks with names that are known: a Fence in a link, or what the switch makes of marks. */
static void
mark(uint8_t how)
{
	unsigned int i = how & 1, queue = how >> 1 & 1;
	const struct highway_marker fence = { .link_id = link_ids[i], .value = fuzz_u8(&input) };
	const struct highway_sync sync = {
		.source_id = peer_ids[i], .link_id = link_ids[i], .entered = fuzz_u8(&input),
		.leave = fuzz_u8(&input), .queue = fuzz_u8(&input) % (2 * SCENE_QUEUES),
	};
	bool in_link = (how & 4) != 0;
	struct highway_ring_mem mem =
		in_link ? scene_link_ring(&regions[1 + i], 1, queue) :
			  scene_ring(&regions[0], scene_geometry()->to_vnf_offset, queue);
	uint64_t index = mem.ctl->tail + (how >> 3);

	memcpy(mem.data, in_link ? (const void *)&fence : &sync,
	       in_link ? sizeof(fence) : sizeof(sync));
	mem.desc[index & mem.mask] =
		highway_desc_word(0, in_link ? sizeof(fence) : sizeof(sync), in_link ?
				  HIGHWAY_DESC_FENCE : HIGHWAY_DESC_SYNC,
				  highway_stamp(&mem, index));
}

/* Some message, with one field that is not as it should be. */
static void
any_message(void)
{
	uint8_t type = fuzz_u8(&input), region = fuzz_u8(&input) % N_REGIONS;
	union highway_msg_body body = {
		.link = {
			.link_id = link_ids[region & 1],
			.size = regions[region].map.size,
			.peer_id = peer_ids[region & 1],
		},
	};
	uint8_t at = fuzz_u8(&input) % (sizeof(body) - 8);

	if (type % 16 == HIGHWAY_MSG_PORT_REGION)
		body.region.region_id = OUR_ID;
	fuzz_take(&input, (uint8_t *)&body + at, fuzz_u8(&input) % 9);
	send_msg(type % 16, region, &body);
}

static const struct highway_consumer *
rx_ring(uint32_t slot, uint32_t queue)
{
	const struct highway_link *link = scene.port.links[slot];

	return link != NULL && queue < link->n_rx_rings ? &link->rx[queue].ring : NULL;
}

static void
scribble_ring(void)
{
	uint8_t how = fuzz_u8(&input), region = how % N_REGIONS;
	uint8_t end = how >> 6 & 1, queue = how >> 7;
	const struct highway_geometry *g = scene_geometry();
	struct highway_ring_mem mem;
	uint64_t index;

	if (region == 0)
		mem = scene_ring(&regions[0], end != 0 ? g->to_vnf_offset : g->to_switch_offset,
				 queue);
	else
		mem = scene_link_ring(&regions[region], end, queue);
	index = __atomic_load_n(&mem.ctl->tail, __ATOMIC_RELAXED);
	fuzz_ring_scribble(&input, &mem, index);
}

static void
scribble_tables(void)
{
	const struct highway_geometry *g = scene_geometry();
	uint8_t how = fuzz_u8(&input);

	if ((how & 0xc0) == 0)
		scene_scribble_head(&input, &regions[how % N_REGIONS]);
	else
		scene_scribble_rule(&input, &regions[0],
				    (how & 64) != 0 ? g->rules_offset : g->in_rules_offset,
				    peer_ids);
	((struct highway_port_region *)regions[0].map.base)->gate.change++;
}

static void
scribble_between(void)
{
	if (input.left != 0)
		scribble_ring();
}

/* A ring that was broken is not read any more. */
static void
receive(uint8_t how)
{
	struct highway_vnf_rxq *rxq = &rxqs[how & 1];
	uint64_t tails[N_LINKS][SCENE_QUEUES], normal = rxq->normal.tail;
	bool was_broken[N_LINKS][SCENE_QUEUES] = { 0 }, normal_broken = rxq->normal.broken;
	const struct highway_consumer *ring;
	struct rte_mbuf *pkts[HIGHWAY_BURST];
	uint16_t n = 1 + fuzz_u8(&input) % HIGHWAY_BURST, got, i;
	uint32_t slot, queue;

	for (slot = 0; slot < N_LINKS; slot++) {
		for (queue = 0; queue < SCENE_QUEUES; queue++) {
			ring = rx_ring(slot, queue);
			was_broken[slot][queue] = ring != NULL && ring->broken;
			tails[slot][queue] = ring != NULL ? ring->tail : 0;
		}
	}
	scene.data.scattered_rx = how >> 1 & 1;
	fuzz_pool_hook = (how & 4) != 0 ? scribble_between : NULL;
	got = highway_vnf_rx_base(rxq, pkts, n);
	fuzz_pool_hook = NULL;
	CHECK(got <= n);
	for (i = 0; i < got; i++)
		fuzz_check_received(pkts[i], scene.data.scattered_rx);
	for (i = 0; i < got && i < (how & 24) / 8; i++)
		fuzz_hold(pkts[i]);
	rte_pktmbuf_free_bulk(pkts + i, got - i);
	CHECK(!normal_broken || (rxq->normal.broken && rxq->normal.tail == normal));
	for (slot = 0; slot < N_LINKS; slot++) {
		for (queue = 0; queue < SCENE_QUEUES; queue++) {
			ring = rx_ring(slot, queue);
			CHECK(!was_broken[slot][queue] ||
			      (ring->broken && ring->tail == tails[slot][queue]));
			CHECK(ring == NULL || !ring->broken ||
			      scene.port.links[slot]->close != HIGHWAY_CLOSE_NONE);
		}
	}
}

static void
transmit(uint8_t how)
{
	struct rte_mbuf *pkts[8];
	uint16_t n = 1 + (how >> 2 & 7), sent, i;

	for (i = 0; i < n; i++)
		pkts[i] = scene_frame(&input, tx_pool);
	sent = highway_vnf_tx_base(&txqs[how & 1], pkts, n);
	CHECK(sent <= n);
	rte_pktmbuf_free_bulk(pkts + sent, n - sent);
}

/* ---------------------------------------------------------------------------------- fuzzer --- */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	unsigned int i;

	(void)argc;
	(void)argv;
	rx_pool = fuzz_pool(2 * HIGHWAY_BURST + FUZZ_HELD, RTE_PKTMBUF_HEADROOM + 1024);
	tx_pool = fuzz_pool(32, 2048);
	n_rx_mbufs = fuzz_pool_count(rx_pool);
	n_tx_mbufs = fuzz_pool_count(tx_pool);
	for (i = 0; i < SCENE_QUEUES; i++) {
		tx_queues[i] = &txqs[i];
		rx_queues[i] = &rxqs[i];
	}
	return highway_presence_init();
}

static void
begin(void)
{
	uint64_t ends[2] = { OUR_ID };
	uint16_t i;

	fuzz_tsc_hz = FUZZ_TSC_HZ;
	scene_port(&scene, 0, HIGHWAY_ROLE_VNF);
	scene.data.tx_queues = tx_queues;
	scene.data.rx_queues = rx_queues;
	scene.data.nb_tx_queues = SCENE_QUEUES;
	scene.data.nb_rx_queues = SCENE_QUEUES;
	scene_port_region(&regions[0], OUR_ID);
	for (i = 0; i < N_LINKS; i++) {
		ends[1] = peer_ids[i];
		scene_link_region(&regions[1 + i], link_ids[i], ends);
	}
	memset(txqs, 0, sizeof(txqs));
	memset(rxqs, 0, sizeof(rxqs));
	for (i = 0; i < SCENE_QUEUES; i++) {
		txqs[i].port = rxqs[i].port = &scene.port;
		txqs[i].queue = rxqs[i].queue = i;
		rxqs[i].pool = rx_pool;
		rxqs[i].external = true;
	}
}

static void
obey(uint8_t command)
{
	if (command < 0x48)
		scribble_ring();
	else if (command < 0x50)
		mark(fuzz_u8(&input));
	else if (command < 0x80)
		scribble_tables();
	else if (command < 0xa8 && scene.port.started)
		receive(command);
	else if (command < 0xd0 && scene.port.started)
		transmit(command);
	else if (command < 0xe0) {
		highway_vnf_tick(&scene.port);
		highway_links_reap();
	} else if (command < 0xf0)
		link_message((command & 8) != 0 ? HIGHWAY_MSG_LINK_ADD : HIGHWAY_MSG_LINK_UPDATE,
			     fuzz_u8(&input));
	else if (command < 0xf4)
		link_message(HIGHWAY_MSG_LINK_REMOVE, command);
	else if (command < 0xf8)
		any_message();
	else if (command < 0xf9)
		attach_port();
	else if (command < 0xfa)
		fuzz_release();
	else if (command < 0xfb)
		highway_vnf_stop(&scene.port);
	else if (command < 0xfe)
		highway_vnf_start(&scene.port);
	else
		fuzz_tsc_hz = command == 0xff ? FUZZ_TSC_HZ : 1000;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t how;

	input = (struct fuzz_input){ .at = data, .left = size };
	begin();
	how = fuzz_u8(&input);
	if ((how & 1) == 0)
		attach_port();
	if ((how & 2) == 0)
		highway_vnf_start(&scene.port);
	if ((how & 4) == 0)
		link_message(HIGHWAY_MSG_LINK_ADD, how >> 4 << 1);
	if ((how & 8) == 0)
		link_message(HIGHWAY_MSG_LINK_ADD, 1);
	highway_vnf_tick(&scene.port);
	while (input.left != 0)
		obey(fuzz_u8(&input));
	highway_vnf_stop(&scene.port);
	highway_vnf_detach(&scene.port);
	fuzz_release();
	highway_links_reap();
	CHECK(!highway_links_pinned());
	CHECK(fuzz_pool_count(rx_pool) == n_rx_mbufs && fuzz_pool_count(tx_pool) == n_tx_mbufs);
	CHECK(scene.port.n_links == 0);
	CHECK(scene_mapped(&regions[0]) + scene_mapped(&regions[1]) + scene_mapped(&regions[2]) ==
	      0);
	return 0;
}
