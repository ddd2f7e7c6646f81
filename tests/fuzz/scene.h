/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Ports and regions without DPDK's devices. A region is memory that ends where it says. It can be
 * mapped more than once: the hostile peer always has it, the driver when it was told to map it.
 */

#ifndef SCENE_H
#define SCENE_H

#include "fuzz.h"
#include "highway.h"

#define SCENE_QUEUES 2
#define SCENE_RULES 16
#define SCENE_RING_SIZE HIGHWAY_MIN_RING_SIZE
#define SCENE_RING_DATA HIGHWAY_MIN_RING_DATA
#define SCENE_BUFFERS 16
#define SCENE_BUFFER (HIGHWAY_BUFFER_HEADROOM + 4 * HIGHWAY_GRANULE)

struct scene_port {
	struct highway_port port;
	struct rte_eth_dev dev;
	struct rte_eth_dev_data data;
};

#define SCENE_PLACES 3

struct scene_region {
	struct highway_map map;		/**< the peer's */
	struct highway_map places[SCENE_PLACES]; /**< where else it can be mapped */
	bool used[SCENE_PLACES];
	unsigned int next;
};

/** The geometry of all port regions here. */
const struct highway_geometry *scene_geometry(void);

/** The region of a port; sound, and as if nothing had happened yet, each time. */
void scene_port_region(struct scene_region *region, uint64_t region_id);

/** The region of a link between two such ports. */
void scene_link_region(struct scene_region *region, uint64_t link_id, const uint64_t port_id[2]);

/** The ring in a region, of those that begin at an offset. */
struct highway_ring_mem scene_ring(const struct scene_region *region, uint64_t offset,
				   uint32_t queue);
struct highway_ring_mem scene_link_ring(const struct scene_region *region, uint32_t end,
					uint32_t queue);

/** Map it for the driver, each time somewhere else; false if there is no place left. */
bool scene_map(struct scene_region *region, struct highway_map *map);

/** Nobody may touch that mapping any more. false if it is none of this region. */
bool scene_unmap(struct scene_region *region, const struct highway_map *map);

/** How often it is mapped by the driver. */
unsigned int scene_mapped(const struct scene_region *region);

/** A port as ethdev hands it to a driver; without a region. */
void scene_port(struct scene_port *scene, uint16_t port_id, enum highway_role role);

/** A hostile peer writes one field of a region's head, or of one of its rules. */
void scene_scribble_head(struct fuzz_input *in, const struct scene_region *region);
void scene_scribble_rule(struct fuzz_input *in, const struct scene_region *region,
			 uint64_t offset, const uint64_t peer_id[2]);

/** A frame: mostly UDP in IPv4, with ports and length of the input's choice. */
struct rte_mbuf *scene_frame(struct fuzz_input *in, struct rte_mempool *pool);

#endif /* SCENE_H */
