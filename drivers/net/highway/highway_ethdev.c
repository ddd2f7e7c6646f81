/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The DPDK device: the control operations of both roles.
 */

#include <sys/un.h>
#include <unistd.h>

#include <rte_cpuflags.h>
#include <rte_malloc.h>
#include <rte_vect.h>

#include "highway.h"
#include "highway_isa.h"

#define SWITCH_MAX_TXQ 128 /* OVS wants one per polling thread, and one more */

struct highway_ports highway_ports = TAILQ_HEAD_INITIALIZER(highway_ports);
rte_spinlock_t highway_ports_spin = RTE_SPINLOCK_INITIALIZER;
bool highway_is_switch_port[RTE_MAX_ETHPORTS];
/* Recursive: applications may call back into the driver from a link-state event. */
pthread_mutex_t highway_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static bool
is_switch(const struct highway_port *port)
{
	return port->options.role == HIGHWAY_ROLE_SWITCH;
}

/* ------------------------------------------------------------------------------ link state --- */

/** Tell the application when the link comes or goes. Under highway_lock. */
void
highway_link_status(struct highway_port *port, bool up)
{
	struct rte_eth_link link = {
		.link_speed = RTE_ETH_SPEED_NUM_10G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_FIXED,
		.link_status = up ? RTE_ETH_LINK_UP : RTE_ETH_LINK_DOWN,
	};

	if (port->link_up == up)
		return;
	port->link_up = up;
	rte_eth_linkstatus_set(port->dev, &link);
	HW_LOG(INFO, "port %s: link %s", port->options.port, up ? "up" : "down");
	if (port->dev->data->dev_conf.intr_conf.lsc != 0)
		rte_eth_dev_callback_process(port->dev, RTE_ETH_EVENT_INTR_LSC, NULL);
}

static int
link_update(struct rte_eth_dev *dev __rte_unused, int wait __rte_unused)
{
	return 0; /* the control thread keeps it */
}

static int
set_admin(struct rte_eth_dev *dev, bool up)
{
	struct highway_port *port = dev->data->dev_private;

	pthread_mutex_lock(&highway_lock);
	port->admin_up = up;
	if (is_switch(port)) {
		highway_switch_set_up(port);
		highway_switch_tick(port);
	} else {
		highway_vnf_admin_changed(port);
	}
	pthread_mutex_unlock(&highway_lock);
	return 0;
}

static int
set_link_up(struct rte_eth_dev *dev)
{
	return set_admin(dev, true);
}

static int
set_link_down(struct rte_eth_dev *dev)
{
	return set_admin(dev, false);
}

/* --------------------------------------------------------------------- configure and start --- */

static uint16_t
max_queues(const struct highway_port *port)
{
	if (is_switch(port))
		return 1;
	return port->geometry.n_queues != 0 ? (uint16_t)port->geometry.n_queues :
	       HIGHWAY_MAX_QUEUES;
}

static int
infos_get(struct rte_eth_dev *dev, struct rte_eth_dev_info *info)
{
	const struct highway_port *port = dev->data->dev_private;

	info->max_rx_pktlen = HIGHWAY_MAX_FRAME;
	info->min_rx_bufsize = 0;
	info->max_mtu = HIGHWAY_MAX_FRAME - RTE_ETHER_HDR_LEN - RTE_VLAN_HLEN;
	info->min_mtu = RTE_ETHER_MIN_MTU;
	info->max_mac_addrs = 1;
	info->max_rx_queues = max_queues(port);
	info->max_tx_queues = is_switch(port) ? SWITCH_MAX_TXQ : max_queues(port);
	info->rx_desc_lim.nb_max = HIGHWAY_MAX_RING_SIZE;
	info->tx_desc_lim.nb_max = HIGHWAY_MAX_RING_SIZE;
	info->speed_capa = RTE_ETH_LINK_SPEED_10G | RTE_ETH_LINK_SPEED_FIXED;
	/* Advertised with the result "unknown", since programs insist; no wire, no errors. */
	info->rx_offload_capa = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM |
				RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
	/* OVS cannot handle chained mbufs; its buffers fit its MTU. */
	if (!is_switch(port))
		info->rx_offload_capa |= RTE_ETH_RX_OFFLOAD_SCATTER;
	info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (!is_switch(port))
		info->tx_offload_capa |= RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	info->dev_capa = RTE_ETH_DEV_CAPA_FLOW_RULE_KEEP;
	return 0;
}

static int
configure(struct rte_eth_dev *dev)
{
	const struct highway_port *port = dev->data->dev_private;
	uint16_t most = max_queues(port);

	if (!is_switch(port) &&
	    (dev->data->nb_rx_queues > most || dev->data->nb_tx_queues > most)) {
		HW_LOG(ERR, "port %s: %u receive and %u transmit queues, but it has %u: add the "
		       "port with queues=N in the switch", port->options.port,
		       dev->data->nb_rx_queues, dev->data->nb_tx_queues, most);
		return -EINVAL;
	}
	return 0;
}

static int
start(struct rte_eth_dev *dev)
{
	struct highway_port *port = dev->data->dev_private;
	int ret = 0;

	dev->data->scattered_rx =
		(dev->data->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
	pthread_mutex_lock(&highway_lock);
	if (is_switch(port)) {
		port->started = true;
		highway_switch_set_up(port);
		highway_switch_tick(port);
	} else {
		ret = highway_vnf_start(port);
		highway_vnf_update_link(port);
	}
	pthread_mutex_unlock(&highway_lock);
	return ret;
}

static int
stop(struct rte_eth_dev *dev)
{
	struct highway_port *port = dev->data->dev_private;

	pthread_mutex_lock(&highway_lock);
	if (is_switch(port)) {
		port->started = false;
		highway_switch_set_up(port);
		highway_switch_tick(port);
	} else {
		highway_vnf_stop(port);
		highway_vnf_update_link(port);
	}
	dev->data->dev_started = 0;
	pthread_mutex_unlock(&highway_lock);
	return 0;
}

static int
close_port(struct rte_eth_dev *dev)
{
	struct highway_port *port = dev->data->dev_private;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return 0;
	pthread_mutex_lock(&highway_lock);
	if (is_switch(port)) {
		highway_is_switch_port[dev->data->port_id] = false;
		highway_switch_close(port);
	} else {
		highway_vnf_stop(port);
		highway_vnf_detach(port);
	}
	highway_ctrl_remove(port);
	pthread_mutex_unlock(&highway_lock);
	dev->data->mac_addrs = NULL; /* lies in dev_private */
	return 0;
}

/* ---------------------------------------------------------------------------------- queues --- */

static int
rx_queue_setup(struct rte_eth_dev *dev, uint16_t id, uint16_t n_desc __rte_unused,
	       unsigned int socket, const struct rte_eth_rxconf *conf __rte_unused,
	       struct rte_mempool *pool)
{
	struct highway_port *port = dev->data->dev_private;
	struct highway_vnf_rxq *rxq;

	if (is_switch(port)) {
		port->sw->rxq.pool = pool;
		dev->data->rx_queues[id] = &port->sw->rxq;
		return 0;
	}
	rxq = rte_zmalloc_socket("highway_rxq", sizeof(*rxq), RTE_CACHE_LINE_SIZE, (int)socket);
	if (rxq == NULL)
		return -ENOMEM;
	rxq->port = port;
	rxq->queue = id;
	rxq->pool = pool;
	rxq->external = port->options.external && highway_loans_fit(pool);
	rxq->pause_cycles = HIGHWAY_PAUSE_NS * (rte_get_tsc_hz() / 1000000) / 1000;
	dev->data->rx_queues[id] = rxq;
	return 0;
}

static int
tx_queue_setup(struct rte_eth_dev *dev, uint16_t id, uint16_t n_desc __rte_unused,
	       unsigned int socket, const struct rte_eth_txconf *conf __rte_unused)
{
	struct highway_port *port = dev->data->dev_private;
	struct highway_vnf_txq *txq;

	if (is_switch(port)) {
		dev->data->tx_queues[id] = &port->sw->txq;
		return 0;
	}
	txq = rte_zmalloc_socket("highway_txq", sizeof(*txq), RTE_CACHE_LINE_SIZE, (int)socket);
	if (txq == NULL)
		return -ENOMEM;
	txq->port = port;
	txq->queue = id;
	txq->fast_free = (dev->data->dev_conf.txmode.offloads &
			  RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE) != 0;
	dev->data->tx_queues[id] = txq;
	return 0;
}

static void
rx_queue_release(struct rte_eth_dev *dev, uint16_t id)
{
	if (!is_switch(dev->data->dev_private))
		rte_free(dev->data->rx_queues[id]);
	dev->data->rx_queues[id] = NULL;
}

static void
tx_queue_release(struct rte_eth_dev *dev, uint16_t id)
{
	if (!is_switch(dev->data->dev_private))
		rte_free(dev->data->tx_queues[id]);
	dev->data->tx_queues[id] = NULL;
}

/* ---------------------------------------------------------------------------- the other ops --- */

static int
accept_all(struct rte_eth_dev *dev __rte_unused)
{
	return 0; /* every frame is for this port, whatever its address */
}

static int
mac_addr_set(struct rte_eth_dev *dev __rte_unused, struct rte_ether_addr *mac __rte_unused)
{
	return 0;
}

static int
mtu_set(struct rte_eth_dev *dev, uint16_t mtu)
{
	struct highway_port *port = dev->data->dev_private;

	if (!is_switch(port))
		return 0; /* what may be sent is the switch's to say */
	pthread_mutex_lock(&highway_lock);
	dev->data->mtu = mtu;
	highway_switch_set_up(port);
	pthread_mutex_unlock(&highway_lock);
	return 0;
}

static int
flow_ops_get(struct rte_eth_dev *dev __rte_unused, const struct rte_flow_ops **ops)
{
	*ops = &highway_flow_ops;
	return 0;
}

static const struct eth_dev_ops highway_ops = {
	.dev_configure = configure,
	.dev_start = start,
	.dev_stop = stop,
	.dev_close = close_port,
	.dev_set_link_up = set_link_up,
	.dev_set_link_down = set_link_down,
	.dev_infos_get = infos_get,
	.link_update = link_update,
	.rx_queue_setup = rx_queue_setup,
	.tx_queue_setup = tx_queue_setup,
	.rx_queue_release = rx_queue_release,
	.tx_queue_release = tx_queue_release,
	.promiscuous_enable = accept_all,
	.promiscuous_disable = accept_all,
	.allmulticast_enable = accept_all,
	.allmulticast_disable = accept_all,
	.mac_addr_set = mac_addr_set,
	.mtu_set = mtu_set,
	.stats_get = highway_stats_get,
	.stats_reset = highway_stats_reset,
	.xstats_get = highway_xstats_get,
	.xstats_get_names = highway_xstats_get_names,
	.xstats_reset = highway_xstats_reset,
	.flow_ops_get = flow_ops_get,
};

/* ---------------------------------------------------------------------------------- probing --- */

/* The same port has the same addresses in every life: the VNF's, and the switch's own. */
static struct rte_ether_addr
stable_mac(const char *port, uint8_t first_byte)
{
	struct rte_ether_addr mac = { .addr_bytes = { first_byte } };
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	int i;

	for (; *port != '\0'; port++)
		hash = (hash ^ (uint8_t)*port) * UINT64_C(0x100000001b3);
	for (i = 1; i < RTE_ETHER_ADDR_LEN; i++)
		mac.addr_bytes[i] = (uint8_t)(hash >> (8 * i));
	return mac;
}

#define SET_BURSTS(dev, role, isa) \
	do { \
		(dev)->rx_pkt_burst = highway_##role##_rx_##isa; \
		(dev)->tx_pkt_burst = highway_##role##_tx_##isa; \
	} while (0)

static void
choose_bursts(struct rte_eth_dev *dev)
{
	bool for_switch = is_switch(dev->data->dev_private);

	if (rte_cpu_get_flag_enabled(RTE_CPUFLAG_AVX2) > 0 &&
	    rte_vect_get_max_simd_bitwidth() >= RTE_VECT_SIMD_256) {
		if (for_switch)
			SET_BURSTS(dev, switch, avx2);
		else
			SET_BURSTS(dev, vnf, avx2);
	} else if (for_switch) {
		SET_BURSTS(dev, switch, base);
	} else {
		SET_BURSTS(dev, vnf, base);
	}
}

/** Does this program have a device for this port? */
bool
highway_ethdev_has(const char *name)
{
	const struct highway_port *port;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (strcmp(port->options.port, name) == 0)
			return true;
	}
	return false;
}

/* In a VM the port is a PCI device, and highwayd is at the other end of a virtio-serial port. */
static bool
over_serial(const struct highway_options *options)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	if (options->role != HIGHWAY_ROLE_VNF || options->socket[0] != '\0')
		return false;
	if (highway_rundir_path(path, sizeof(path), "ports/%s/sock", options->port) == 0 &&
	    access(path, F_OK) == 0)
		return false;
	return highway_serial_exists();
}

/**
 * Make a port of a fresh device, and let the control thread look after it.
 *
 * @param bar
 *   in a VM, the port as its PCI device shows it; NULL if it is still to be found
 * @return 0 or -errno, with a log line; the device is then the caller's to release
 */
int
highway_ethdev_init(struct rte_eth_dev *dev, const struct highway_options *options,
		    const struct highway_bar_port *bar)
{
	struct highway_port *port = dev->data->dev_private;
	int ret;

	port->dev = dev;
	port->options = *options;
	port->epoch = highway_random_id();
	port->admin_up = true;
	port->vnf_mac = stable_mac(options->port, 0x02);
	port->mac = is_switch(port) ? stable_mac(options->port, 0x06) : port->vnf_mac;
	port->conn.serial = bar != NULL || over_serial(options);
	if (bar != NULL)
		port->geometry = bar->geometry;
	TAILQ_INIT(&port->awaited);
	dev->data->mac_addrs = &port->mac;
	dev->data->dev_flags |= RTE_ETH_DEV_INTR_LSC;
	dev->data->promiscuous = 1;
	dev->data->all_multicast = 1;
	dev->data->dev_link = (struct rte_eth_link){
		.link_speed = RTE_ETH_SPEED_NUM_10G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_FIXED,
		.link_status = RTE_ETH_LINK_DOWN,
	};
	dev->dev_ops = &highway_ops;
	choose_bursts(dev);
	if (is_switch(port)) {
		pthread_mutex_lock(&highway_lock);
		ret = highway_switch_open(port);
		pthread_mutex_unlock(&highway_lock);
		if (ret != 0)
			goto forget_mac;
		highway_is_switch_port[dev->data->port_id] = true;
	} else if (highway_presence_init() != 0) {
		HW_LOG(DEBUG, "no membarrier() in this kernel: slower changes of rules");
	}
	ret = highway_ctrl_add(port);
	if (ret != 0) {
		HW_LOG(ERR, "port %s: no control thread: %s", options->port, strerror(-ret));
		goto close_switch;
	}
	return 0;

close_switch:
	if (is_switch(port))
		highway_switch_close(port);
forget_mac:
	dev->data->mac_addrs = NULL; /* lies in dev_private */
	return ret;
}
