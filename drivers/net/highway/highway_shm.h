/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * Every byte that two processes share: port regions, link regions, rings, and the messages of the
 * control channel. The driver includes this file and Python (ovs_highway.shm) parses the same
 * text, so there is no second description.
 *
 * Rules for editing, because Python drops the preprocessor lines and gives the rest to cffi:
 * fixed-width integers and arrays only, explicit padding, no pointers, no expressions in #define,
 * constants in enums, no inline functions. highway_shm_check.c pins sizes and offsets.
 *
 * All integers are in host byte order unless a comment says "network order". Fields marked
 * [switch], [VNF], [agent] are written by ovs-vswitchd's side, by the VNF's side, or by highwayd
 * (and the highway command); everybody may read. A VNF can write to every byte of what it maps, so
 * every reader bounds what it reads and keeps private copies of what it relies on.
 */

#ifndef HIGHWAY_SHM_H
#define HIGHWAY_SHM_H

#include <stdint.h>

enum highway_limits {
	HIGHWAY_ABI_VERSION = 5,	/**< of this file: regions and messages */
	HIGHWAY_ABI_OLDEST = 3,		/**< oldest version that this one still accepts */
	HIGHWAY_ABI_DIRECTED = 4,	/**< since then, links have terms for each direction */
	HIGHWAY_ABI_COMPARED = 5,	/**< since then, counts of both ends are compared */
	HIGHWAY_ABI_COUNTED = 5,	/**< since then, receivers that check count, too */
	HIGHWAY_NAME_LEN = 64,		/**< port names, with the closing NUL */
	HIGHWAY_TEXT_LEN = 128,		/**< reasons and log lines, with the closing NUL */
	HIGHWAY_MAX_QUEUES = 16,	/**< VNF queues per port */
	HIGHWAY_MAX_RULES = 4096,	/**< rule slots per port */
	HIGHWAY_MAX_LINKS = 64,		/**< links per port */
	HIGHWAY_MAX_FRAME = 9234,	/**< bytes: MTU 9216 + Ethernet header + one VLAN tag */
	HIGHWAY_MIN_RING_SIZE = 64,	/**< descriptors */
	HIGHWAY_MAX_RING_SIZE = 32768,	/**< descriptors */
	HIGHWAY_DEFAULT_RING_SIZE = 2048,
	HIGHWAY_DEFAULT_RULES = 1024,
	HIGHWAY_DATA_PER_SLOT = 396,	/**< bytes of ring data per descriptor */
	HIGHWAY_FORMER_DATA_PER_SLOT = 400, /**< the same before HIGHWAY_ABI_COUNTED */
	/**
	 * In link regions so many, up to so much: what is rewritten should have left the receiver's
	 * nearest caches (docs/performance.md, "The ring")
	 */
	HIGHWAY_LINK_DATA_PER_SLOT = 1024,
	HIGHWAY_LINK_DATA_ENOUGH = 2031616,
	HIGHWAY_MIN_RING_DATA = 262144,	/**< bytes; holds some 28 frames of maximum length */
	HIGHWAY_GRANULE = 128,		/**< bytes; frames start on multiples of it in ring data */
	HIGHWAY_BUFFER_HEADROOM = 128,	/**< bytes before a frame in its buffer */
	HIGHWAY_MAX_BUFFER = 16384,	/**< bytes */
	HIGHWAY_POOL_ENOUGH = 2359296,	/**< bytes of a pool's buffers, at most */
	HIGHWAY_RING_DESC_OFFSET = 4096, /**< bytes from a ring's start to its descriptors */
	HIGHWAY_PORT_HEADER_LEN = 8192,	/**< bytes before the rule table */
	HIGHWAY_LINK_HEADER_LEN = 8192,	/**< bytes before the first ring */
	HIGHWAY_MSG_LEN = 256		/**< bytes of every control message */
};

/** First eight bytes of a region: "HWYPORT1" and "HWYLINK1" as they lie in memory. */
#define HIGHWAY_PORT_MAGIC 0x3154524f50595748
#define HIGHWAY_LINK_MAGIC 0x314b4e494c595748
/** First four bytes of a control message: "HWYM". */
#define HIGHWAY_MSG_MAGIC 0x4d595748

/* ------------------------------------------------------------------------------------ rings --- */

/** What a ring's descriptor stands for. */
enum highway_desc_kind {
	HIGHWAY_DESC_INVALID = 0,
	HIGHWAY_DESC_PACKET = 1,	/**< a frame */
	HIGHWAY_DESC_ENTER = 2,		/**< normal ring, VNF to switch: struct highway_marker */
	HIGHWAY_DESC_LEAVE = 3,		/**< normal ring, VNF to switch: struct highway_marker */
	HIGHWAY_DESC_FENCE = 4,		/**< bypass ring: struct highway_marker */
	HIGHWAY_DESC_SYNC = 5,		/**< normal ring, switch to VNF: struct highway_sync */
	HIGHWAY_DESC_BUFFER = 6		/**< bypass ring: a frame in the descriptor's buffer */
};

enum highway_desc_stamp {
	HIGHWAY_STAMPED = 128
};

/** One entry of a ring; written and read as one 64-bit word. [producer] */
struct highway_desc {
	/** Bytes from the start of the ring's data; BUFFER: where what follows in it begins */
	uint32_t offset;
	uint16_t length;	/**< bytes */
	uint8_t kind;		/**< enum highway_desc_kind */
	/**
	 * index / ring_size % 128 + HIGHWAY_STAMPED: the descriptor is published, and is the one
	 * with this index. 0 from a producer that writes no stamps: only `head` tells of what it
	 * has published
	 */
	uint8_t stamp;
};

/**
 * Single producer, single consumer. In memory: this struct, at HIGHWAY_RING_DESC_OFFSET ring_size
 * descriptors, behind them ring_data bytes. Indexes count descriptors since the region was made
 * and never wrap; slot = index % ring_size. Both indexes stand 128 bytes apart, since neighbouring
 * cache lines are fetched in pairs.
 */
struct highway_ring {
	/** Descriptors published; may be some behind their stamps [producer] */
	uint64_t head;
	uint8_t pad0[120];
	uint64_t tail;		/**< descriptors consumed; ahead of `head` while that lags [consumer] */
	uint8_t pad1[120];
};

/** ENTER, LEAVE and FENCE. */
struct highway_marker {
	uint64_t peer_id;	/**< region id of the receiver's port */
	uint64_t link_id;	/**< region id of the link */
	uint64_t value;		/**< ENTER, FENCE: epoch e. LEAVE: index Be in the bypass ring */
	uint64_t reserved;	/**< 0 */
};

/**
 * What the switch tells a receiver, in order with its packets: every packet that sender queue
 * `queue` put on the normal channel before Enter(entered) is in front of this mark; and before
 * anything behind this mark is taken, the bypass ring is to be emptied up to `leave`.
 */
struct highway_sync {
	uint64_t source_id;	/**< region id of the sender's port */
	uint64_t link_id;	/**< region id of the link */
	uint64_t entered;	/**< latest finished Enter epoch, 0 for none */
	uint64_t leave;		/**< index in the bypass ring, 0 for none */
	uint32_t queue;		/**< the sender's queue */
	uint32_t reserved;	/**< 0 */
};

/* ---------------------------------------------------------------------------------- regions --- */

/** The first 64 bytes of every region. Written once, by the one who makes the region. */
struct highway_header {
	uint64_t magic;		/**< HIGHWAY_PORT_MAGIC or HIGHWAY_LINK_MAGIC, stored last */
	uint32_t abi_version;	/**< HIGHWAY_ABI_VERSION of the maker */
	uint32_t abi_oldest;	/**< oldest ABI version that can work with this region */
	uint64_t size;		/**< bytes, a power of two */
	uint64_t region_id;	/**< random, never 0; names this making of the region */
	uint64_t rundir_tag;	/**< FNV-1a 64 of the run directory's path */
	uint8_t pad[24];
};

/** What a packet is matched on; the key of a rule and, with ones where it counts, its mask. */
struct highway_key {
	uint8_t eth_dst[6];
	uint8_t eth_src[6];
	uint16_t eth_type;	/**< network order; behind the VLAN tag if there is one */
	uint16_t vlan_tci;	/**< network order; bit 0x1000 = a tag is there, 0 = none */
	uint16_t vlan_tpid;	/**< network order; 0 without a tag */
	uint8_t ip_proto;
	uint8_t ip_tos;		/**< IPv6: traffic class */
	uint8_t ip_ttl;		/**< IPv6: hop limit */
	uint8_t ip_frag;	/**< bit 0: a fragment, bit 1: not the first one */
	uint16_t tcp_flags;	/**< network order, 12 bits */
	uint16_t l4_src;	/**< network order; ICMP: type */
	uint16_t l4_dst;	/**< network order; ICMP: code */
	uint32_t reserved;	/**< 0 */
	uint8_t ip_src[16];	/**< IPv4: the first four bytes, the others 0 */
	uint8_t ip_dst[16];
};

enum highway_rule_flags {
	/** The receiver has no copy of the rule, so it is not for links that are checked */
	HIGHWAY_RULE_UNCHECKED = 1,
	/** In force until its ovs-vswitchd ended: highwayd may put it in force again till the next */
	HIGHWAY_RULE_KEPT = 2
};

/**
 * One bypass rule: frames that match go to the peer. [switch], and [agent] while there is none.
 * `live` is stored last when the rule comes and first when it goes; a sender looks at it in each
 * burst, once for at most 64 frames.
 *
 * The same struct stands in the table of inbound rules, by which a receiver checks what comes over
 * a link: there the peer is the sender, and the rule stays until the sender has stopped using it.
 */
struct highway_rule {
	uint64_t live;		/**< the rule's generation while it is in force, else 0 */
	uint64_t generation;	/**< never used twice in a region's life */
	uint64_t peer_id;	/**< region id of the receiver's port; inbound: the sender's */
	uint32_t max_frame;	/**< bytes; longer frames take the normal channel */
	uint32_t flags;		/**< enum highway_rule_flags */
	struct highway_key key;
	struct highway_key mask;
	char peer_name[24];	/**< for people; may be cut short */
	/**
	 * The generation that highwayd has ended for the time being; the rule is in force only while
	 * this is another one. Changed before gate.change is counted up. [agent]
	 */
	uint64_t suppressed;
};

/**
 * What was sent by one rule on one queue, or what was received by an inbound rule, from links that
 * are checked, since the region was made; never goes back. [VNF]
 */
struct highway_counter {
	uint64_t packets;
	uint64_t bytes;
};

/** What the switch says of itself in a port region. [switch] */
struct highway_switch_state {
	uint64_t epoch;		/**< random; another one = another life of the switch's port */
	/** 1: an ovs-vswitchd has started the port; cleared by highwayd if it died */
	uint32_t attached;
	uint32_t link_up;	/**< 1: started and administratively up */
	uint32_t max_frame;	/**< bytes that OVS lets through: MTU + 18 */
	uint32_t pid;		/**< for people */
	uint64_t rules_live;	/**< rules now in force */
	uint64_t rules_inert;	/**< rules accepted but not used */
	uint64_t rules_refused;	/**< rules not accepted since the port was added */
	uint64_t unclaimed_packets; /**< hits that no flow could be given */
	uint64_t rx_packets;	/**< from the VNF over the normal channel */
	uint64_t rx_bytes;
	uint64_t tx_packets;	/**< to the VNF over the normal channel */
	uint64_t tx_bytes;
	uint64_t tx_full;	/**< not taken: the VNF's ring was full */
	/** Sent by the VNF over bypass channels, as accounted to OVS */
	uint64_t bypass_rx_packets;
	uint64_t bypass_rx_bytes;
	/** Sent to the VNF over bypass channels, as accounted to OVS */
	uint64_t bypass_tx_packets;
	uint64_t bypass_tx_bytes;
	uint64_t errors;	/**< bad values met in this region */
	uint8_t pad[8];
};

/** Why a port's bypass is off; bits of highway_gate.off_*. */
enum highway_off {
	HIGHWAY_OFF_OPERATOR = 1,	/**< highway off PORT */
	HIGHWAY_OFF_ALL = 2,		/**< highway off --all */
	/** Something that OVS does outside the flow; see the text */
	HIGHWAY_OFF_POLICY = 4,
	HIGHWAY_OFF_LEASE = 8,		/**< no highwayd for too long */
	HIGHWAY_OFF_HOLD = 16,		/**< another thread polls the port: flows are re-learned */
	HIGHWAY_OFF_DOWN = 32,		/**< the port is down or not started */
	/** ovs-vswitchd has closed the port; cleared by highwayd if bypasses may go on without */
	HIGHWAY_OFF_SWITCH = 64
};

/**
 * Read by the VNF on every burst, so it stands on lines of its own: while `change` stays the same,
 * nothing that matters to the sender has changed. Add 1 to it, atomically, *after* any change of a
 * rule, of this struct or of the switch's state.
 */
struct highway_gate {
	uint32_t change;	/**< [switch] [agent] */
	uint32_t off_switch;	/**< enum highway_off [switch]; [agent] while there is none */
	uint32_t off_operator;	/**< enum highway_off [agent] */
	uint32_t off_policy;	/**< enum highway_off [agent] */
	uint64_t lease;		/**< counts up while highwayd lives [agent] */
	uint32_t fail_mode;	/**< 0 = secure, 1 = standalone [agent] */
	uint32_t tx_flush_us;	/**< OVS's tx-flush-interval in microseconds [agent] */
	char off_text[88];	/**< reason for off_policy, in plain words [agent] */
	uint8_t pad[8];
};

/** What the VNF says of itself in a port region. [VNF] */
struct highway_vnf_state {
	uint64_t epoch;		/**< random; another one = another life of the VNF */
	uint32_t attached;	/**< 1: a VNF has the port; cleared by highwayd if it died */
	uint32_t started;	/**< 1: its queues may be polled */
	uint32_t n_rxq;		/**< receive queues in use, 1 to n_queues */
	uint32_t n_txq;		/**< transmit queues in use */
	uint32_t ack;		/**< no queue uses a rule that was gone at this `change` */
	uint32_t pid;		/**< for people, in the VNF's own pid namespace */
	uint32_t abi_version;	/**< HIGHWAY_ABI_VERSION of its driver */
	uint32_t max_frame;	/**< bytes that it can receive */
	uint64_t errors;	/**< bad values met */
	char driver[24];	/**< driver and DPDK version, for people */
	uint64_t told;		/**< counts up after struct highway_heard was brought up to date */
	/** No queue counts for an inbound rule that was gone at this `change` */
	uint32_t in_ack;
	uint8_t pad[44];
};

/** A VNF queue's own counts, for people and for the comparison of both ends. [VNF] */
struct highway_queue_stats {
	uint64_t tx_normal_packets;
	uint64_t tx_normal_bytes;
	uint64_t tx_bypass_packets;
	uint64_t tx_bypass_bytes;
	uint64_t rx_normal_packets;
	uint64_t rx_normal_bytes;
	uint64_t rx_bypass_packets;
	uint64_t rx_bypass_bytes;
	uint64_t tx_full;	/**< not taken from the application: a ring was full */
	uint64_t rx_nombuf;	/**< times that no mbuf was to be had */
	uint64_t enters;	/**< changes to a bypass channel */
	uint64_t leaves;	/**< changes back to the normal channel */
	uint64_t abandoned;	/**< left in a bypass ring whose receiver is gone */
	uint64_t rx_refused;	/**< dropped: came over a checked link and matched no rule */
	uint64_t tx_no_switch;	/**< dropped: for the normal channel while nobody reads it */
	uint64_t rx_external;	/**< of rx_bypass_packets: handed over without a copy */
};

/**
 * What the VNF has taken from one link's rings, dropped or not, but for what it has refused: to be
 * compared with what the sender says it has sent. `link_id` is stored last when it becomes another one. [VNF]
 */
struct highway_heard {
	uint64_t link_id;	/**< 0: there is no link */
	uint64_t peer_id;	/**< region id of the sender's port */
	uint64_t packets;
	uint64_t bytes;
};

/**
 * One per port; made by the switch's side when the port is added. Behind the first
 * HIGHWAY_PORT_HEADER_LEN bytes: rules, inbound rules, their counters in the same order, rings
 * towards the switch, rings towards the VNF.
 * All offsets are bytes from the start of the region.
 */
struct highway_port_region {
	struct highway_header header;
	char name[64];			/**< the port, as in net_highway_<name> */
	uint32_t n_queues;		/**< VNF queues: rings in each direction */
	uint32_t n_rules;		/**< rule slots */
	uint32_t ring_size;		/**< descriptors, a power of two */
	uint32_t ring_data;		/**< bytes */
	uint64_t rules_offset;		/**< struct highway_rule [n_rules] */
	uint64_t counters_offset;	/**< struct highway_counter [n_queues][n_rules] */
	uint64_t to_switch_offset;	/**< n_queues rings */
	uint64_t to_vnf_offset;		/**< n_queues rings */
	uint64_t ring_stride;		/**< bytes from one ring to the next */
	uint8_t vnf_mac[6];		/**< the VNF's MAC address */
	uint8_t pad0[2];
	uint64_t in_rules_offset;	/**< struct highway_rule [n_rules]: rules to this port */
	/** struct highway_counter [n_queues][n_rules] of these; 0 before HIGHWAY_ABI_COUNTED */
	uint64_t in_counters_offset;
	uint8_t pad1[48];
	struct highway_switch_state switch_state;
	uint8_t pad2[112];
	struct highway_gate gate;
	struct highway_vnf_state vnf_state;
	uint8_t pad3[3328];
	struct highway_queue_stats queue_stats[16];
	struct highway_heard heard[64];
};

/** Where a link stands; set by highwayd in the link's region. */
enum highway_link_phase {
	HIGHWAY_LINK_NEW = 0,		/**< made; handed to the drivers */
	HIGHWAY_LINK_ACTIVE = 1,	/**< both drivers have it: may be used */
	HIGHWAY_LINK_LEAVING = 2	/**< senders leave, receivers drain */
};

/**
 * What an end of a link must heed; bits of highway_msg_link.flags. Each is a restriction, and a
 * direction that is to carry nothing has all of them.
 */
enum highway_link_flags {
	/** Check what you receive against the inbound rules */
	HIGHWAY_LINK_CHECKED = 1,
	/** What you send is checked; before HIGHWAY_ABI_DIRECTED the same as HIGHWAY_LINK_CHECKED */
	HIGHWAY_LINK_PEER_CHECKS = 2,
	HIGHWAY_LINK_NO_SEND = 4,	/**< Send nothing */
	/** Refuse whatever you receive; drivers that do not know it go by HIGHWAY_LINK_CHECKED */
	HIGHWAY_LINK_NO_RECEIVE = 8
};

/** What one end says of itself in a link region. [that end's VNF] */
struct highway_link_end {
	uint64_t epoch;		/**< the VNF's epoch */
	uint32_t attached;	/**< 1: mapped */
	uint32_t rx_ready;	/**< 1: receives from it */
	uint32_t tx_done;	/**< 1: no queue will send on it any more */
	uint32_t closed;	/**< enum highway_close, 0 while all is well */
	uint32_t max_frame;	/**< bytes that this end can receive */
	uint8_t pad[100];
};

/**
 * One per pair of ports; made by highwayd. Behind the first HIGHWAY_LINK_HEADER_LEN bytes: the
 * rings that end 0 sends on (n_queues[0] of them), those of end 1, and their pools, if any.
 */
struct highway_link_region {
	struct highway_header header;
	uint64_t port_id[2];		/**< region ids of the two ports */
	char name[2][64];		/**< the two ports */
	uint32_t n_queues[2];		/**< sender queues of each end */
	uint32_t ring_size;		/**< descriptors, a power of two */
	uint32_t ring_data;		/**< bytes */
	uint64_t ring_offset[2];	/**< rings that end 0, end 1 send on */
	uint64_t ring_stride;		/**< bytes from one ring to the next */
	uint32_t phase;			/**< enum highway_link_phase [agent] */
	/**
	 * enum highway_link_flags of end 0, and 256 times those of end 1: for people; drivers
	 * believe the messages only [agent]
	 */
	uint32_t flags;
	uint64_t created_ns;		/**< CLOCK_REALTIME [agent] */
	uint64_t active_ns;		/**< CLOCK_REALTIME, 0 if never [agent] */
	/**
	 * Pools of buffers that end 0, end 1 send in, one per ring: a byte for each buffer, up to
	 * the next multiple of 4096, and the buffers. A byte is 1 while somebody at the receiver
	 * reads the buffer, else 0 [receiver]. The descriptor with index i has buffer i % n_buffers
	 */
	uint64_t pools_offset[2];
	uint32_t buffer_size[2];	/**< bytes with headroom; 0: there are no pools */
	uint32_t n_buffers[2];		/**< in each pool; a power of two, at most ring_size */
	uint8_t pad1[208];
	struct highway_link_end end[2];
	/** What each end has received, per sender queue. [that end's VNF] */
	struct highway_counter received[2][16];
	uint8_t pad2[6912];
};

/** Why a driver gave up a link by itself. */
enum highway_close {
	HIGHWAY_CLOSE_NONE = 0,
	HIGHWAY_CLOSE_BAD_INDEX = 1,	/**< a ring index that cannot be */
	/** A descriptor outside the ring's data, or of unknown kind */
	HIGHWAY_CLOSE_BAD_DESC = 2,
	HIGHWAY_CLOSE_BAD_LEAVE = 3,	/**< a Leave beyond what was published */
	HIGHWAY_CLOSE_TIMEOUT = 4	/**< a drain or a gate took more than 5 s */
};

/* -------------------------------------------------------------------------- control channel --- */

/**
 * Messages between highwayd and drivers. All are HIGHWAY_MSG_LEN bytes, on a unix stream socket
 * (regions travel beside them as file descriptors) and on virtio-serial. A receiver that finds a
 * wrong magic or checksum looks for the next magic, so that a cut-off message costs only itself.
 */
enum highway_msg_type {
	HIGHWAY_MSG_HELLO = 1,		/**< driver: who it is; + region if role is switch */
	HIGHWAY_MSG_WELCOME = 2,	/**< highwayd: accepted, or refused with a reason */
	HIGHWAY_MSG_PORT_REGION = 3,	/**< highwayd to VNF: its port's region; + region */
	HIGHWAY_MSG_PORT_GONE = 4,	/**< highwayd to VNF: the port was deleted */
	HIGHWAY_MSG_LINK_ADD = 5,	/**< highwayd to VNF: attach this link; + region */
	/** VNF: attached, or not with a reason; also when highwayd returns */
	HIGHWAY_MSG_LINK_ADDED = 6,
	HIGHWAY_MSG_LINK_UPDATE = 7,	/**< highwayd to VNF: look at the link's phase and flags */
	HIGHWAY_MSG_LINK_REMOVE = 8,	/**< highwayd to VNF: leave, drain, unmap */
	/** VNF: no longer mapped, or closed by itself with a reason */
	HIGHWAY_MSG_LINK_REMOVED = 9,
	/** Switch: how many rules towards a peer; 0 = none any more */
	HIGHWAY_MSG_WANT = 10,
	/** Switch: let OVS learn its flows anew. highwayd: hold the port, and ask for that */
	HIGHWAY_MSG_PURGE = 11,
	HIGHWAY_MSG_PURGED = 12,	/**< highwayd: done */
	HIGHWAY_MSG_LOG = 13,		/**< driver: a line for highwayd's log */
	/** VNF in a VM: the port has nothing mapped any more; answers PORT_GONE, or by itself */
	HIGHWAY_MSG_PORT_RELEASED = 14,
	/** Switch: what the ends of a link have counted cannot both be true */
	HIGHWAY_MSG_MISMATCH = 15,
	/** highwayd to switch: which end counts what is sent to this port past the switch */
	HIGHWAY_MSG_STATS = 16
};

enum highway_role {
	HIGHWAY_ROLE_SWITCH = 1,
	HIGHWAY_ROLE_VNF = 2
};

enum highway_status {
	HIGHWAY_STATUS_OK = 0,
	HIGHWAY_STATUS_REFUSED = 1,	/**< trying again will not help */
	HIGHWAY_STATUS_LATER = 2	/**< try again in a while */
};

enum highway_hello_flags {
	HIGHWAY_HELLO_EXTERNAL = 1	/**< VNF: takes frames in the buffers of a link */
};

struct highway_msg_hello {
	uint32_t role;			/**< enum highway_role */
	uint32_t abi_version;
	uint32_t abi_oldest;
	uint32_t pid;
	uint64_t epoch;			/**< the sender's, as in its region */
	char name[64];			/**< port */
	char driver[64];		/**< driver and DPDK version */
	uint32_t flags;			/**< enum highway_hello_flags */
	char token[64];			/**< what a VNF shows to be let in; a NUL ends it early */
	uint8_t pad[4];
};

struct highway_msg_welcome {
	uint32_t status;		/**< enum highway_status */
	uint32_t abi_version;		/**< the version to speak */
	uint8_t pad0[88];
	char text[128];			/**< reason if refused; if accepted, why without links */
};

struct highway_msg_region {
	uint64_t region_id;
	uint64_t size;			/**< bytes */
	uint8_t pad0[208];
};

struct highway_msg_link {
	uint64_t link_id;
	uint64_t size;			/**< bytes */
	uint64_t peer_id;		/**< region id of the other end's port */
	uint16_t end;			/**< which end the receiver of the message is: 0 or 1 */
	uint16_t flags;			/**< enum highway_link_flags; _ADD, _ADDED, _UPDATE */
	uint32_t status;		/**< enum highway_status */
	char peer_name[64];
	char text[128];			/**< reason if not attached, or for the removal */
};

struct highway_msg_want {
	uint64_t peer_id;
	uint32_t rules;			/**< rules towards the peer that are in force */
	uint32_t token;			/**< of a purge */
	uint8_t pad0[208];
};

struct highway_msg_mismatch {
	uint64_t link_id;
	uint64_t sender_id;		/**< region id of its port */
	uint64_t receiver_id;		/**< the same */
	/** As the sender counts, since the comparison began; modulo 2^64, as all of these */
	uint64_t sent_packets;
	uint64_t received_packets;	/**< as the receiver counts */
	uint64_t sent_bytes;
	uint64_t received_bytes;
	uint8_t pad0[168];
};

enum highway_stats {
	HIGHWAY_STATS_SENDER = 0,	/**< the sender's counters become OVS's statistics */
	HIGHWAY_STATS_RECEIVER = 1	/**< the receiver's do */
};

struct highway_msg_stats {
	/**
	 * Region id of the sender's port; 0: all others. With 0, what was said of a sender before
	 * the last WELCOME, and not since, is over
	 */
	uint64_t sender_id;
	uint32_t source;		/**< enum highway_stats */
	uint8_t pad0[212];
};

struct highway_msg_log {
	uint32_t level;			/**< RTE_LOG_ERR = 4, WARNING = 5, NOTICE = 6, INFO = 7 */
	uint32_t reserved;
	char text[216];
};

union highway_msg_body {
	struct highway_msg_hello hello;
	struct highway_msg_welcome welcome;
	struct highway_msg_region region;	/**< PORT_REGION, PORT_GONE, PORT_RELEASED */
	struct highway_msg_link link;		/**< LINK_* */
	struct highway_msg_want want;		/**< WANT, PURGE, PURGED */
	struct highway_msg_mismatch mismatch;	/**< MISMATCH */
	struct highway_msg_stats stats;		/**< STATS */
	struct highway_msg_log log;
};

struct highway_msg {
	uint32_t magic;		/**< HIGHWAY_MSG_MAGIC */
	uint16_t version;	/**< the sender's HIGHWAY_ABI_VERSION; agreed on by HELLO */
	uint16_t type;		/**< enum highway_msg_type */
	uint32_t length;	/**< HIGHWAY_MSG_LEN */
	uint32_t checksum;	/**< FNV-1a 32 of the message with this field 0 */
	uint64_t port_id;	/**< region id of the port that this is about, 0 if not known */
	uint32_t sequence;	/**< counts up per sender */
	uint32_t reserved;	/**< 0 */
	union highway_msg_body body;
};

#endif /* HIGHWAY_SHM_H */
