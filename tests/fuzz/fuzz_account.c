/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Counters that a VNF writes, as the switch reads them. Nothing is believed that cannot be, no
 * sum goes back, and each packet that was believed is given to somebody exactly once.
 */

#include "scene.h"

#define SLOTS 4
#define OUR_ID 11
#define PEER_ID 12
#define SLACK 4096	/* as in highway_meter.c */
#define SLOW_HZ 10	/* of the clock: then orphans expire within an execution */

static struct scene_port ours, peer;
static struct scene_region region;
static struct highway_switch our_switch, peer_switch;
static struct highway_slot slots[SCENE_RULES];
static struct rte_flow flows[SLOTS];
static uint64_t told, told_bytes, began_tsc;

static void
begin(void)
{
	fuzz_tsc_hz = FUZZ_TSC_HZ;
	scene_port(&ours, 0, HIGHWAY_ROLE_SWITCH);
	scene_port(&peer, 1, HIGHWAY_ROLE_SWITCH);
	scene_port_region(&region, OUR_ID);
	memset(&our_switch, 0, offsetof(struct highway_switch, tx));
	memset(&peer_switch, 0, offsetof(struct highway_switch, tx));
	memset(slots, 0, sizeof(slots));
	memset(flows, 0, sizeof(flows));
	TAILQ_INIT(&our_switch.flows);
	TAILQ_INIT(&peer_switch.flows);
	peer_switch.compared[0] = (struct highway_compared){ .link_id = 21, .sender_id = OUR_ID };
	TAILQ_INIT(&highway_ports);
	our_switch.slots = slots;
	ours.port.sw = &our_switch;
	ours.port.map = region.map;
	ours.port.region = region.map.base;
	ours.port.geometry = *scene_geometry();
	ours.port.region_id = OUR_ID;
	peer.port.sw = &peer_switch;
	peer.port.region_id = PEER_ID;
	TAILQ_INSERT_TAIL(&highway_ports, &ours.port, next);
	TAILQ_INSERT_TAIL(&highway_ports, &peer.port, next);
	told = told_bytes = 0;
	began_tsc = rte_rdtsc();
}

static struct highway_key
pattern(uint32_t slot)
{
	return (struct highway_key){ .eth_type = (uint16_t)(1 + slot % (SLOTS - 1)) };
}

static void
add_flow(uint32_t slot)
{
	struct highway_slot *s = &slots[slot];

	if (s->flow != NULL || s->dying)
		return;
	flows[slot] = (struct rte_flow){
		.state = HIGHWAY_FLOW_LIVE, .key = pattern(slot), .slot = slot,
		.peer_id = PEER_ID, .in_slot = -1,
	};
	highway_account_inherit(&ours.port, &flows[slot]);
	*s = (struct highway_slot){ .flow = &flows[slot], .peer_id = PEER_ID };
	highway_account_start(&ours.port, slot);
	TAILQ_INSERT_HEAD(&our_switch.flows, &flows[slot], next);
}

static void
remove_flow(uint32_t slot)
{
	struct highway_slot *s = &slots[slot];

	if (s->flow == NULL)
		return;
	highway_account_slot(&ours.port, slot);
	TAILQ_REMOVE(&our_switch.flows, s->flow, next);
	s->flow = NULL;
	s->dying = true;
	s->key = flows[slot].key;
	s->mask = flows[slot].mask;
	s->change = ours.port.region->gate.change;
	highway_account_bequeath(&ours.port, &s->key, &s->mask, flows[slot].unread_packets,
				 flows[slot].unread_bytes);
	flows[slot].unread_packets = 0;
}

/* OVS asks, and adds. */
static void
query(uint32_t slot)
{
	if (slots[slot].flow == NULL)
		return;
	highway_account_slot(&ours.port, slot);
	told += flows[slot].unread_packets;
	told_bytes += flows[slot].unread_bytes;
	flows[slot].unread_packets = 0;
	flows[slot].unread_bytes = 0;
}

static void
count(struct fuzz_input *in, uint8_t how)
{
	struct highway_counter *all = RTE_PTR_ADD(region.map.base,
						  scene_geometry()->counters_offset);
	struct highway_counter *counter = &all[(how & 1) * SCENE_RULES + (how >> 1) % SLOTS];
	uint64_t by = fuzz_u8(in);

	if ((how & 0x30) == 0x30) {
		counter->packets = fuzz_near(in, counter->packets);
		counter->bytes = fuzz_near(in, counter->bytes);
	} else {
		counter->packets += by;
		counter->bytes += by * 64;
	}
}

/* Everything that was believed so far is somewhere. */
static void
check_sums(void)
{
	uint64_t sum = told + our_switch.unclaimed;
	uint32_t i;

	for (i = 0; i < SLOTS; i++)
		sum += flows[i].unread_packets;
	/* No more patterns than that, and each takes the first free place. */
	for (i = 0; i < SLOTS; i++)
		sum += our_switch.orphans[i].tsc != 0 ? our_switch.orphans[i].packets : 0;
	CHECK(sum == our_switch.bypass_rx_packets);
	CHECK(our_switch.bypass_rx_packets == peer_switch.bypass_tx_packets);
	CHECK(our_switch.bypass_rx_bytes == peer_switch.bypass_tx_bytes);
	CHECK(peer_switch.compared[0].sent_packets == our_switch.bypass_rx_packets);
	CHECK(told_bytes <= our_switch.bypass_rx_bytes);
}

static void
check_growth(uint64_t packets, uint64_t bytes, uint64_t bad, unsigned int looks)
{
	uint64_t now = rte_rdtsc();
	uint64_t ns = 1000000000 / RTE_MIN(fuzz_tsc_hz, UINT64_C(1000000000));
	uint64_t most = (now - began_tsc) * ns + SLACK;
	uint64_t more = our_switch.bypass_rx_packets - packets;

	CHECK(our_switch.bypass_rx_packets >= packets && our_switch.bypass_rx_bytes >= bytes);
	CHECK(our_switch.bad_counters >= bad);
	CHECK(more <= looks * SCENE_QUEUES * most);
	CHECK(our_switch.bypass_rx_bytes - bytes <= more * HIGHWAY_MAX_FRAME);
}

static void
obey(struct fuzz_input *in, uint8_t command)
{
	uint8_t slot = command % SLOTS;

	if (command < 0x80)
		count(in, command);
	else if (command < 0x90)
		add_flow(slot);
	else if (command < 0x98)
		remove_flow(slot);
	else if (command < 0xb0)
		query(slot);
	else if (command < 0xc0)
		highway_account_all();
	else if (command < 0xd0)
		highway_account_expire(&ours.port);
	else if (command < 0xe0)
		scene_scribble_head(in, &region);
	else if (command < 0xf0)
		ours.port.region->gate.change++;
	else
		fuzz_tsc_hz = command == 0xff ? FUZZ_TSC_HZ : SLOW_HZ;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { .at = data, .left = size };

	begin();
	add_flow(0);
	add_flow(1);
	while (in.left != 0) {
		uint64_t packets = our_switch.bypass_rx_packets, bad = our_switch.bad_counters;
		uint64_t bytes = our_switch.bypass_rx_bytes;

		obey(&in, fuzz_u8(&in));
		check_growth(packets, bytes, bad, SLOTS);
		check_sums();
	}
	return 0;
}
