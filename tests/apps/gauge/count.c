/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * The two workers, the phases of a measurement, and how far apart the workers' cores are before and
 * behind it: the host of a virtual machine moves its cores about, and what two of them pass to each
 * other then takes several times as long.
 */

#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include "gauge.h"

#define WARM_UP_US 100000
#define TRIPS 1000
#define SERIES 20

static enum phase phase;
static struct {
	uint32_t ball __rte_aligned(2 * RTE_CACHE_LINE_SIZE);
	double cycles __rte_aligned(2 * RTE_CACHE_LINE_SIZE);
} table;

/* ------------------------------------------------------------------------------- round trip --- */

static void
pass(uint32_t from, uint32_t to)
{
	while (__atomic_load_n(&table.ball, __ATOMIC_ACQUIRE) != from)
		rte_pause();
	__atomic_store_n(&table.ball, to, __ATOMIC_RELEASE);
}

static int
ping(__rte_unused void *opaque)
{
	double least = 0;
	unsigned int series, i;

	for (series = 0; series < SERIES; series++) {
		uint64_t began = rte_rdtsc();
		double mean;

		for (i = 0; i < TRIPS; i++)
			pass(0, 1);
		mean = (double)(rte_rdtsc() - began) / TRIPS;
		least = series == 0 ? mean : RTE_MIN(least, mean);
	}
	table.cycles = least;
	return 0;
}

static int
pong(__rte_unused void *opaque)
{
	unsigned int i;

	for (i = 0; i < SERIES * TRIPS; i++)
		pass(1, 0);
	return 0;
}

double
round_trip_ns(void)
{
	unsigned int first = rte_get_next_lcore(-1, 1, 0);
	unsigned int second = rte_get_next_lcore(first, 1, 0);

	rte_eal_remote_launch(pong, NULL, second);
	rte_eal_remote_launch(ping, NULL, first);
	rte_eal_wait_lcore(first);
	rte_eal_wait_lcore(second);
	return table.cycles * 1e9 / (double)rte_get_tsc_hz();
}

/* ----------------------------------------------------------------------------------- phases --- */

enum phase
phase_now(void)
{
	return __atomic_load_n(&phase, __ATOMIC_ACQUIRE);
}

static void
set_phase(enum phase next)
{
	__atomic_store_n(&phase, next, __ATOMIC_RELEASE);
}

double
phase_run(double seconds, int (*send)(void *), int (*receive)(void *))
{
	unsigned int sender = rte_get_next_lcore(-1, 1, 0);
	unsigned int receiver = rte_get_next_lcore(sender, 1, 0);
	double before = round_trip_ns(), after;

	set_phase(PHASE_WARM);
	if (receive != NULL)
		rte_eal_remote_launch(receive, NULL, receiver);
	rte_eal_remote_launch(send, NULL, sender);
	rte_delay_us_sleep(WARM_UP_US);
	set_phase(PHASE_COUNT);
	rte_delay_us_sleep((unsigned int)(seconds * 1e6));
	set_phase(PHASE_SENT);
	rte_eal_wait_lcore(sender);
	set_phase(PHASE_END);
	rte_eal_wait_lcore(receiver);
	after = round_trip_ns();
	return RTE_MAX(before, after);
}
