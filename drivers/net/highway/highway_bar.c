/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_cycles.h>

#include "highway_bar.h"
#include "highway_logs.h"

#define DEVICES "/sys/bus/pci/devices"
#define BAR 2
#define UNSET 0x20000000	/* IORESOURCE_UNSET of the kernel: the BAR has no address */
#define COST_ROUNDS 8
#define COST_BYTES 4096

static int
open_file(const char *address, const char *name, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "/%.32s/%s", address, name);
	return open(path, flags | O_CLOEXEC);
}

static bool
is_ivshmem(const char *address)
{
	const uint16_t wanted[2] = { HIGHWAY_IVSHMEM_VENDOR, HIGHWAY_IVSHMEM_DEVICE };
	uint16_t found[2] = { 0 };
	int fd = open_file(address, "config", O_RDONLY);
	bool same;

	if (fd < 0)
		return false;
	same = read(fd, found, sizeof(found)) == sizeof(found) &&
	       memcmp(found, wanted, sizeof(found)) == 0;
	close(fd);
	return same;
}

/* Without an address, mapping the BAR would map whatever else lies at physical address 0. */
static bool
has_address(const char *address)
{
	uint64_t start = 0, end = 0, flags = UNSET;
	int fd = open_file(address, "resource", O_RDONLY), line;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (file == NULL)
		return false;
	for (line = 0; line <= BAR; line++) {
		if (fscanf(file, "%" SCNx64 " %" SCNx64 " %" SCNx64, &start, &end, &flags) != 3)
			flags = UNSET;
	}
	fclose(file);
	return start != 0 && end > start && (flags & UNSET) == 0;
}

/* -ENOENT: the kernel has not made the file yet. */
static int
map_device(const char *address, struct highway_map *map, char *why, size_t len)
{
	struct stat st;
	int fd, ret;

	fd = open_file(address, "resource" RTE_STR(BAR), O_RDWR);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0) {
		ret = -errno;
		snprintf(why, len, "PCI device %.32s cannot be opened: %s", address,
			 strerror(-ret));
		return ret;
	}
	if (!has_address(address)) {
		close(fd);
		snprintf(why, len, "the memory of PCI device %.32s got no address: give the VM a "
			 "larger PCI hole", address);
		return -ENOSPC;
	}
	ret = fstat(fd, &st) == 0 ? highway_map_fd(map, fd, (uint64_t)st.st_size) : -errno;
	close(fd);
	if (ret == -EPERM || ret == -EACCES)
		snprintf(why, len, "this kernel forbids programs to map PCI memory (lockdown)");
	else if (ret != 0)
		snprintf(why, len, "the memory of PCI device %.32s cannot be mapped: %s", address,
			 strerror(-ret));
	return ret;
}

static bool
is_region(const struct highway_map *map, uint64_t magic, uint64_t region_id)
{
	struct highway_header header;

	memcpy(&header, map->base, sizeof(header));
	return header.magic == magic && (region_id == 0 || header.region_id == region_id);
}

/* -ENOENT: it is something else, or its memory cannot be mapped. */
static int
look_at(const char *address, struct highway_bar_port *port)
{
	const struct highway_port_region *region;
	char why[HIGHWAY_TEXT_LEN];
	struct highway_map map = { 0 };
	const char *fault = NULL;
	int ret = map_device(address, &map, why, sizeof(why));

	if (ret != 0) {
		if (ret != -ENOENT)
			HW_LOG(WARNING, "%s", why);
		return -ENOENT;
	}
	if (!is_region(&map, HIGHWAY_PORT_MAGIC, 0)) {
		highway_unmap(&map);
		return -ENOENT;
	}
	region = map.base;
	ret = highway_port_region_check(&map, &port->geometry, &fault);
	if (ret != 0)
		HW_LOG(WARNING, "PCI device %.32s is no port that can be used: %s", address, fault);
	port->region_id = region->header.region_id;
	memcpy(port->name, region->name, sizeof(port->name));
	port->name[sizeof(port->name) - 1] = '\0';
	highway_unmap(&map);
	return ret == 0 ? 0 : -ENOENT;
}

void
highway_bar_each_port(void (*found)(const char *address, const struct highway_bar_port *port,
				    void *opaque), void *opaque)
{
	DIR *devices = opendir(DEVICES);
	struct dirent *entry;

	while (devices != NULL && (entry = readdir(devices)) != NULL) {
		struct highway_bar_port port;

		if (entry->d_name[0] != '.' && is_ivshmem(entry->d_name) &&
		    look_at(entry->d_name, &port) == 0)
			found(entry->d_name, &port, opaque);
	}
	if (devices != NULL)
		closedir(devices);
}

struct search {
	const char *name;
	struct highway_bar_port *port;
	bool found;
};

static void
compare(const char *address __rte_unused, const struct highway_bar_port *port, void *opaque)
{
	struct search *search = opaque;

	if (strcmp(port->name, search->name) != 0)
		return;
	*search->port = *port;
	search->found = true;
}

int
highway_bar_port_named(const char *name, struct highway_bar_port *port)
{
	struct search search = { name, port, false };

	highway_bar_each_port(compare, &search);
	return search.found ? 0 : -ENOENT;
}

int
highway_bar_map(uint64_t magic, uint64_t region_id, struct highway_map *map, char *why, size_t len)
{
	DIR *devices = opendir(DEVICES);
	struct dirent *entry;
	int ret = -ENOENT;

	while (devices != NULL && ret != 0 && (entry = readdir(devices)) != NULL) {
		int mapped;

		if (entry->d_name[0] == '.' || !is_ivshmem(entry->d_name))
			continue;
		mapped = map_device(entry->d_name, map, why, len);
		if (mapped == 0 && is_region(map, magic, region_id))
			ret = 0;
		else if (mapped == 0)
			highway_unmap(map);
		else if (mapped != -ENOENT)
			ret = mapped; /* perhaps this one; another may still be it */
	}
	if (devices != NULL)
		closedir(devices);
	return ret;
}

/*
 * Eight bytes at a time, as memory that is not cached is read. The best of several rounds, since
 * this thread may lose its core in any of them.
 */
uint32_t
highway_bar_cost(void *memory, size_t len)
{
	uint64_t *words = memory, best = UINT64_MAX, sum = 0;
	size_t n = RTE_MIN(len, (size_t)COST_BYTES) / sizeof(*words), i;
	int round;

	for (round = 0; round < COST_ROUNDS; round++) {
		uint64_t start = rte_rdtsc_precise(), took;

		for (i = 0; i < n; i++)
			__atomic_store_n(&words[i], i, __ATOMIC_RELAXED);
		for (i = 0; i < n; i++)
			sum += __atomic_load_n(&words[i], __ATOMIC_RELAXED);
		took = rte_rdtsc_precise() - start;
		best = RTE_MIN(best, took);
	}
	RTE_SET_USED(sum);
	return (uint32_t)RTE_MIN(best * 1000000000 / rte_get_tsc_hz() / RTE_MAX(n / 8, (size_t)1),
				 (uint64_t)UINT32_MAX);
}
