/* SPDX-License-Identifier: Apache-2.0 */

#include <inttypes.h>

#include <rte_common.h>

#include "latency.h"

#define STEPS (UINT64_C(1) << HISTOGRAM_BITS)

/* Bins 0 to STEPS - 1 are of one each; after them STEPS for each further power of two. */
static uint32_t
bin_of(uint64_t ns)
{
	uint32_t shift;

	if (ns < STEPS)
		return (uint32_t)ns;
	shift = (uint32_t)(63 - __builtin_clzll(ns)) - HISTOGRAM_BITS;
	return ((shift + 1) << HISTOGRAM_BITS) + (uint32_t)((ns >> shift) - STEPS);
}

static uint64_t
least_of(uint32_t bin)
{
	uint32_t shift = bin >> HISTOGRAM_BITS;
	uint64_t step = bin & (STEPS - 1);

	return shift == 0 ? step : (STEPS + step) << (shift - 1);
}

void
histogram_add(struct histogram *histogram, uint64_t ns)
{
	histogram->counts[bin_of(ns)]++;
}

void
histogram_write(FILE *out, const struct histogram *histogram)
{
	const char *between = "";
	uint32_t bin;

	fputc('[', out);
	for (bin = 0; bin < HISTOGRAM_BINS; bin++) {
		if (histogram->counts[bin] == 0)
			continue;
		fprintf(out, "%s[%" PRIu64 ", %" PRIu64 "]", between, least_of(bin),
			histogram->counts[bin]);
		between = ", ";
	}
	fputc(']', out);
}
