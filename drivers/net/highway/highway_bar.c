/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

/* By what the kernel remembers: reading a device's configuration keeps its hypervisor busy. */
static bool
is_ivshmem(const char *address)
{
	char wanted[32], found[sizeof(wanted)] = "";
	int len = snprintf(wanted, sizeof(wanted), "pci:v%08Xd%08X", HIGHWAY_IVSHMEM_VENDOR,
			   HIGHWAY_IVSHMEM_DEVICE);
	int fd = open_file(address, "modalias", O_RDONLY);
	bool same;

	if (fd < 0)
		return false;
	same = read(fd, found, (size_t)len) == len && memcmp(found, wanted, (size_t)len) == 0;
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

/* Open the device's memory; -1, perhaps with the reason in `why`, if that cannot be. */
static int
open_bar(const char *address, char *why, size_t len)
{
	int fd = open_file(address, "resource" RTE_STR(BAR), O_RDWR);

	if (fd < 0) {
		if (errno != ENOENT) /* that: the kernel has not made the file yet */
			snprintf(why, len, "PCI device %.32s cannot be opened: %s", address,
				 strerror(errno));
		return -1;
	}
	if (has_address(address))
		return fd;
	snprintf(why, len, "the memory of PCI device %.32s got no address: give the VM a larger "
		 "PCI hole", address);
	close(fd);
	return -1;
}

static void
tell_mapping_failed(const char *address, int error, char *why, size_t len)
{
	if (error == EPERM || error == EACCES)
		snprintf(why, len, "this kernel forbids programs to map PCI memory (lockdown)");
	else
		snprintf(why, len, "the memory of PCI device %.32s cannot be mapped: %s", address,
			 strerror(error));
}

/*
 * Does the device's memory begin with such a region? Only the first page is mapped: a link's device
 * is looked for every millisecond until it is there, among all others.
 */
static bool
is_region(const char *address, uint64_t magic, uint64_t region_id, char *why, size_t len)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const struct highway_header *header;
	int fd = open_bar(address, why, len);
	bool same;

	if (fd < 0)
		return false;
	header = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (header == MAP_FAILED) {
		tell_mapping_failed(address, errno, why, len);
		return false;
	}
	same = header->magic == magic && (region_id == 0 || header->region_id == region_id);
	munmap((void *)(uintptr_t)header, page);
	return same;
}

static int
map_bar(const char *address, struct highway_map *map, char *why, size_t len)
{
	int fd = open_bar(address, why, len), ret;
	struct stat st;

	if (fd < 0)
		return -ENOENT;
	ret = fstat(fd, &st) == 0 ? highway_map_fd(map, fd, (uint64_t)st.st_size) : -errno;
	close(fd);
	if (ret != 0)
		tell_mapping_failed(address, -ret, why, len);
	return ret;
}

/* Once, since ports that are not there yet are looked for again and again. */
static void
complain(const char *why)
{
	static char last[HIGHWAY_TEXT_LEN];

	if (why[0] == '\0' || strcmp(why, last) == 0)
		return;
	snprintf(last, sizeof(last), "%s", why);
	HW_LOG(WARNING, "%s", why);
}

/* Is the device a port? What cannot be told is logged and left alone. */
static bool
is_port(const char *address, struct highway_bar_port *port)
{
	const struct highway_port_region *region;
	char why[HIGHWAY_TEXT_LEN] = "";
	struct highway_map map = { 0 };
	const char *fault = NULL;

	if (!is_region(address, HIGHWAY_PORT_MAGIC, 0, why, sizeof(why)) ||
	    map_bar(address, &map, why, sizeof(why)) != 0) {
		complain(why);
		return false;
	}
	region = map.base;
	if (highway_port_region_check(&map, &port->geometry, &fault) != 0)
		HW_LOG(WARNING, "PCI device %.32s is no port that can be used: %s", address, fault);
	port->region_id = region->header.region_id;
	memcpy(port->name, region->name, sizeof(port->name));
	port->name[sizeof(port->name) - 1] = '\0';
	highway_unmap(&map);
	return fault == NULL;
}

void
highway_bar_each_port(void (*found)(const char *address, const struct highway_bar_port *port,
				    void *opaque), void *opaque)
{
	struct dirent **entries = NULL;
	/* In the order of their addresses, so that DPDK numbers ports as the VM has them. */
	int i, n = scandir(DEVICES, &entries, NULL, alphasort);

	for (i = 0; i < n; i++) {
		const char *address = entries[i]->d_name;
		struct highway_bar_port port;

		if (address[0] != '.' && is_ivshmem(address) && is_port(address, &port))
			found(address, &port, opaque);
		free(entries[i]);
	}
	free(entries);
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

	while (devices != NULL && ret == -ENOENT && (entry = readdir(devices)) != NULL) {
		if (entry->d_name[0] != '.' && is_ivshmem(entry->d_name) &&
		    is_region(entry->d_name, magic, region_id, why, len))
			ret = map_bar(entry->d_name, map, why, len);
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
