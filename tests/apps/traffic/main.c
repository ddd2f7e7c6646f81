/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Start: EAL's arguments, ours, a worker on each worker lcore. Queue q of every port belongs to
 * worker q mod n, so that one worker may send and receive by turns, and several share the queues.
 */

#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "traffic.h"

struct settings settings = {
	.burst = 32,
	.n_mbufs = 16384,
	.room = 2048,
	.mtu = 1500,
	.polls = 64,
	.queues = { { 1, 1 } },
	.n_queues = 1,
};
struct rte_mempool *pool;

static struct worker {
	uint64_t rounds;
} __rte_cache_aligned workers[RTE_MAX_LCORE];
static unsigned int n_workers;
static bool quit;

/* --------------------------------------------------------------------------------- workers --- */

static bool
work_on(struct port *port, unsigned int worker)
{
	bool busy = false;
	uint16_t q;

	if (!__atomic_load_n(&port->polled, __ATOMIC_ACQUIRE))
		return false;
	for (q = 0; q < port->n_rxq; q++) {
		if (q % n_workers == worker)
			busy |= receive_some(&port->rx[q]);
	}
	for (q = 0; q < port->n_txq; q++) {
		if ((q + settings.tx_shift) % n_workers == worker)
			busy |= send_some(&port->tx[q]);
	}
	return busy;
}

static int
work(void *opaque)
{
	struct worker *me = opaque;
	unsigned int p, idle = 0;

	while (!__atomic_load_n(&quit, __ATOMIC_RELAXED)) {
		bool busy = false;

		for (p = 0; p < n_ports; p++)
			busy |= work_on(&ports[p], (unsigned int)(me - workers));
		/* Pairs with traffic_settle(). */
		__atomic_store_n(&me->rounds, me->rounds + 1, __ATOMIC_RELEASE);
		if (busy) {
			idle = 0;
		} else if (settings.polls != 0 && ++idle > settings.polls) {
			sched_yield();
		}
	}
	return 0;
}

void
traffic_settle(void)
{
	unsigned int i;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (i = 0; i < n_workers; i++) {
		uint64_t seen = __atomic_load_n(&workers[i].rounds, __ATOMIC_ACQUIRE);

		while (__atomic_load_n(&workers[i].rounds, __ATOMIC_ACQUIRE) < seen + 2)
			rte_delay_us_sleep(50);
	}
}

/* --------------------------------------------------------------------------------- options --- */

static int
parse_queues(const char *text)
{
	for (settings.n_queues = 0; settings.n_queues < MAX_PORTS; settings.n_queues++) {
		unsigned int rx, tx;
		int used = 0;

		if (sscanf(text, "%u:%u%n", &rx, &tx, &used) != 2 || rx < 1 || tx < 1 ||
		    rx > MAX_QUEUES || tx > MAX_QUEUES)
			return -1;
		settings.queues[settings.n_queues].rx = (uint16_t)rx;
		settings.queues[settings.n_queues].tx = (uint16_t)tx;
		text += used;
		if (*text == '\0') {
			settings.n_queues++;
			return 0;
		}
		if (*text++ != ',')
			return -1;
	}
	return -1;
}

static const struct {
	struct option option;
	unsigned int *value;
	unsigned int least, most;
} numbers[] = {
	{ { "burst", required_argument, NULL, 'b' }, &settings.burst, 1, MAX_BURST },
	{ { "mbufs", required_argument, NULL, 'n' }, &settings.n_mbufs, 512, 1 << 20 },
	{ { "room", required_argument, NULL, 'r' }, &settings.room, 128, 16384 },
	{ { "mtu", required_argument, NULL, 'm' }, &settings.mtu, 68, 9216 },
	{ { "seed", required_argument, NULL, 's' }, &frame_seed, 0, UINT32_MAX },
	{ { "source", required_argument, NULL, 'o' }, &settings.source, 0, MAX_SOURCES - 1 },
	{ { "tx-shift", required_argument, NULL, 't' }, &settings.tx_shift, 0, MAX_QUEUES },
	{ { "polls", required_argument, NULL, 'p' }, &settings.polls, 0, UINT32_MAX },
};

static int
parse_number(int key, const char *text)
{
	unsigned long value;
	size_t i;
	char *end;

	for (i = 0; i < RTE_DIM(numbers) && numbers[i].option.val != key; i++)
		;
	if (i == RTE_DIM(numbers))
		return -1;
	value = strtoul(text, &end, 10);
	if (end == text || *end != '\0' || value < numbers[i].least || value > numbers[i].most) {
		fprintf(stderr, "traffic: --%s: give a number from %u to %u\n",
			numbers[i].option.name, numbers[i].least, numbers[i].most);
		return -1;
	}
	*numbers[i].value = (unsigned int)value;
	return 0;
}

static int
parse(int argc, char **argv)
{
	struct option options[RTE_DIM(numbers) + 2] = { 0 };
	size_t i;
	int key;

	for (i = 0; i < RTE_DIM(numbers); i++)
		options[i] = numbers[i].option;
	options[i] = (struct option){ "queues", required_argument, NULL, 'q' };
	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key == 'q' ? parse_queues(optarg) != 0 : parse_number(key, optarg) != 0)
			return -1;
	}
	return optind == argc ? 0 : -1;
}

/* ------------------------------------------------------------------------------------ main --- */

static void
seed_queues(void)
{
	unsigned int p, q;

	for (p = 0; p < n_ports; p++) {
		for (q = 0; q < MAX_QUEUES; q++)
			ports[p].tx[q].random = (uint64_t)frame_seed * 2654435761U +
						(p + 1) * 7919U + q * 104729U + 1;
	}
}

static void
start_workers(void)
{
	unsigned int lcore, i = 0;

	n_workers = rte_lcore_count() - 1;
	RTE_LCORE_FOREACH_WORKER(lcore)
		rte_eal_remote_launch(work, &workers[i++], lcore);
}

int
main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv), ret;

	if (used < 0)
		return 1;
	if (parse(argc - used, argv + used) != 0) {
		fprintf(stderr, "usage: traffic EAL... -- [--queues RX:TX[,RX:TX]...] [--burst N] "
			"[--mbufs N] [--room BYTES] [--mtu N] [--seed N] [--source N] "
			"[--tx-shift N] [--polls N]\n");
		return 2;
	}
	pool = rte_pktmbuf_pool_create("traffic", settings.n_mbufs, 256, 0,
				       (uint16_t)(settings.room + RTE_PKTMBUF_HEADROOM),
				       SOCKET_ID_ANY);
	if (pool == NULL || rte_lcore_count() < 2) {
		fprintf(stderr, "traffic: %s\n", pool == NULL ? "no memory for mbufs" :
			"give one worker lcore at least: --lcores 0@0,1@0");
		return 1;
	}
	ret = ports_open();
	if (ret != 0) {
		fprintf(stderr, "traffic: ports cannot be opened: %s\n", rte_strerror(-ret));
		return 1;
	}
	seed_queues();
	start_workers();
	answer_text(stdout, NULL);
	fflush(stdout);
	command_loop(stdin, stdout);
	__atomic_store_n(&quit, true, __ATOMIC_RELAXED);
	rte_eal_mp_wait_lcore();
	ports_close();
	rte_eal_cleanup();
	return 0;
}
