/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Two ports of the switch role: their bursts and ticks and OVS's flows, while both VNFs write to
 * their regions what they like.
 */

#include <sys/socket.h>

#include "highway_copy.h"
#include "scene.h"

#define PORTS 2
#define FLOWS 8
#define FAKE_FD 1000

static const uint64_t port_ids[PORTS] = { 11, 12 };

static struct fuzz_input input;
static struct scene_port scenes[PORTS];
static struct scene_region regions[PORTS];
static struct highway_switch switches[PORTS];
static struct highway_slot slots[PORTS][SCENE_RULES];
static struct highway_in_slot in_slots[PORTS][SCENE_RULES];
static struct rte_flow *flows[PORTS][FLOWS];
static struct rte_mempool *rx_pool, *tx_pool;
static unsigned int n_rx_mbufs, n_tx_mbufs;

/* -------------------------------------------------------------- in place of the real world --- */

void __wrap_highway_ctrl_kick(void);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *header, int flags);
int __wrap_close(int fd);
int __real_close(int fd);

void
__wrap_highway_ctrl_kick(void)
{
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *header, int flags)
{
	(void)flags;
	CHECK(fd == FAKE_FD && highway_msg_sound(header->msg_iov->iov_base));
	return sizeof(struct highway_msg);
}

int
__wrap_close(int fd)
{
	return fd >= FAKE_FD ? 0 : __real_close(fd);
}

/* -------------------------------------------------------------------------------- commands --- */

static void
scribble_ring(unsigned int i)
{
	const struct highway_geometry *g = scene_geometry();
	uint8_t how = fuzz_u8(&input);
	struct highway_ring_mem mem = scene_ring(&regions[i], (how & 1) != 0 ? g->to_vnf_offset :
						 g->to_switch_offset, how >> 1);

	fuzz_ring_scribble(&input, &mem, mem.ctl->tail);
}

/* A mark with names that are known. */
static void
mark(unsigned int i, uint8_t how)
{
	const struct highway_marker marker = {
		.peer_id = port_ids[(how & 1) != 0 ? i : 1 - i],
		.link_id = 21,
		.value = fuzz_u16(&input),
	};
	const struct highway_consumer *ring = &switches[i].rxq.rings[how >> 1 & 1].ring;

	memcpy(ring->mem.data, &marker, sizeof(marker));
	ring->mem.desc[ring->tail & ring->mem.mask] =
		highway_desc_word(0, sizeof(marker), (how & 4) != 0 ? HIGHWAY_DESC_ENTER :
				  HIGHWAY_DESC_LEAVE, highway_stamp(&ring->mem, ring->tail));
}

static void
scribble_between(void)
{
	if (input.left != 0)
		scribble_ring(0);
}

static void
receive(unsigned int i, uint8_t how)
{
	struct highway_switch_rxq *rxq = &switches[i].rxq;
	const struct highway_switch_ring *rings = rxq->rings;
	bool broken[SCENE_QUEUES] = { rings[0].ring.broken, rings[1].ring.broken };
	uint64_t tails[SCENE_QUEUES] = { rings[0].ring.tail, rings[1].ring.tail };
	struct rte_mbuf *pkts[HIGHWAY_BURST];
	uint16_t n = 1 + fuzz_u8(&input) % HIGHWAY_BURST, got, j;

	fuzz_pool_hook = (how & 2) != 0 ? scribble_between : NULL;
	got = highway_switch_rx_base(rxq, pkts, n);
	fuzz_pool_hook = NULL;
	CHECK(got <= n);
	for (j = 0; j < got; j++)
		fuzz_check_received(pkts[j], false); /* OVS cannot handle a chain */
	rte_pktmbuf_free_bulk(pkts, got);
	for (j = 0; j < SCENE_QUEUES; j++)
		CHECK(!broken[j] || (rings[j].ring.broken && rings[j].ring.tail == tails[j]));
}

static void
transmit(unsigned int i, uint8_t how)
{
	struct highway_switch_tx *tx = &switches[i].tx;
	bool broken[SCENE_QUEUES] = { tx->rings[0].broken, tx->rings[1].broken };
	struct rte_mbuf *pkts[8];
	uint16_t n = 1 + (how & 7), sent, j;

	for (j = 0; j < n; j++) {
		pkts[j] = scene_frame(&input, tx_pool);
		pkts[j]->port = (uint16_t)(1 - i);
		pkts[j]->hash.fdir.hi = (how & 8) != 0 ? fuzz_u32(&input) :
							    0x48570000U + (how & 7);
	}
	sent = highway_switch_tx_base(&switches[i].txq, pkts, n);
	CHECK(sent <= n && tx->n_pending <= HIGHWAY_MAX_PENDING);
	rte_pktmbuf_free_bulk(pkts + sent, n - sent);
	for (j = 0; j < SCENE_QUEUES; j++)
		CHECK(!broken[j] || tx->rings[j].broken);
}

static void
flow(unsigned int i, uint8_t how)
{
	const struct rte_flow_attr attr = { .transfer = 1 };
	struct rte_flow_item_eth spec = { .hdr.ether_type = rte_cpu_to_be_16(0x800 + (how & 7)) };
	struct rte_flow_item_eth mask = { .hdr.ether_type = UINT16_MAX };
	const struct rte_flow_item pattern[] = {
		{ .type = RTE_FLOW_ITEM_TYPE_ETH, .spec = &spec, .mask = &mask },
		{ .type = RTE_FLOW_ITEM_TYPE_END },
	};
	const struct rte_flow_action_port_id to = { .id = 1 - i };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_COUNT },
		{ .type = RTE_FLOW_ACTION_TYPE_PORT_ID, .conf = &to },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow **place = &flows[i][how & 7];
	struct rte_flow_query_count count = { .reset = 1 };
	struct rte_flow_error error;

	if (*place == NULL) {
		*place = highway_flow_ops.create(&scenes[i].dev, &attr, pattern, actions, &error);
		CHECK(*place != NULL);
	} else if ((how & 8) != 0) {
		CHECK(highway_flow_ops.destroy(&scenes[i].dev, *place, &error) == 0);
		*place = NULL;
	} else {
		CHECK(highway_flow_ops.query(&scenes[i].dev, *place, actions, &count, &error) ==
		      0);
		CHECK(count.bytes <= count.hits * HIGHWAY_MAX_FRAME);
	}
}

static void
message(unsigned int i, uint8_t how)
{
	struct highway_msg msg = { .type = how & 15, .version = HIGHWAY_ABI_VERSION };

	scenes[i].port.conn.fd = FAKE_FD;
	if ((how & 16) != 0)
		fuzz_take(&input, (uint8_t *)&msg.body + fuzz_u8(&input) % 200, 8);
	else
		msg.body.want.token = switches[i].hold_token;
	highway_ctrl_handle(&scenes[i].port, &msg, -1);
}

static void
count_up(unsigned int i, uint8_t how)
{
	struct highway_counter *all = RTE_PTR_ADD(regions[i].map.base,
						  scene_geometry()->counters_offset);
	struct highway_counter *counter = &all[how % (SCENE_QUEUES * SCENE_RULES)];

	counter->packets = fuzz_near(&input, counter->packets);
	counter->bytes = fuzz_near(&input, counter->bytes);
}

/* What a VNF says that it has taken from a link. */
static void
hear(unsigned int i, uint8_t how)
{
	struct highway_port_region *region = regions[i].map.base;
	struct highway_heard *heard = &region->heard[how & 1];

	heard->link_id = 21 + (how >> 1 & 1);
	heard->peer_id = port_ids[(how & 4) != 0 ? i : 1 - i];
	heard->packets = fuzz_near(&input, heard->packets);
	heard->bytes = fuzz_near(&input, heard->bytes);
	region->vnf_state.told += how >> 3 & 3;
}

/* What a VNF that is there says of itself. */
static void
present(unsigned int i, uint8_t how)
{
	struct highway_port_region *region = regions[i].map.base;
	struct highway_vnf_state *vnf = &region->vnf_state;

	vnf->attached = 1;
	vnf->started = how & 1;
	vnf->n_rxq = how >> 1 & 3;
	if (vnf->n_rxq == 3)
		vnf->n_rxq = fuzz_u32(&input);
	vnf->ack = (how & 8) != 0 ? fuzz_u32(&input) : region->gate.change;
	vnf->epoch = how >> 4;
}

/* ---------------------------------------------------------------------------------- fuzzer --- */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	rx_pool = fuzz_pool(2 * HIGHWAY_BURST, RTE_PKTMBUF_HEADROOM + 1024);
	tx_pool = fuzz_pool(32, 2048);
	n_rx_mbufs = fuzz_pool_count(rx_pool);
	n_tx_mbufs = fuzz_pool_count(tx_pool);
	return 0;
}

static void
add_port(unsigned int i)
{
	const struct highway_geometry *g = scene_geometry();
	struct highway_port *port = &scenes[i].port;
	struct highway_switch *sw = &switches[i];
	uint32_t queue;

	scene_port(&scenes[i], (uint16_t)i, HIGHWAY_ROLE_SWITCH);
	scene_port_region(&regions[i], port_ids[i]);
	memset(sw, 0, offsetof(struct highway_switch, tx.pending));
	memset(slots[i], 0, sizeof(slots[i]));
	memset(in_slots[i], 0, sizeof(in_slots[i]));
	sw->slots = slots[i];
	sw->in_slots = in_slots[i];
	TAILQ_INIT(&sw->flows);
	sw->rxq.port = sw->txq.port = port;
	sw->rxq.pool = rx_pool;
	sw->rxq.lcore = LCORE_ID_ANY;
	port->sw = sw;
	port->map = regions[i].map;
	port->region = port->map.base;
	port->geometry = *g;
	port->region_id = port_ids[i];
	port->conn.state = HIGHWAY_CONN_UP;
	port->conn.abi_version = HIGHWAY_ABI_VERSION;
	for (queue = 0; queue < g->n_queues; queue++) {
		sw->rxq.rings[queue].ring.mem = scene_ring(&regions[i], g->to_switch_offset, queue);
		sw->tx.rings[queue].mem = scene_ring(&regions[i], g->to_vnf_offset, queue);
		CHECK(highway_consumer_attach(&sw->rxq.rings[queue].ring) == 0);
		CHECK(highway_producer_attach(&sw->tx.rings[queue]) == 0);
	}
	highway_is_switch_port[i] = true;
	TAILQ_INSERT_TAIL(&highway_ports, port, next);
	port->started = true;
	present(i, 3);
	highway_switch_set_up(port);
}

/* A next ovs-vswitchd adopts a region as its VNF has left it. */
static void
adopt(unsigned int i)
{
	struct highway_port *port = &scenes[i].port;
	uint32_t queue;

	highway_flow_drop_all(port);
	memset(flows[i], 0, sizeof(flows[i]));
	highway_inbound_take_over(port);
	for (queue = 0; queue < SCENE_QUEUES; queue++) {
		struct highway_consumer *rx = &switches[i].rxq.rings[queue].ring;

		/* Else the driver makes a new region. */
		rx->broken = highway_consumer_attach(rx) != 0;
		highway_producer_attach(&switches[i].tx.rings[queue]);
	}
	switches[i].in_charge = false;
	highway_switch_set_up(port);
}

static void
obey(uint8_t command)
{
	unsigned int i = command & 1;

	command >>= 1;
	if (command < 0x28)
		scribble_ring(i);
	else if (command < 0x30)
		mark(i, command);
	else if (command < 0x38)
		scene_scribble_head(&input, &regions[i]);
	else if (command < 0x3c)
		present(i, fuzz_u8(&input));
	else if (command < 0x3e)
		count_up(i, fuzz_u8(&input));
	else if (command < 0x40)
		hear(i, fuzz_u8(&input));
	else if (command < 0x50)
		receive(i, command);
	else if (command < 0x60)
		transmit(i, command);
	else if (command < 0x68)
		highway_switch_tick(&scenes[i].port);
	else if (command < 0x70)
		flow(i, fuzz_u8(&input));
	else if (command < 0x74)
		message(i, fuzz_u8(&input));
	else if (command < 0x78)
		scene_scribble_rule(&input, &regions[i], (command & 1) != 0 ?
				    scene_geometry()->rules_offset :
				    scene_geometry()->in_rules_offset, port_ids);
	else if (command < 0x7a)
		adopt(i);
	else
		fuzz_tsc_hz = command == 0x7f ? FUZZ_TSC_HZ : 1000;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int i;

	input = (struct fuzz_input){ .at = data, .left = size };
	fuzz_tsc_hz = FUZZ_TSC_HZ;
	TAILQ_INIT(&highway_ports);
	for (i = 0; i < PORTS; i++)
		add_port(i);
	for (i = 0; i < PORTS; i++) {
		flow(i, 0);
		highway_switch_tick(&scenes[i].port);
	}
	while (input.left != 0)
		obey(fuzz_u8(&input));
	for (i = 0; i < PORTS; i++) {
		highway_flow_drop_all(&scenes[i].port);
		memset(flows[i], 0, sizeof(flows[i]));
	}
	CHECK(fuzz_pool_count(rx_pool) == n_rx_mbufs && fuzz_pool_count(tx_pool) == n_tx_mbufs);
	return 0;
}
