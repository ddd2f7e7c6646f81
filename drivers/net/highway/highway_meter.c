/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * By how much counters that a VNF writes have grown. They only grow and are never reset; the switch
 * remembers what it has seen of each. All under highway_lock.
 */

#include <rte_cycles.h>

#include "highway.h"

/* More than any machine can move: one packet per nanosecond and queue, and a burst. */
#define PACKETS_PER_NS 1
#define SLACK 4096

static struct highway_counter
read_counter(const struct highway_port *port, uint64_t table, uint32_t queue, uint32_t slot)
{
	const struct highway_counter *all = RTE_PTR_ADD(port->map.base, table), *shared;
	struct highway_counter counter;

	shared = &all[(uint64_t)queue * port->geometry.n_rules + slot];
	/* Packets first: pairs with highway_counter_add(), so that bytes are never behind. */
	counter.packets = __atomic_load_n(&shared->packets, __ATOMIC_ACQUIRE);
	counter.bytes = __atomic_load_n(&shared->bytes, __ATOMIC_RELAXED);
	return counter;
}

/** What the counters of a slot say now is the past; `table` is where they are in the region. */
void
highway_meter_start(const struct highway_port *port, uint64_t table, uint32_t slot,
		    struct highway_meter *meter)
{
	uint32_t queue;

	for (queue = 0; queue < port->geometry.n_queues; queue++)
		meter->seen[queue] = read_counter(port, table, queue, slot);
	meter->seen_tsc = rte_rdtsc();
}

/* What one queue has counted since the last look, as far as it is possible. */
static struct highway_counter
difference(struct highway_port *port, struct highway_counter *seen, struct highway_counter now,
	   uint64_t most)
{
	struct highway_counter diff;

	if (unlikely(now.packets < seen->packets || now.bytes < seen->bytes ||
		     now.packets - seen->packets > most)) {
		port->sw->bad_counters++;
		*seen = now;
		return (struct highway_counter){ 0 };
	}
	diff.packets = now.packets - seen->packets;
	/* Bytes may be ahead of packets by a burst: the rest is taken with the next look. */
	diff.bytes = RTE_MIN(now.bytes - seen->bytes, diff.packets * HIGHWAY_MAX_FRAME);
	seen->packets = now.packets;
	seen->bytes += diff.bytes;
	return diff;
}

/** What all queues have counted for a slot since the last look. */
struct highway_counter
highway_meter_read(struct highway_port *port, uint64_t table, uint32_t slot,
		   struct highway_meter *meter)
{
	struct highway_counter sum = { 0 };
	uint64_t now = rte_rdtsc(), most;
	uint32_t queue;

	most = (uint64_t)((double)(now - meter->seen_tsc) * 1e9 / (double)rte_get_tsc_hz()) *
	       PACKETS_PER_NS + SLACK;
	meter->seen_tsc = now;
	for (queue = 0; queue < port->geometry.n_queues; queue++) {
		struct highway_counter diff;

		diff = difference(port, &meter->seen[queue],
				  read_counter(port, table, queue, slot), most);
		sum.packets += diff.packets;
		sum.bytes += diff.bytes;
	}
	return sum;
}
