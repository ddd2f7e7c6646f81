/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * gauge: a DPDK application that measures what a driver's bursts cost, in cycles per packet. One
 * worker lcore sends on a port, another receives on a port.
 *
 * The cycles are those of the time-stamp counter, read in front of each burst call and behind it.
 * The counter waits for no store: what a call has left in the store buffer is paid for by whoever
 * comes next, so `mpps` has the last word. What the two readings cost themselves is measured at
 * start and taken off each call.
 */

#ifndef GAUGE_H
#define GAUGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#define BURST 32
#define MAX_PORTS 32
#define MAX_QUEUES 16
#define MAX_CLASSES 1024
#define MAX_FRAME 1514	/* in a run */
#define MAX_BARE 9234	/* without a port */
#define LEAST_FRAME 60

/** Of the lcore that sends, and of the one that receives, as two processes would have them. */
extern struct rte_mempool *tx_pool, *rx_pool;
extern unsigned int n_ports, n_queues;
extern uint64_t rdtsc_cycles; /**< of a pair of readings with nothing between them */

/** A pool of mbufs of `room` bytes, headroom included; NULL without memory. */
struct rte_mempool *main_pool(const char *name, uint32_t room);

/* --------------------------------------------------------------------------------- windows --- */

/** Where a measurement is: it warms up, counts, has the sender end, has the receiver end. */
enum phase { PHASE_WARM, PHASE_COUNT, PHASE_SENT, PHASE_END };

enum phase phase_now(void);

/**
 * Have both workers work, and count for so many seconds. A sender returns when the phase is
 * PHASE_SENT, a receiver (NULL: none) at PHASE_END, which is set once the sender has returned.
 * Return round_trip_ns() of before or of behind it, whichever is more.
 */
double phase_run(double seconds, int (*send)(void *), int (*receive)(void *));

/** The time that a cache line takes from worker to worker and back; of several series the best. */
double round_trip_ns(void);

/** The time for which a worker has counted. */
struct window {
	bool open;
	uint64_t begin, end; /**< TSC */
};

static inline double
window_seconds(const struct window *window)
{
	return (double)(window->end - window->begin) / (double)rte_get_tsc_hz();
}

/* ------------------------------------------------------------------------------------ runs --- */

/** What is sent, where and how long. */
struct run {
	uint16_t from;
	int to;			/**< -1: nobody receives */
	double seconds;
	uint32_t size;		/**< bytes of a frame, without check sequence */
	unsigned int n_classes;
	unsigned int n_queues;
};

/** NULL: the answer is written; else why not. */
const char *run_measure(FILE *out, const struct run *run);

/** Make the frames of this many classes; see frames.c. */
void frames_prepare(unsigned int n_classes, uint32_t size);
/** Make mbufs the next frames in turn. */
void frames_write(struct rte_mbuf **pkts, unsigned int n);

/* ------------------------------------------------------------------------------------ limit --- */

const char *limit_measure(FILE *out, double seconds, uint32_t size, bool mbufs, const char *isa);

/* --------------------------------------------------------------------------------- commands --- */

bool command_obey(FILE *out, char *line);

#endif /* GAUGE_H */
