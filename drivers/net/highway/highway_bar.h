/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * In a virtual machine regions are the memory of ivshmem devices: PCI BAR 2, mapped through sysfs,
 * so that neither UIO nor VFIO is needed. A region is known by what its header says, not by the
 * slot in which its device is plugged.
 */

#ifndef HIGHWAY_BAR_H
#define HIGHWAY_BAR_H

#include "highway_region.h"

#define HIGHWAY_IVSHMEM_VENDOR 0x1af4
#define HIGHWAY_IVSHMEM_DEVICE 0x1110

/** A port whose region is the memory of a device of this machine. */
struct highway_bar_port {
	char name[HIGHWAY_NAME_LEN];
	uint64_t region_id;
	struct highway_geometry geometry;
};

/** Call `found` for each device of this machine that is a port; others are left alone. */
void highway_bar_each_port(void (*found)(const char *address, const struct highway_bar_port *port,
					 void *opaque), void *opaque);

/** Find the port of this name. 0, or -ENOENT if no device is that port. */
int highway_bar_port_named(const char *name, struct highway_bar_port *port);

/**
 * Map the region of this magic and id.
 *
 * @return 0; -ENOENT if no device is seen to have it (yet), with a reason in `why` if some device
 *   cannot be looked at; -errno, with the reason in `why`, if it is there and cannot be mapped
 */
int highway_bar_map(uint64_t magic, uint64_t region_id, struct highway_map *map, char *why,
		    size_t len);

/** Nanoseconds that it takes to write 64 bytes at `memory` and to read them, at best. */
uint32_t highway_bar_cost(void *memory, size_t len);

#endif /* HIGHWAY_BAR_H */
