/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/* Pins what highway_shm.h promises: a change here is a change of the ABI version. */

#include <assert.h>
#include <stddef.h>

#include "highway_shm.h"

#define SIZE_IS(type, n) static_assert(sizeof(type) == (n), #type " has changed its size")
#define AT(type, field, n) \
	static_assert(offsetof(type, field) == (n), #type "." #field " has moved")

SIZE_IS(struct highway_desc, 8);
SIZE_IS(struct highway_ring, 256);
AT(struct highway_ring, tail, 128);
SIZE_IS(struct highway_marker, 32);
SIZE_IS(struct highway_sync, 40);
SIZE_IS(struct highway_header, 64);
SIZE_IS(struct highway_key, 64);
AT(struct highway_key, ip_src, 32);
SIZE_IS(struct highway_rule, 192);
AT(struct highway_rule, key, 32);
AT(struct highway_rule, suppressed, 184);
SIZE_IS(struct highway_counter, 16);
SIZE_IS(struct highway_switch_state, 144);
SIZE_IS(struct highway_gate, 128);
SIZE_IS(struct highway_vnf_state, 128);
SIZE_IS(struct highway_queue_stats, 128);
SIZE_IS(struct highway_port_region, HIGHWAY_PORT_HEADER_LEN);
AT(struct highway_port_region, in_rules_offset, 192);
AT(struct highway_port_region, in_counters_offset, 200);
AT(struct highway_port_region, switch_state, 256);
AT(struct highway_port_region, gate, 512);
AT(struct highway_port_region, vnf_state, 640);
AT(struct highway_port_region, queue_stats, 4096);
AT(struct highway_port_region, heard, 6144);
SIZE_IS(struct highway_heard, 32);
AT(struct highway_vnf_state, told, 72);
AT(struct highway_vnf_state, in_ack, 80);
SIZE_IS(struct highway_link_end, 128);
SIZE_IS(struct highway_link_region, HIGHWAY_LINK_HEADER_LEN);
AT(struct highway_link_region, phase, 248);
AT(struct highway_link_region, flags, 252);
AT(struct highway_link_region, pools_offset, 272);
AT(struct highway_link_region, end, 512);
AT(struct highway_link_region, received, 768);
SIZE_IS(struct highway_msg, HIGHWAY_MSG_LEN);
AT(struct highway_msg, body, 32);
AT(struct highway_msg_hello, flags, 152);
AT(struct highway_msg_hello, token, 156);
AT(struct highway_msg_link, flags, 26);
SIZE_IS(struct highway_msg_mismatch, HIGHWAY_MSG_LEN - 32);
SIZE_IS(struct highway_msg_stats, HIGHWAY_MSG_LEN - 32);
SIZE_IS(union highway_msg_body, HIGHWAY_MSG_LEN - 32);
