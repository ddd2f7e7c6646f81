/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#ifndef HIGHWAY_LOGS_H
#define HIGHWAY_LOGS_H

#include <rte_log.h>

extern int highway_logtype; /* "pmd.net.highway" */

/* One line, ending with a newline of its own. */
#define HW_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, highway_logtype, "net_highway: " fmt "\n", ##__VA_ARGS__)

#endif /* HIGHWAY_LOGS_H */
