/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * latency: a DPDK application that measures how long frames are under way, by one clock: it is the
 * first and the last of whatever is between its two ports. One worker lcore does all of it.
 *
 * It sends at a rate on port 0, one frame each time that one is due, and receives on port 1. With
 * `echo` what comes there is sent back, and the time ends when it is on port 0 again. A frame is as
 * old as its due time, so that a sender that is held up hides nothing.
 */

#ifndef LATENCY_H
#define LATENCY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_mempool.h>

#define BURST 32
#define MIN_FRAME 60
#define MAX_FRAME 1514

extern struct rte_mempool *pool;

/* ------------------------------------------------------------------------------- histogram --- */

/** Exact up to 2^HISTOGRAM_BITS ns, and to that many bits above. */
#define HISTOGRAM_BITS 6
#define HISTOGRAM_BINS ((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
	uint64_t counts[HISTOGRAM_BINS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/** Write `[[LEAST, COUNT], ...]`: the least time in ns that a bin has, for bins that have some. */
void histogram_write(FILE *out, const struct histogram *histogram);

/* ----------------------------------------------------------------------------------- runs --- */

struct run {
	double rate;		/**< frames per second; 0: as many as go */
	double seconds;
	uint32_t size;		/**< bytes of a frame, without check sequence */
	bool echo;
};

/** NULL: the answer is written; else why not. */
const char *run_measure(FILE *out, const struct run *run);

bool command_obey(FILE *out, char *line);

#endif /* LATENCY_H */
