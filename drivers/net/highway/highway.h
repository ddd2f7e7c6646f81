/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The driver's private structures. One struct highway_port per DPDK port, of one of two roles:
 *
 * - role switch, in ovs-vswitchd: makes the port region, merges the VNF's tx rings into one rx
 *   queue, turns rte_flow rules into bypass rules, reads the counters, and is the clock of every
 *   change of channel.
 * - role VNF, in the VNF: sends on the bypass what matches a rule, everything else to the switch.
 *
 * Threads: queues are polled by the application's lcores; everything else runs in the
 * application's control calls and in one control thread of the process, under highway_lock.
 */

#ifndef HIGHWAY_H
#define HIGHWAY_H

#include <pthread.h>
#include <sys/queue.h>

#include <ethdev_driver.h>
#include <rte_cycles.h>
#include <rte_flow_driver.h>
#include <rte_spinlock.h>

#include "highway_bar.h"
#include "highway_class.h"
#include "highway_loan.h"
#include "highway_logs.h"
#include "highway_msg.h"
#include "highway_pattern.h"
#include "highway_region.h"
#include "highway_ring.h"
#include "highway_shm.h"

#define HIGHWAY_DRIVER_VERSION "0.1.0"
#define HIGHWAY_DRAIN_TIMEOUT_S 5	/* default of drain-timeout= */
#define HIGHWAY_DRAIN_TIMEOUT_MAX_S 9	/* highwayd waits for 10 s for a driver's answer */
#define HIGHWAY_MAX_PASSES 16	/* rounds over a ring per burst, whatever a peer puts into it */
#define HIGHWAY_CLOSING_MS 250	/* from OVS's first step in closing a port to its last */
#define HIGHWAY_BAR_LIMIT_NS 400	/* default of bar-limit= */
#define HIGHWAY_BAR_LIMIT_MAX_NS 1000000
#define HIGHWAY_PAUSE_NS 500		/* of a receiver that a full burst has just come to */
#define HIGHWAY_LEASE_S 10		/* highwayd away for longer: back to the normal channel */

/** Held by every control call and by the control thread; never by a burst function. */
extern pthread_mutex_t highway_lock;

enum highway_idle {
	HIGHWAY_IDLE_POLL,	/**< never give the core away */
	HIGHWAY_IDLE_YIELD,	/**< sched_yield() after some empty polls, or when a ring is full */
	HIGHWAY_IDLE_SLEEP	/**< sleep after empty polls, yield when a ring is full */
};

/** What devargs say. */
struct highway_options {
	enum highway_role role;
	enum highway_idle idle;
	uint32_t queues;
	uint32_t ring_size;
	uint32_t rules;
	uint32_t drain_timeout_s; /**< the longest that an end of a link waits for the other */
	bool unordered;		/**< change channels without marks: shows that tests see it */
	uint32_t bar_limit_ns;	/**< in a VM: longest for 64 bytes of a link; 0 = do not time it */
	enum highway_stores stores;
	bool external;		/**< mbufs may have buffers of a link (highway_loan.h) */
	bool in_shm;		/**< the region lies in /dev/shm, huge pages or not */
	char port[HIGHWAY_NAME_LEN];
	char socket[108];	/**< empty: the default */
	char token_file[256];	/**< empty: none */
};

/* --------------------------------------------------------------------------------- VNF role --- */

/** A sender queue's bypass ring, at the receiver. */
struct highway_rx_ring {
	struct highway_consumer ring;
	struct highway_loans *loans;	/**< the ring's buffers; NULL: none */
	uint64_t entered[HIGHWAY_MAX_QUEUES]; /**< per normal ring: latest Enter seen; atomic */
	uint64_t gate_tsc;	/**< when the first fence began to wait, 0 = none waits */
	uint64_t packets;	/**< received; copied to the link region by the control thread */
	uint64_t bytes;
	uint64_t off;		/**< packets taken off it, dropped or not, but for refused ones */
	uint64_t off_bytes;
} __rte_cache_aligned;

/** A link to a peer, as this VNF sees it. */
struct highway_link {
	TAILQ_ENTRY(highway_link) next;	/**< of those that only loans keep */
	uint32_t slot;			/**< in the port's links[] */
	uint64_t attachment;		/**< names it among all that the port ever had; never 0 */
	uint32_t end;			/**< which end of the region is ours */
	struct highway_link_geometry geometry;
	struct highway_map map;
	uint64_t peer_id;
	char peer_name[HIGHWAY_NAME_LEN];
	bool usable;			/**< may be sent on */
	uint32_t flags;			/**< enum highway_link_flags */
	bool leaving;			/**< told to go */
	bool tx_done;			/**< no queue sends on it any more */
	uint64_t leaving_tsc;
	char why[HIGHWAY_TEXT_LEN];	/**< what made it go */
	uint32_t close;			/**< enum highway_close; set by a queue, atomic */
	uint32_t n_rx_rings;		/**< the peer's sender queues */
	struct highway_rx_ring rx[];
};

/** A link as one tx queue uses it. */
struct highway_tx_link {
	struct highway_producer ring;
	uint64_t attachment;	/**< of the link whose memory the ring lies in */
	uint64_t link_id;
	uint64_t peer_id;
	uint64_t left_at;	/**< ring.head at the last Leave: nothing sent since if equal */
	uint64_t entered;	/**< rules born at this view version or before are on the bypass */
	uint64_t epoch;		/**< of the last Enter */
	uint64_t fence_at;	/**< ring index of the last fence */
	bool entering;		/**< the receiver has not passed it when last looked at */
	uint64_t packets;
	uint64_t bytes;
};

/** A link in a view. */
struct highway_view_link {
	struct highway_link *link;	/**< NULL: no link in this slot */
	struct highway_classifier *check; /**< what may come over it; NULL: not checked */
	bool usable;
};

/** When a rule first stood in a view on this link, or did so again after it was suppressed. */
struct highway_birth {
	uint64_t generation;
	uint64_t link_id;
	uint64_t version;
};

/** Everything that a burst needs to know, made by the control thread and then never changed. */
struct highway_view {
	uint64_t version;
	uint64_t switch_epoch;
	uint32_t change;	/**< gate.change when it was made */
	bool up;		/**< the port is up: something may be sent */
	bool receiving;		/**< the port is not set down: something may be received */
	bool switch_here;	/**< somebody reads the normal channel */
	bool lease_good;	/**< highwayd lives, or need not */
	bool bypass_on;		/**< no reason to stay off the bypass */
	uint16_t n_rxq;
	struct highway_classifier classifier;
	uint32_t n_slots;	/**< links[] to look at */
	uint32_t n_links;
	uint64_t link_mask;	/**< slots with a link */
	struct highway_view_link links[HIGHWAY_MAX_LINKS];
};

/**
 * Marks a queue as inside a burst, so that the control thread knows when nobody looks at an old
 * view any more: odd inside. The fast path has no fence; highway_wait_for_queues() has it instead
 * (membarrier).
 */
struct highway_presence {
	uint64_t count;
};

struct highway_vnf_txq {
	struct highway_port *port;
	uint16_t queue;
	bool fast_free;			/**< RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE is on */
	struct highway_presence presence;
	struct highway_producer normal;
	uint64_t view_version;		/**< of the last burst */
	uint64_t switch_epoch;
	enum highway_class_depth depth;	/**< of that burst's view */
	uint64_t leave_mask;		/**< links to leave before the next normal packet */
	uint64_t withdrawn;		/**< generation of the rule that was last found gone */
	uint64_t touched;		/**< links with something to publish at the burst's end */
	uint64_t entered_mask;		/**< links with `entered` set */
	uint64_t barred;		/**< links not to be used before the next view */
	struct highway_queue_stats stats; /**< tx half */
	uint64_t errors;		/**< frames of impossible length */
	struct highway_counter *counters; /**< this queue's row in the region, by rule slot */
	struct highway_tx_link links[HIGHWAY_MAX_LINKS];
} __rte_cache_aligned;

struct highway_vnf_rxq {
	struct highway_port *port;
	uint16_t queue;
	struct rte_mempool *pool;
	bool external;			/**< its mbufs may have a link's buffers */
	struct highway_presence presence;
	struct highway_consumer normal;
	uint32_t turn;			/**< odd: links first; half: where their round begins */
	uint32_t round;			/**< where the round over a link's rings begins */
	uint32_t empty_polls;
	uint64_t pause_tsc;		/**< since when nothing is looked at, 0 = no pause */
	uint64_t pause_cycles;		/**< how long */
	uint32_t busy_looks;		/**< pauses that are left of the last full burst */
	uint32_t cursor;		/**< cold link to begin with */
	uint32_t bursts;		/**< since links were last found to be cold */
	uint64_t warm;			/**< links that frames came over lately */
	uint64_t used;			/**< those that stay warm, so far */
	/* A Leave that holds the normal ring until the bypass ring is empty up to `until`. */
	struct {
		uint64_t attachment;	/**< of the link; 0 = none */
		uint32_t slot;
		uint32_t ring;
		uint64_t until;
		uint64_t since_tsc;
	} hold;
	uint64_t errors;		/**< frames that no mbuf could take */
	struct highway_counter *counters; /**< the same by inbound slot; NULL: there is none */
	struct highway_queue_stats stats; /**< rx half */
} __rte_cache_aligned;

/* ------------------------------------------------------------------------------ switch role --- */

enum highway_flow_state {
	HIGHWAY_FLOW_INERT,	/**< accepted, never used */
	HIGHWAY_FLOW_LIVE,	/**< in force in the rule table */
	HIGHWAY_FLOW_SUSPENDED	/**< its peer is down: has a slot, not in force */
};

/** A rule that OVS has put. */
struct rte_flow {
	TAILQ_ENTRY(rte_flow) next;
	enum highway_flow_state state;
	struct highway_key key;
	struct highway_key mask;
	uint64_t peer_id;	/**< 0 = none */
	uint32_t slot;
	int in_slot;		/**< of its copy at the peer, -1 = none */
	uint64_t unread_packets; /**< hits that no query has told yet */
	uint64_t unread_bytes;
};
TAILQ_HEAD(highway_flows, rte_flow);

/** Counters of one slot, per queue, as they were last read. */
struct highway_meter {
	uint64_t seen_tsc;
	struct highway_counter seen[HIGHWAY_MAX_QUEUES];
};

/** A slot of the rule table, on the switch's side. */
struct highway_slot {
	struct rte_flow *flow;	/**< owner; NULL if free or dying */
	bool dying;		/**< withdrawn, but a queue may still count for it */
	uint32_t change;	/**< gate.change that a sender must acknowledge */
	uint64_t peer_id;	/**< to whom its late hits are accounted */
	struct highway_key key;
	struct highway_key mask;
	uint64_t live_until_tsc; /**< when its rule was taken out of force, 0 = it is not (yet) */
	bool peer_closed;	/**< that was when the peer's port was closed */
	bool peer_counts;	/**< the peer's VNF counts its hits; also after the peer is gone */
	uint64_t waited;	/**< suppressed generation that the poll has waited for [poll] */
	struct highway_meter meter;
};

/** A slot of the table of inbound rules, on the switch's side. */
struct highway_in_slot {
	uint64_t source_id;	/**< the sender's region id, 0 = free */
	bool ending;		/**< withdrawn from the sender, which may not have noticed yet */
	bool gone;		/**< and from the table; the receiver may still count for it */
	bool dated;		/**< `change` is known */
	/** The sender's gate.change that it must acknowledge; if gone, the receiver's */
	uint32_t change;
	uint64_t limit_tsc;	/**< freed then at the latest */
	uint64_t withdrawn_tsc;	/**< also when it is free again; 0 = never */
	/* What the receiver counts for it is accounted to: */
	bool counted;		/**< somebody: it is not of an earlier life */
	struct rte_flow *flow;	/**< the rule that it is a copy of; NULL: withdrawn */
	struct highway_key key;
	struct highway_key mask;
	struct highway_meter meter;
};

/** A sender whose own counters become statistics, at a port whose receiver's otherwise do. */
struct highway_believed {
	uint64_t sender_id;
	bool told;		/**< since the last WELCOME */
};

/** Hits of a destroyed rule that wait for the next rule of the same pattern. */
struct highway_orphan {
	struct highway_key key;
	struct highway_key mask;
	uint64_t packets;
	uint64_t bytes;
	uint64_t tsc;		/**< 0 = free */
};
#define HIGHWAY_ORPHANS 256
#define HIGHWAY_ORPHAN_S 10

/** A peer that this port has or had rules towards. */
struct highway_peer {
	uint64_t id;		/**< 0 = free */
	uint32_t rules;		/**< in force or suspended */
	uint32_t told;		/**< what highwayd knows */
};
#define HIGHWAY_MAX_PEERS 256

/** The latest marks of one sender queue, on their way into this port's normal rings. */
struct highway_pending {
	struct highway_sync sync;
	uint32_t enter_rings;	/**< bit per ring that still lacks sync.entered */
	uint32_t leave_rings;	/**< bit per ring that still lacks sync.leave */
};
#define HIGHWAY_MAX_PENDING 1024

/** One of the VNF's tx rings, at the switch. */
struct highway_switch_ring {
	struct highway_consumer ring;
	struct highway_marker enter;	/**< peer_id 0 = none waits */
	uint64_t enter_tsc;		/**< not to be told before */
	uint32_t enter_polls;		/**< nor before so many polls after that time */
	bool reported;			/**< that it is broken */
};

struct highway_switch_rxq {
	struct highway_port *port;
	struct rte_mempool *pool;
	unsigned int lcore;		/**< who polls; LCORE_ID_ANY before the first poll */
	uint32_t turn;
	uint32_t change;		/**< gate.change as last looked at */
	bool waits;			/**< for OVS to get to suppressed rules */
	uint64_t wait_until_tsc;	/**< deliver nothing before; 0 = no wait */
	uint64_t packets;
	uint64_t bytes;
	uint64_t nombuf;
	uint64_t errors;
	struct highway_switch_ring rings[HIGHWAY_MAX_QUEUES];
} __rte_cache_aligned;

struct highway_switch_txq {
	struct highway_port *port;
} __rte_cache_aligned;

/** Towards the VNF; under tx_lock, since any of OVS's threads may send. */
struct highway_switch_tx {
	rte_spinlock_t lock;
	uint32_t n_rings;		/**< the VNF's receive queues; 0 while there is no VNF */
	uint32_t n_pending;		/**< looked at without the lock by the port's poll */
	uint64_t vnf_epoch;
	uint64_t packets;
	uint64_t bytes;
	uint64_t full;
	uint64_t errors;
	struct highway_producer rings[HIGHWAY_MAX_QUEUES];
	struct highway_pending pending[HIGHWAY_MAX_PENDING];
};

/** What may be true of a difference, as far as it is known. */
struct highway_range {
	int64_t least;
	int64_t most;
};

/** A link to this port: what its sender counts beside what this port's VNF counts. */
struct highway_compared {
	uint64_t link_id;	/**< 0 = none */
	uint64_t sender_id;
	uint64_t sent_packets;	/**< accounted to the sender since the comparison began */
	uint64_t sent_bytes;
	uint64_t told;		/**< when that was last noted; 0 = it is not */
	struct highway_counter sent;	/**< as noted, */
	struct highway_counter heard;	/**< and what the VNF said just before */
	struct highway_counter base;	/**< what the VNF said when the comparison began */
	struct highway_range packets;	/**< sent less heard, but for what is in the rings */
	struct highway_range bytes;
	bool reported;
};

/** Everything that only the switch role has. */
struct highway_switch {
	int fd;				/**< the region's file, locked */
	uint64_t generation;		/**< last one given to a rule */
	bool in_charge;			/**< the region is ours: the port has been started */
	bool polled;			/**< the port is up: bursts move packets; atomic */
	struct highway_flows flows;
	struct highway_slot *slots;
	uint32_t slot_next;		/**< where the search for a free one begins */
	struct highway_in_slot *in_slots;
	uint32_t in_next;		/**< where the search for a free one begins */
	uint32_t n_ending;		/**< in_slots that are to be freed */
	bool in_full;			/**< some rule found no place */
	bool by_receiver;		/**< this port's VNF counts what is sent to it */
	uint32_t n_believed;
	struct highway_believed believed[HIGHWAY_MAX_LINKS]; /**< but for these senders */
	struct highway_peer peers[HIGHWAY_MAX_PEERS];
	struct highway_orphan orphans[HIGHWAY_ORPHANS];
	uint64_t bypass_rx_packets;	/**< sent by this port's VNF past the switch */
	uint64_t bypass_rx_bytes;
	uint64_t bypass_tx_packets;	/**< sent to this port's VNF past the switch */
	uint64_t bypass_tx_bytes;
	uint64_t refused;
	uint64_t unclaimed;
	uint64_t table_full;		/**< rules accepted inert because the table was full */
	uint64_t bad_counters;
	uint64_t mismatches;		/**< links to this port whose ends count differently */
	struct highway_compared compared[HIGHWAY_MAX_LINKS]; /**< as in the region's `heard` */
	uint64_t hold_until_tsc;	/**< deliver nothing before; 0 = no hold; atomic */
	uint32_t hold_token;		/**< of the purge that ends the hold */
	uint32_t purged_token;		/**< of the last purge that was done */
	uint64_t quiet_until_tsc;	/**< no bypass before; 0 = no such time */
	uint64_t told_tsc;		/**< when the region's numbers were last written */
	bool purge_wanted;		/**< tell highwayd */
	bool wants_dirty;
	bool was_reachable;		/**< as last told to the rules that point here */
	struct highway_switch_rxq rxq;
	struct highway_switch_txq txq;
	struct highway_switch_tx tx;
};

/* ------------------------------------------------------------------------------------- both --- */

enum highway_conn_state {
	HIGHWAY_CONN_DOWN,	/**< try again at `retry_tsc` */
	HIGHWAY_CONN_GREETED,	/**< hello sent */
	HIGHWAY_CONN_UP		/**< welcomed */
};

/** The control channel of a port. */
struct highway_conn {
	enum highway_conn_state state;
	int fd;			/**< -1 = none */
	bool serial;		/**< in a VM: over the channel that all ports share, not `fd` */
	uint64_t region_id;	/**< if serial: under which highwayd knows the port */
	uint64_t retry_tsc;
	uint32_t sequence;
	uint32_t abi_version;	/**< that highwayd speaks with us */
	bool away_logged;
	bool refused_logged;
	struct highway_msg_input input;
};

/** A link in a VM whose region is still to appear. */
struct highway_awaited {
	TAILQ_ENTRY(highway_awaited) next;
	struct highway_msg_link msg;
	uint64_t since_tsc;
};
TAILQ_HEAD(highway_awaiteds, highway_awaited);

struct highway_port {
	TAILQ_ENTRY(highway_port) next;
	struct rte_eth_dev *dev;
	struct highway_options options;
	struct highway_map map;		/**< the port region; base NULL while there is none */
	struct highway_geometry geometry;
	uint64_t region_id;
	uint64_t epoch;
	struct highway_port_region *region; /**< = map.base */
	bool started;
	bool admin_up;
	bool link_up;			/**< as last told to the application */
	struct highway_conn conn;
	struct rte_ether_addr mac;
	struct rte_ether_addr vnf_mac;
	struct rte_eth_stats stats_base; /**< subtracted, so that a reset works */

	/* VNF role */
	struct highway_view *view;	/**< read by queues without the lock */
	uint64_t view_version;
	uint32_t n_links;
	uint64_t attachments;		/**< links that it ever had */
	struct highway_link *links[HIGHWAY_MAX_LINKS];
	struct highway_awaiteds awaited;
	struct highway_birth *births;	/**< per rule slot */
	struct highway_checks *checks;	/**< NULL until a link is checked */
	bool fresh;			/**< attached, and not started since */
	bool broken_logged;
	uint64_t lease;
	uint64_t lease_tsc;
	uint64_t abandoned;		/**< frames left in rings of dead peers */
	uint64_t closed_links;		/**< links given up for bad values */

	/* switch role */
	struct highway_switch *sw;
};
TAILQ_HEAD(highway_ports, highway_port);
extern struct highway_ports highway_ports; /* changed under highway_lock and the spinlock below */
extern rte_spinlock_t highway_ports_spin; /* for bursts of the switch role that look for a peer */
extern bool highway_is_switch_port[RTE_MAX_ETHPORTS];

/* highway_ethdev.c */
void highway_link_status(struct highway_port *port, bool up);
int highway_ethdev_init(struct rte_eth_dev *dev, const struct highway_options *options,
			const struct highway_bar_port *bar);
bool highway_ethdev_has(const char *port);

/* highway_devargs.c */
int highway_options_parse(const char *name, const char *devargs, struct highway_options *options);

/* highway_token.c */
int highway_token_read(const char *path, char token[64]);

/* highway_switch.c: ports of the switch role, and their bursts */
int highway_switch_open(struct highway_port *port);
void highway_switch_close(struct highway_port *port);
void highway_switch_set_up(struct highway_port *port);
void highway_switch_tick(struct highway_port *port);
void highway_switch_connected(struct highway_port *port);
bool highway_switch_reachable(const struct highway_port *port);
void highway_switch_take_charge(struct highway_port *port);
void highway_switch_hold(struct highway_port *port);
void highway_switch_purged(struct highway_port *port, uint32_t token);
struct highway_port *highway_switch_find(uint64_t region_id);
struct highway_peer *highway_switch_peer(struct highway_port *port, uint64_t id, bool make);

/* highway_flow.c */
extern const struct rte_flow_ops highway_flow_ops;
void highway_flow_drop_all(struct highway_port *port);
void highway_flow_peer_changed(uint64_t peer_id);
void highway_flow_peer_gone(uint64_t peer_id);
void highway_flow_peer_back(uint64_t peer_id);
void highway_flow_keep(struct highway_port *port);
void highway_flow_void(struct highway_port *port);
bool highway_flow_acknowledged(const struct highway_port *port, uint32_t change);
void highway_flow_copy_again(uint64_t peer_id);

/* highway_inbound.c: copies of rules in their receiver's region */
void highway_inbound_take_over(struct highway_port *port);
int highway_inbound_add(struct highway_port *port, const struct highway_port *source,
			struct rte_flow *flow, uint32_t max_frame);
void highway_inbound_end(struct highway_port *port, uint32_t slot, uint32_t change);
void highway_inbound_keep(struct highway_port *port);
void highway_inbound_tick(struct highway_port *port);

/* highway_meter.c */
void highway_meter_start(const struct highway_port *port, uint64_t table, uint32_t slot,
			 struct highway_meter *meter);
struct highway_counter highway_meter_read(struct highway_port *port, uint64_t table, uint32_t slot,
					  struct highway_meter *meter);

/* highway_received.c: statistics from the receiving side */
bool highway_received_counts(const struct highway_port *port, uint64_t sender_id);
void highway_received_start(struct highway_port *port, uint32_t slot);
void highway_received_slot(struct highway_port *port, uint32_t slot);
void highway_received_port(struct highway_port *port);
void highway_received_set(struct highway_port *port, const struct highway_msg_stats *msg);
void highway_received_connected(struct highway_port *port);

/* highway_account.c */
void highway_account_start(struct highway_port *port, uint32_t slot);
void highway_account_slot(struct highway_port *port, uint32_t slot);
void highway_account_flow(struct highway_port *port, struct rte_flow *flow);
void highway_account_hits(struct highway_port *port, struct highway_port *peer,
			  struct rte_flow *flow, const struct highway_key *key,
			  const struct highway_key *mask, const struct highway_counter *hits);
void highway_account_dying(struct highway_port *port, uint32_t slot);
void highway_account_port(struct highway_port *port);
void highway_account_all(void);
void highway_account_inherit(struct highway_port *port, struct rte_flow *flow);
void highway_account_bequeath(struct highway_port *port, const struct highway_key *key,
			      const struct highway_key *mask, uint64_t packets, uint64_t bytes);
void highway_account_expire(struct highway_port *port);

/* highway_compare.c: do the ends of a link count the same? */
void highway_compare_sent(struct highway_port *port, uint64_t sender_id,
			  const struct highway_counter *more);
void highway_compare_tick(struct highway_port *port);

/* highway_stats.c */
int highway_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats);
int highway_stats_reset(struct rte_eth_dev *dev);
int highway_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *xstats, unsigned int n);
int highway_xstats_get_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names,
			     unsigned int n);
int highway_xstats_reset(struct rte_eth_dev *dev);

/* highway_vnf.c: ports of the VNF role: region, links, views */
bool highway_vnf_attached(struct highway_port *port, uint64_t region_id);
int highway_vnf_attach(struct highway_port *port, struct highway_map *map, uint64_t region_id,
		       char *why, size_t len);
void highway_vnf_detach(struct highway_port *port);
int highway_vnf_start(struct highway_port *port);
void highway_vnf_stop(struct highway_port *port);
void highway_vnf_admin_changed(struct highway_port *port);
void highway_vnf_update_link(struct highway_port *port);
void highway_vnf_tick(struct highway_port *port);
struct highway_link *highway_vnf_find_link(const struct highway_port *port, uint64_t link_id);
int highway_vnf_link_add(struct highway_port *port, struct highway_map *map,
			 const struct highway_msg_link *msg, char *why, size_t len);
bool highway_vnf_link_update(struct highway_port *port, const struct highway_msg_link *msg);
void highway_vnf_link_remove(struct highway_port *port, uint64_t link_id);
void highway_links_reap(void);
bool highway_links_pinned(void);
void highway_link_fault(struct highway_link *link, enum highway_close reason);
int highway_presence_init(void);

/* highway_ctrl.c */
int highway_ctrl_add(struct highway_port *port);
void highway_ctrl_remove(struct highway_port *port);
void highway_ctrl_kick(void);
void highway_ctrl_send(struct highway_port *port, enum highway_msg_type type,
		       const union highway_msg_body *body, int fd);
void highway_ctrl_greet_again(struct highway_port *port);
void highway_ctrl_handle(struct highway_port *port, const struct highway_msg *msg, int fd);
void highway_ctrl_link_reply(struct highway_port *port, enum highway_msg_type type,
			     uint64_t link_id, uint64_t peer_id, enum highway_status status,
			     const char *text);

/* highway_serial.c: the control channel that the ports of a VM share */
bool highway_serial_exists(void);
void highway_serial_tick(void);
int highway_serial_fd(void);
int highway_serial_send(const struct highway_msg *msg);

/** The time stamp counter so many milliseconds from now. */
static inline uint64_t
highway_tsc_in(uint64_t ms)
{
	return rte_rdtsc() + ms * rte_get_tsc_hz() / 1000;
}

/** May this have been because OVS is closing ports? It destroys their rules just before. */
static inline bool
highway_just_now(uint64_t tsc)
{
	return tsc != 0 && rte_rdtsc() - tsc < HIGHWAY_CLOSING_MS * rte_get_tsc_hz() / 1000;
}

/** drain-timeout= in ticks of the time-stamp counter. */
static inline uint64_t
highway_drain_limit(const struct highway_port *port)
{
	return port->options.drain_timeout_s * rte_get_tsc_hz();
}

/** Place a ring of the port region, of those that begin at `offset`. */
static inline void
highway_port_ring(const struct highway_port *port, struct highway_ring_mem *mem, uint64_t offset,
		  uint32_t queue)
{
	const struct highway_geometry *g = &port->geometry;

	highway_ring_place(mem, RTE_PTR_ADD(port->map.base, offset + queue * g->ring_stride),
			   g->ring_size, g->ring_data);
}

/** Count in shared memory, as its only writer. */
static inline void
highway_counter_add(struct highway_counter *counter, uint64_t packets, uint64_t bytes)
{
	/* Bytes first: pairs with read_counter(), which reads packets first, so that it never sees
	 * packets without their bytes.
	 */
	__atomic_store_n(&counter->bytes, counter->bytes + bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&counter->packets, counter->packets + packets, __ATOMIC_RELEASE);
}

/** Tell the other side of a port region that something changed. */
static inline void
highway_gate_change(struct highway_port_region *region)
{
	/* Pairs with the loads of gate.change in bursts and in highway_vnf_update(). */
	__atomic_fetch_add(&region->gate.change, 1, __ATOMIC_RELEASE);
}

#endif /* HIGHWAY_H */
