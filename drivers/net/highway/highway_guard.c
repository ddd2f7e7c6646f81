/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Whoever maps a region can cut its file short, and the next access by anybody is a SIGBUS. The
 * handler here puts private, empty memory in the region's place: then the checks of the rings
 * find impossible indexes, and the port or link is closed instead of the process ended. A SIGBUS
 * anywhere else goes to whoever had the signal before.
 */

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "highway_logs.h"
#include "highway_region.h"

#define MAX_GUARDED 4096

/* Read by the handler without a lock: `size` is set last and cleared first. */
static struct {
	void *base;
	size_t size;
} guarded[MAX_GUARDED];

static struct sigaction before;

static void
on_sigbus(int number, siginfo_t *info, void *context)
{
	unsigned int i;

	for (i = 0; i < MAX_GUARDED; i++) {
		size_t size = __atomic_load_n(&guarded[i].size, __ATOMIC_ACQUIRE);
		void *base = guarded[i].base;

		if (size == 0 || info->si_addr < base ||
		    info->si_addr >= RTE_PTR_ADD(base, size))
			continue;
		if (mmap(base, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == base)
			return;
		break;
	}
	if ((before.sa_flags & SA_SIGINFO) != 0) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
		/* Back to what it was; the access is tried again and ends the process. */
		sigaction(SIGBUS, &before, NULL);
	} else {
		before.sa_handler(number);
	}
}

static void
install(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	static bool installed;

	if (installed)
		return;
	sigemptyset(&action.sa_mask);
	installed = sigaction(SIGBUS, &action, &before) == 0;
}

/** Under highway_lock, or before the port is known to other threads. */
void
highway_guard(const struct highway_map *map)
{
	unsigned int i;

	install();
	for (i = 0; i < MAX_GUARDED; i++) {
		if (guarded[i].size == 0) {
			guarded[i].base = map->base;
			__atomic_store_n(&guarded[i].size, map->size, __ATOMIC_RELEASE);
			return;
		}
	}
	HW_LOG(WARNING, "more than %d regions: the others are not guarded against being cut short",
	       MAX_GUARDED);
}

void
highway_unguard(const struct highway_map *map)
{
	unsigned int i;

	for (i = 0; i < MAX_GUARDED; i++) {
		if (guarded[i].size != 0 && guarded[i].base == map->base)
			__atomic_store_n(&guarded[i].size, 0, __ATOMIC_RELEASE);
	}
}
