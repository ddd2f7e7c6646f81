/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The files with the burst functions are compiled once for every x86-64 processor and once more
 * with AVX2, whose wider copies need half the stores. HIGHWAY_ISA() names a function after the
 * compilation that it belongs to; the port's probe chooses.
 */

#ifndef HIGHWAY_ISA_H
#define HIGHWAY_ISA_H

#include <stdint.h>

struct rte_mbuf;

#ifdef HIGHWAY_WITH_AVX2
#define HIGHWAY_ISA(name) name##_avx2
#else
#define HIGHWAY_ISA(name) name##_base
#endif

#define HIGHWAY_BURSTS(isa) \
	uint16_t highway_vnf_rx_##isa(void *rxq, struct rte_mbuf **pkts, uint16_t n); \
	uint16_t highway_vnf_tx_##isa(void *txq, struct rte_mbuf **pkts, uint16_t n); \
	uint16_t highway_switch_rx_##isa(void *rxq, struct rte_mbuf **pkts, uint16_t n); \
	uint16_t highway_switch_tx_##isa(void *txq, struct rte_mbuf **pkts, uint16_t n)

HIGHWAY_BURSTS(base);
HIGHWAY_BURSTS(avx2);

#endif /* HIGHWAY_ISA_H */
