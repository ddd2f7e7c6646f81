/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <rte_common.h>

#include "highway_logs.h"
#include "highway_region.h"

#define PAGE 4096
#define HUGE_PAGE (2 * 1024 * 1024)
#define MAX_REGION ((uint64_t)1 << 30)

static uint64_t
align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

const char *
highway_rundir(void)
{
	static char path[PATH_MAX];
	const char *named;

	if (path[0] != '\0')
		return path;
	named = getenv("HIGHWAY_RUNDIR");
	if (named == NULL || named[0] != '/')
		named = "/run/ovs-highway";
	if (realpath(named, path) == NULL)
		snprintf(path, sizeof(path), "%s", named);
	return path;
}

int
highway_rundir_path(char *path, size_t len, const char *fmt, ...)
{
	int used = snprintf(path, len, "%s/", highway_rundir());
	va_list args;

	va_start(args, fmt);
	used += vsnprintf(path + RTE_MIN((size_t)used, len), len - RTE_MIN((size_t)used, len), fmt,
			  args);
	va_end(args);
	if ((size_t)used >= RTE_MIN(len, sizeof(((struct sockaddr_un *)0)->sun_path)))
		return -ENAMETOOLONG;
	return 0;
}

static uint64_t
rundir_tag(void)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	const char *c;

	for (c = highway_rundir(); *c != '\0'; c++)
		hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
	return hash;
}

uint64_t
highway_random_id(void)
{
	uint64_t id = 0;

	while (id == 0) {
		if (getrandom(&id, sizeof(id), 0) != sizeof(id))
			id = ((uint64_t)getpid() << 32) ^ (uint64_t)(uintptr_t)&id;
	}
	return id;
}

/* `counted`: with counters of inbound rules. */
static void
lay_out(struct highway_geometry *g, uint64_t data_per_slot, bool counted)
{
	uint64_t end, table, counters;

	g->ring_data = RTE_MAX((uint32_t)HIGHWAY_MIN_RING_DATA,
			       (uint32_t)align_up(g->ring_size * data_per_slot, PAGE));
	g->ring_stride = align_up(HIGHWAY_RING_DESC_OFFSET +
				  (uint64_t)g->ring_size * sizeof(struct highway_desc) +
				  g->ring_data, PAGE);
	g->rules_offset = HIGHWAY_PORT_HEADER_LEN;
	table = align_up((uint64_t)g->n_rules * sizeof(struct highway_rule), PAGE);
	g->in_rules_offset = g->rules_offset + table;
	g->counters_offset = g->in_rules_offset + table;
	counters = (uint64_t)g->n_queues * g->n_rules * sizeof(struct highway_counter);
	end = g->counters_offset + counters;
	g->in_counters_offset = 0;
	if (counted) {
		g->in_counters_offset = align_up(end, PAGE);
		end = g->in_counters_offset + counters;
	}
	g->to_switch_offset = align_up(end, PAGE);
	g->to_vnf_offset = g->to_switch_offset + g->n_queues * g->ring_stride;
	end = g->to_vnf_offset + g->n_queues * g->ring_stride;
	for (g->size = HUGE_PAGE; g->size < end; g->size *= 2)
		;
}

void
highway_geometry_complete(struct highway_geometry *g)
{
	lay_out(g, HIGHWAY_DATA_PER_SLOT, true);
}

/* Is this what the sizes that are wanted give, in this release or the one before? */
static bool
fitting(const struct highway_geometry *found, const struct highway_geometry *wanted)
{
	struct highway_geometry former = *wanted;

	if (memcmp(found, wanted, sizeof(*found)) == 0)
		return true;
	lay_out(&former, HIGHWAY_FORMER_DATA_PER_SLOT, false);
	return memcmp(found, &former, sizeof(*found)) == 0;
}

/* ------------------------------------------------------------------------------- checking --- */

static const char *
header_fault(const struct highway_map *map, uint64_t magic, struct highway_header *header)
{
	if (map->size < HIGHWAY_PORT_HEADER_LEN)
		return "it is too small for a header";
	memcpy(header, map->base, sizeof(*header));
	if (header->magic != magic)
		return "its magic is wrong";
	if (header->abi_version < HIGHWAY_ABI_OLDEST || header->abi_oldest > HIGHWAY_ABI_VERSION)
		return "its ABI version does not fit this driver";
	if (header->size != map->size || header->region_id == 0)
		return "its header names another size";
	return NULL;
}

static bool
rings_fit(uint64_t offset, uint32_t n, uint64_t stride, uint64_t size)
{
	return offset % PAGE == 0 && offset <= size && stride <= size &&
	       n * stride <= size - offset;
}

static bool
ring_sound(uint32_t ring_size, uint32_t ring_data, uint64_t stride)
{
	return rte_is_power_of_2(ring_size) && ring_size >= HIGHWAY_MIN_RING_SIZE &&
	       ring_size <= HIGHWAY_MAX_RING_SIZE && ring_data >= HIGHWAY_MIN_RING_DATA &&
	       ring_data <= MAX_REGION && ring_data % HIGHWAY_GRANULE == 0 && stride % PAGE == 0 &&
	       stride >= HIGHWAY_RING_DESC_OFFSET + ring_size * 8ULL + ring_data;
}

uint64_t
highway_pool_states(uint32_t n_buffers)
{
	return align_up(n_buffers, PAGE);
}

uint64_t
highway_pool_stride(uint32_t n_buffers, uint32_t buffer_size)
{
	return align_up(highway_pool_states(n_buffers) + (uint64_t)n_buffers * buffer_size, PAGE);
}

static bool
pools_sound(const struct highway_link_geometry *g, int end, uint64_t size)
{
	uint32_t buffer = g->buffer_size[end];

	if (buffer == 0)
		return true;
	return buffer > HIGHWAY_BUFFER_HEADROOM && buffer <= HIGHWAY_MAX_BUFFER &&
	       buffer % HIGHWAY_GRANULE == 0 && rte_is_power_of_2(g->n_buffers[end]) &&
	       g->n_buffers[end] <= g->ring_size &&
	       rings_fit(g->pools_offset[end], g->n_queues[end],
			 highway_pool_stride(g->n_buffers[end], buffer), size);
}

int
highway_port_region_check(const struct highway_map *map, struct highway_geometry *g,
			  const char **why)
{
	const struct highway_port_region *region = map->base;
	struct highway_header header;
	uint64_t counters;

	*why = header_fault(map, HIGHWAY_PORT_MAGIC, &header);
	if (*why != NULL)
		return -EBADMSG;
	*g = (struct highway_geometry){
		.n_queues = region->n_queues,
		.n_rules = region->n_rules,
		.ring_size = region->ring_size,
		.ring_data = region->ring_data,
		.rules_offset = region->rules_offset,
		.in_rules_offset = region->in_rules_offset,
		.counters_offset = region->counters_offset,
		.in_counters_offset = region->in_counters_offset,
		.to_switch_offset = region->to_switch_offset,
		.to_vnf_offset = region->to_vnf_offset,
		.ring_stride = region->ring_stride,
		.size = header.size,
	};
	counters = (uint64_t)g->n_rules * g->n_queues * sizeof(struct highway_counter);
	if (g->n_queues == 0 || g->n_queues > HIGHWAY_MAX_QUEUES || g->n_rules == 0 ||
	    g->n_rules > HIGHWAY_MAX_RULES)
		*why = "its number of queues or rules is out of range";
	else if (!ring_sound(g->ring_size, g->ring_data, g->ring_stride))
		*why = "its ring size is out of range";
	else if (!rings_fit(g->rules_offset, 1, g->n_rules * sizeof(struct highway_rule),
			    g->size) ||
		 !rings_fit(g->in_rules_offset, 1, g->n_rules * sizeof(struct highway_rule),
			    g->size) ||
		 !rings_fit(g->counters_offset, 1, counters, g->size) ||
		 !rings_fit(g->in_counters_offset, 1, counters, g->size) ||
		 !rings_fit(g->to_switch_offset, g->n_queues, g->ring_stride, g->size) ||
		 !rings_fit(g->to_vnf_offset, g->n_queues, g->ring_stride, g->size))
		*why = "its parts do not fit into it";
	return *why == NULL ? 0 : -EBADMSG;
}

int
highway_link_region_check(const struct highway_map *map, struct highway_link_geometry *g,
			  const char **why)
{
	const struct highway_link_region *region = map->base;
	struct highway_header header;
	int end;

	*why = header_fault(map, HIGHWAY_LINK_MAGIC, &header);
	if (*why != NULL)
		return -EBADMSG;
	*g = (struct highway_link_geometry){
		.link_id = header.region_id,
		.port_id = { region->port_id[0], region->port_id[1] },
		.n_queues = { region->n_queues[0], region->n_queues[1] },
		.ring_size = region->ring_size,
		.ring_data = region->ring_data,
		.ring_offset = { region->ring_offset[0], region->ring_offset[1] },
		.ring_stride = region->ring_stride,
		.pools_offset = { region->pools_offset[0], region->pools_offset[1] },
		.buffer_size = { region->buffer_size[0], region->buffer_size[1] },
		.n_buffers = { region->n_buffers[0], region->n_buffers[1] },
	};
	if (!ring_sound(g->ring_size, g->ring_data, g->ring_stride))
		*why = "its ring size is out of range";
	for (end = 0; end < 2; end++) {
		if (g->n_queues[end] == 0 || g->n_queues[end] > HIGHWAY_MAX_QUEUES)
			*why = "its number of queues is out of range";
		else if (!rings_fit(g->ring_offset[end], g->n_queues[end], g->ring_stride,
				    header.size))
			*why = "its rings do not fit into it";
		else if (!pools_sound(g, end, header.size))
			*why = "its buffers do not fit into it";
	}
	return *why == NULL ? 0 : -EBADMSG;
}

/* ------------------------------------------------------------------------ files and mapping --- */

int
highway_map_fd(struct highway_map *map, int fd, uint64_t size)
{
	struct stat st;

	if (size < HIGHWAY_PORT_HEADER_LEN || size > MAX_REGION)
		return -EINVAL;
	/* A mapping beyond the file's end would be a SIGBUS at the first touch. */
	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size < size)
		return -EMSGSIZE;
	map->base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map->base == MAP_FAILED) {
		map->base = NULL;
		return -errno;
	}
	map->size = size;
	highway_guard(map);
	return 0;
}

void
highway_unmap(struct highway_map *map)
{
	if (map->base != NULL) {
		highway_unguard(map);
		munmap(map->base, map->size);
	}
	map->base = NULL;
	map->size = 0;
}

/* The folders where regions may lie, best first: the first hugetlbfs mount, then /dev/shm. */
static int
region_folders(char folders[2][PATH_MAX])
{
	char line[2 * PATH_MAX], type[64], dir[PATH_MAX];
	FILE *mounts = fopen("/proc/mounts", "re");
	struct statfs fs;
	int n = 0;

	if (mounts != NULL) {
		while (fgets(line, sizeof(line), mounts) != NULL) {
			if (sscanf(line, "%*s %4095s %63s", dir, type) != 2 ||
			    strcmp(type, "hugetlbfs") != 0 || access(dir, W_OK) != 0 ||
			    statfs(dir, &fs) != 0 || fs.f_bsize > HUGE_PAGE)
				continue;
			if (n == 0 || strcmp(dir, "/dev/hugepages") == 0)
				snprintf(folders[0], PATH_MAX, "%s", dir);
			n = 1;
		}
		fclose(mounts);
	}
	snprintf(folders[n], PATH_MAX, "/dev/shm");
	return n + 1;
}

static int
region_path(char *path, size_t len, const char *folder, const char *port)
{
	int used = snprintf(path, len, "%s/ovs-highway-%016" PRIx64 "-port-%s", folder,
			    rundir_tag(), port);

	return (size_t)used < len ? 0 : -ENAMETOOLONG;
}

void
highway_port_region_discard(const char *port)
{
	char folders[2][PATH_MAX], path[PATH_MAX];
	int i, n = region_folders(folders);

	for (i = 0; i < n; i++) {
		if (region_path(path, sizeof(path), folders[i], port) == 0)
			unlink(path);
	}
}

static int
make_file(const char *path, uint64_t size, int *fd)
{
	char fresh[PATH_MAX + 8];
	int ret;

	/* No port's name has a '~'. In /dev/shm, what others have put there is not touched. */
	snprintf(fresh, sizeof(fresh), "%s~", path);
	unlink(fresh);
	*fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		return -errno;
	/* Allocated now: memory that runs out later would be a SIGBUS in somebody's data path. */
	if (ftruncate(*fd, (off_t)size) != 0 || fallocate(*fd, 0, 0, (off_t)size) != 0 ||
	    flock(*fd, LOCK_EX | LOCK_NB) != 0 || rename(fresh, path) != 0) {
		ret = -errno;
		unlink(fresh);
		close(*fd);
		return ret;
	}
	return 0;
}

static void
fill_in(struct highway_map *map, const char *port, const struct highway_geometry *g,
	const uint8_t vnf_mac[6])
{
	struct highway_port_region *region = map->base;

	region->header.abi_version = HIGHWAY_ABI_VERSION;
	region->header.abi_oldest = HIGHWAY_ABI_OLDEST;
	region->header.size = g->size;
	region->header.region_id = highway_random_id();
	region->header.rundir_tag = rundir_tag();
	snprintf(region->name, sizeof(region->name), "%s", port);
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
	memcpy(region->vnf_mac, vnf_mac, sizeof(region->vnf_mac));
	/* The last word: whoever sees the magic sees all of the above. */
	__atomic_store_n(&region->header.magic, (uint64_t)HIGHWAY_PORT_MAGIC, __ATOMIC_RELEASE);
}

/* 0: adopted; -ENOENT: nothing there that can be used; -EBUSY. */
static int
adopt(const char *path, const char *port, struct highway_geometry *geometry,
      struct highway_map *map, int *fd)
{
	const struct highway_port_region *region;
	struct highway_geometry found;
	const char *why = NULL;
	struct stat st;
	int tries;

	*fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0)
		return -ENOENT;
	/* highwayd has the lock for a moment while it deletes the region of a deleted port. */
	for (tries = 0; flock(*fd, LOCK_EX | LOCK_NB) != 0; tries++) {
		if (tries == 50) {
			close(*fd);
			return -EBUSY;
		}
		usleep(1000);
	}
	if (fstat(*fd, &st) != 0 || st.st_nlink == 0 || st.st_uid != geteuid() ||
	    highway_map_fd(map, *fd, (uint64_t)st.st_size) != 0) {
		close(*fd);
		return -ENOENT;
	}
	region = map->base;
	if (highway_port_region_check(map, &found, &why) == 0) {
		if (strncmp(region->name, port, sizeof(region->name)) != 0)
			why = "it is another port's";
		else if (!fitting(&found, geometry))
			why = "its geometry is another one";
	}
	if (why == NULL) {
		*geometry = found;
		return 0;
	}
	HW_LOG(NOTICE, "port %s: the region left at %s is replaced: %s", port, path, why);
	highway_unmap(map);
	unlink(path);
	close(*fd);
	return -ENOENT;
}

int
highway_port_region_open(const char *port, bool in_shm, struct highway_geometry *geometry,
			 const uint8_t vnf_mac[6], struct highway_map *map, int *fd, bool *adopted)
{
	char folders[2][PATH_MAX], path[PATH_MAX];
	int i, n = region_folders(folders), first = in_shm ? n - 1 : 0, ret = -ENOENT;

	/* One that the other setting has left is nobody's. */
	for (i = 0; i < first; i++) {
		if (region_path(path, sizeof(path), folders[i], port) == 0)
			unlink(path);
	}
	for (i = first; i < n; i++) {
		if (region_path(path, sizeof(path), folders[i], port) != 0)
			continue;
		ret = adopt(path, port, geometry, map, fd);
		if (ret == 0) {
			*adopted = true;
			return 0;
		}
		if (ret == -EBUSY) {
			HW_LOG(ERR, "port %s: another process of this run directory has the port "
			       "(%s is locked); end it first", port, path);
			return ret;
		}
	}
	for (i = first; i < n; i++) {
		ret = region_path(path, sizeof(path), folders[i], port);
		if (ret == 0)
			ret = make_file(path, geometry->size, fd);
		if (ret == 0)
			break;
		HW_LOG(NOTICE, "port %s: no room for a region of %" PRIu64 " MiB in %s: %s", port,
		       geometry->size >> 20, folders[i], strerror(-ret));
	}
	if (ret != 0) {
		HW_LOG(ERR, "port %s: no memory for its region: raise vm.nr_hugepages or free "
		       "/dev/shm", port);
		return ret;
	}
	ret = highway_map_fd(map, *fd, geometry->size);
	if (ret != 0) {
		HW_LOG(ERR, "port %s: cannot map %s: %s", port, path, strerror(-ret));
		unlink(path);
		close(*fd);
		return ret;
	}
	fill_in(map, port, geometry, vnf_mac);
	*adopted = false;
	return 0;
}
