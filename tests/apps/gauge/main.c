/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Start: EAL's arguments, ours, the ports, two worker lcores: the first one sends, the second one
 * receives.
 */

#include <getopt.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "dialogue.h"
#include "gauge.h"

#define DESCRIPTORS 1024
#define MBUFS 4095
#define CACHE 256
#define PAIRS 100000
#define SERIES 20

struct rte_mempool *tx_pool, *rx_pool;
unsigned int n_ports, n_queues = 1;
uint64_t rdtsc_cycles;

/* The least of several series, for somebody may have interrupted the others. */
static uint64_t
measure_rdtsc(void)
{
	uint64_t least = UINT64_MAX;
	unsigned int series, i;

	for (series = 0; series < SERIES; series++) {
		uint64_t sum = 0;

		for (i = 0; i < PAIRS; i++) {
			uint64_t began = rte_rdtsc();

			sum += rte_rdtsc() - began;
		}
		least = RTE_MIN(least, sum / PAIRS);
	}
	return least;
}

struct rte_mempool *
main_pool(const char *name, uint32_t room)
{
	return rte_pktmbuf_pool_create(name, MBUFS, CACHE, 0, (uint16_t)room, SOCKET_ID_ANY);
}

static int
open_port(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };
	int ret = rte_eth_dev_configure(port, (uint16_t)n_queues, (uint16_t)n_queues, &conf);
	uint16_t q;

	for (q = 0; q < n_queues && ret == 0; q++)
		ret = rte_eth_rx_queue_setup(port, q, DESCRIPTORS, SOCKET_ID_ANY, NULL, rx_pool);
	for (q = 0; q < n_queues && ret == 0; q++)
		ret = rte_eth_tx_queue_setup(port, q, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	return ret == 0 ? rte_eth_dev_start(port) : ret;
}

static int
open_ports(void)
{
	uint16_t port;
	int ret;

	RTE_ETH_FOREACH_DEV(port) {
		ret = open_port(port);
		if (ret != 0)
			return ret;
		n_ports = port + 1U;
	}
	return 0;
}

static int
parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "queues", required_argument, NULL, 'q' },
		{ 0 },
	};
	char *end;
	int key;

	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key != 'q')
			return -1;
		n_queues = (unsigned int)strtoul(optarg, &end, 10);
		if (*end != '\0' || n_queues < 1 || n_queues > MAX_QUEUES)
			return -1;
	}
	return optind == argc ? 0 : -1;
}

int
main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv), ret;

	if (used < 0)
		return 1;
	if (parse(argc - used, argv + used) != 0) {
		fprintf(stderr, "usage: gauge EAL... -- [--queues N]\n");
		return 2;
	}
	tx_pool = main_pool("gauge-tx", RTE_MBUF_DEFAULT_BUF_SIZE);
	rx_pool = main_pool("gauge-rx", RTE_MBUF_DEFAULT_BUF_SIZE);
	if (tx_pool == NULL || rx_pool == NULL || rte_lcore_count() != 3) {
		fprintf(stderr, "gauge: %s\n", tx_pool == NULL || rx_pool == NULL ?
			"no memory for mbufs" : "give two worker lcores: --lcores 0@0,1@0,2@1");
		return 1;
	}
	ret = open_ports();
	if (ret != 0) {
		fprintf(stderr, "gauge: ports cannot be opened: %s\n", rte_strerror(-ret));
		return 1;
	}
	rdtsc_cycles = measure_rdtsc();
	converse(command_obey);
	return 0;
}
