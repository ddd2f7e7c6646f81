/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The layout of port regions as the driver makes and adopts them, for tests/unit/test_geometry.py.
 *
 *   geometry_check QUEUES RING_SIZE RULES          what it wants
 *   geometry_check QUEUES RING_SIZE RULES PORT     "made" or "adopted", and what it has then; the
 *                                                  region is in /dev/shm
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "highway_region.h"

int highway_logtype;

int
main(int argc, char *argv[])
{
	static const uint8_t mac[6];
	struct highway_geometry g = { 0 };
	struct highway_map map = { 0 };
	bool adopted = false;
	int fd;

	if (argc < 4)
		return 2;
	g.n_queues = (uint32_t)atoi(argv[1]);
	g.ring_size = (uint32_t)atoi(argv[2]);
	g.n_rules = (uint32_t)atoi(argv[3]);
	highway_geometry_complete(&g);
	if (argc > 4) {
		if (highway_port_region_open(argv[4], true, &g, mac, &map, &fd, &adopted) != 0)
			return 1;
		printf("%s ", adopted ? "adopted" : "made");
	}
	printf("%" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
	       " %" PRIu64 " %" PRIu64 "\n", g.ring_data, g.rules_offset, g.in_rules_offset,
	       g.counters_offset, g.in_counters_offset, g.to_switch_offset, g.to_vnf_offset,
	       g.ring_stride, g.size);
	return 0;
}
