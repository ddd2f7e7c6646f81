/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Regions as files and as memory: where they lie, how a port region is made or adopted, and the
 * checks without which no region is used.
 */

#ifndef HIGHWAY_REGION_H
#define HIGHWAY_REGION_H

#include <limits.h>
#include <stddef.h>

#include "highway_ring.h"
#include "highway_shm.h"

/** A region that is mapped into this process. */
struct highway_map {
	void *base;	/**< NULL if not mapped */
	size_t size;	/**< bytes */
};

/** What the owner of a port asks for, and what a checked region has. */
struct highway_geometry {
	uint32_t n_queues;
	uint32_t n_rules;
	uint32_t ring_size;	/**< descriptors */
	uint32_t ring_data;	/**< bytes */
	uint64_t rules_offset;
	uint64_t in_rules_offset;
	uint64_t counters_offset;
	uint64_t in_counters_offset; /**< 0: there are none */
	uint64_t to_switch_offset;
	uint64_t to_vnf_offset;
	uint64_t ring_stride;
	uint64_t size;		/**< bytes of the whole region */
};

/** The run directory: HIGHWAY_RUNDIR, else /run/ovs-highway, without symbolic links. */
const char *highway_rundir(void);

/** Path of `name` in the run directory; -ENAMETOOLONG if it does not fit a unix socket address. */
int highway_rundir_path(char *path, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

uint64_t highway_random_id(void);

/** Fill in everything that follows from the first three fields. */
void highway_geometry_complete(struct highway_geometry *geometry);

/**
 * Open the region of a port if there is a sound one of the same geometry, else make it: in
 * /dev/shm, or in huge pages if there are any and it need not be there. `*adopted` tells which. The
 * file stays locked while `*fd` is open. One that an earlier release has laid out may be adopted
 * too: `*geometry` says what it has.
 *
 * @return 0; -EBUSY if another process has it; -ENOSPC, -EACCES … with a log line.
 */
int highway_port_region_open(const char *port, bool in_shm, struct highway_geometry *geometry,
			     const uint8_t vnf_mac[6], struct highway_map *map, int *fd,
			     bool *adopted);

/** Remove a port's region file, so that the next open makes a new one. */
void highway_port_region_discard(const char *port);

/** Map `size` bytes of `fd`. 0 or -errno. */
int highway_map_fd(struct highway_map *map, int fd, uint64_t size);
void highway_unmap(struct highway_map *map);

/* highway_guard.c: survive that somebody cuts a region's file short. */
void highway_guard(const struct highway_map *map);
void highway_unguard(const struct highway_map *map);

/** Check a mapped port region and take a private copy of its geometry. 0 or -EBADMSG, *why set. */
int highway_port_region_check(const struct highway_map *map, struct highway_geometry *geometry,
			      const char **why);

/** Private, checked copy of a link region's geometry. */
struct highway_link_geometry {
	uint64_t link_id;
	uint64_t port_id[2];
	uint32_t n_queues[2];
	uint32_t ring_size;
	uint32_t ring_data;
	uint64_t ring_offset[2];
	uint64_t ring_stride;
	uint64_t pools_offset[2];
	uint32_t buffer_size[2];	/**< 0: no pools */
	uint32_t n_buffers[2];
};

/** Bytes before the buffers of a pool, and bytes of a pool. */
uint64_t highway_pool_states(uint32_t n_buffers);
uint64_t highway_pool_stride(uint32_t n_buffers, uint32_t buffer_size);

/** The same for a link region. */
int highway_link_region_check(const struct highway_map *map, struct highway_link_geometry *geometry,
			      const char **why);

#endif /* HIGHWAY_REGION_H */
