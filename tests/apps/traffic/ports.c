/* SPDX-License-Identifier: Apache-2.0 */

/** @file The ports of this program: opened with the queues asked for, started and stopped. */

#include <errno.h>
#include <string.h>

#include "traffic.h"

#define DESCRIPTORS 1024

struct port ports[MAX_PORTS];
unsigned int n_ports;

static uint16_t
id_of(const struct port *port)
{
	return (uint16_t)(port - ports);
}

static void
open_queues(struct port *port)
{
	uint16_t q;

	for (q = 0; q < port->n_rxq; q++) {
		port->rx[q].port = id_of(port);
		port->rx[q].queue = q;
	}
	for (q = 0; q < port->n_txq; q++) {
		port->tx[q].port = id_of(port);
		port->tx[q].queue = q;
	}
}

static int
open_port(struct port *port)
{
	unsigned int i = RTE_MIN((unsigned int)id_of(port), settings.n_queues - 1);
	struct rte_eth_conf conf = { .rxmode.mtu = settings.mtu };
	struct rte_eth_dev_info info;
	uint16_t q;
	int ret;

	port->n_rxq = settings.queues[i].rx;
	port->n_txq = settings.queues[i].tx;
	port->source = (uint8_t)(settings.source + id_of(port));
	port->forward_to = -1;
	open_queues(port);
	ret = rte_eth_dev_get_name_by_port(id_of(port), port->name);
	if (ret == 0)
		ret = rte_eth_dev_info_get(id_of(port), &info);
	if (ret != 0)
		return ret;
	conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	ret = rte_eth_dev_configure(id_of(port), port->n_rxq, port->n_txq, &conf);
	for (q = 0; q < port->n_rxq && ret == 0; q++)
		ret = rte_eth_rx_queue_setup(id_of(port), q, DESCRIPTORS, SOCKET_ID_ANY, NULL,
					     pool);
	for (q = 0; q < port->n_txq && ret == 0; q++)
		ret = rte_eth_tx_queue_setup(id_of(port), q, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	return ret == 0 ? port_start(port) : ret;
}

int
ports_open(void)
{
	uint16_t p;
	int ret;

	RTE_ETH_FOREACH_DEV(p) {
		if (p >= MAX_PORTS || settings.source + p >= MAX_SOURCES)
			return -ENOSPC;
		ret = open_port(&ports[p]);
		if (ret != 0)
			return ret;
		n_ports = p + 1U;
	}
	return n_ports == 0 ? -ENODEV : 0;
}

void
ports_close(void)
{
	unsigned int p;

	for (p = 0; p < n_ports; p++) {
		if (ports[p].started)
			rte_eth_dev_stop((uint16_t)p);
		rte_eth_dev_close((uint16_t)p);
	}
}

int
port_start(struct port *port)
{
	int ret = rte_eth_dev_start(id_of(port));

	if (ret != 0)
		return ret;
	port->started = true;
	__atomic_store_n(&port->polled, true, __ATOMIC_RELEASE);
	return 0;
}

/** Frames that tx_burst has not taken wait for the next start. */
int
port_stop(struct port *port)
{
	__atomic_store_n(&port->polled, false, __ATOMIC_RELEASE);
	traffic_settle();
	port->started = false;
	return rte_eth_dev_stop(id_of(port));
}
