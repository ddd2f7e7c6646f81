/* SPDX-License-Identifier: Apache-2.0 */

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "dialogue.h"
#include "latency.h"

#define DESCRIPTORS 1024
#define MBUFS 16383
#define CACHE 256

struct rte_mempool *pool;

static int
open_port(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };
	int ret = rte_eth_dev_configure(port, 1, 1, &conf);

	if (ret == 0)
		ret = rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, pool);
	if (ret == 0)
		ret = rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	return ret == 0 ? rte_eth_dev_start(port) : ret;
}

int
main(int argc, char **argv)
{
	uint16_t port;
	int ret = rte_eal_init(argc, argv);

	if (ret < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("latency", MBUFS, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
				       SOCKET_ID_ANY);
	if (pool == NULL || rte_lcore_count() != 2 || rte_eth_dev_count_avail() != 2) {
		fprintf(stderr, "latency: %s\n", pool == NULL ? "no memory for mbufs" :
			"give one worker lcore, as in --lcores 0@0,1@1, and two ports");
		return 1;
	}
	RTE_ETH_FOREACH_DEV(port) {
		ret = open_port(port);
		if (ret != 0) {
			fprintf(stderr, "latency: port %u cannot be opened: %s\n", port,
				rte_strerror(-ret));
			return 1;
		}
	}
	converse(command_obey);
	return 0;
}
