/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * traffic: a DPDK application that sends numbered packets in several classes from several queues,
 * and checks what it receives: loss, duplication, order, payload, queue and mbuf.
 *
 * A *stream* is what one sender queue sends in one class; order is checked within streams. The
 * source MAC address of a frame names its stream, the payload has its number.
 *
 * Who writes: a queue's fields its worker, everything else the main thread while no worker looks
 * (traffic_settle()). The main thread reads counters at any time.
 */

#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dialogue.h"

#define MAX_PORTS 16
#define MAX_QUEUES 16
#define MAX_CLASSES 32
#define MAX_SOURCES 32
#define MAX_BURST 64
#define MAX_HELD 4096
#define MAX_FRAME 9234		/* MTU 9216, Ethernet header, a VLAN tag */
#define MAX_HEADER 96
#define MAX_SIZES 16
#define MAX_SEGMENTS 32
#define MAX_SHAPES 16
#define MAX_NOTES 32
#define SEEN_WINDOW (1U << 17)	/* numbers behind the highest one that are told apart exactly */

/* --------------------------------------------------------------------------------- classes --- */

/** Frames that a flow table can tell from others by their headers. */
struct frame_class {
	bool used;
	char spec[64];
	uint8_t header[MAX_HEADER];
	uint16_t length;	/**< bytes of headers in front of the payload */
	uint16_t ip_at;		/**< offset of the IP header; 0 = none */
	uint16_t udp_at;	/**< offset of a UDP header; 0 = none */
	uint8_t ip_version;
	uint32_t ip_sum;	/**< IPv4: sum of the header's words without total length */
};

/** Which stream a frame belongs to. */
struct stream_id {
	uint8_t source;
	uint8_t class;
	uint8_t queue;
};

/** In front of the payload's pattern. */
struct frame_tag {
	uint64_t number;
	uint32_t length;	/**< of the whole frame, bytes */
	uint32_t check;		/**< hash of everything above, the stream and the seed */
} __rte_packed;

enum frame_verdict {
	FRAME_OK,
	FRAME_FOREIGN,	/**< not from a program like this */
	FRAME_CORRUPT
};

extern struct frame_class frame_classes[MAX_CLASSES];
extern uint32_t frame_seed;

int frame_class_define(unsigned int id, const char *spec, const char **why);
uint32_t frame_least(const struct frame_class *class);
void frame_build(uint8_t *frame, uint32_t length, struct stream_id id, uint64_t number);
enum frame_verdict frame_check(const uint8_t *frame, uint32_t length, struct stream_id *id,
			       uint64_t *number);

/* --------------------------------------------------------------------------------- sending --- */

struct size_range {
	uint32_t least;
	uint32_t most;
};

/** What a port sends. */
struct plan {
	uint8_t classes[MAX_CLASSES];
	unsigned int n_classes;
	struct size_range sizes[MAX_SIZES];
	unsigned int n_sizes;
	unsigned int segments;	/**< at most so many per frame */
	uint64_t window;	/**< at most so many of a queue under way to receivers here */
	uint64_t rate;		/**< frames per second and queue; 0 = any */
	uint64_t count;		/**< frames per queue; 0 = without end */
	uint32_t queues;	/**< bit per queue that sends */
	bool drop;		/**< what tx_burst refuses is not offered again */
};

struct tx_queue {
	uint16_t port;
	uint16_t queue;
	uint64_t next[MAX_CLASSES];	/**< number of the next frame of each class */
	uint64_t sent[MAX_CLASSES];	/**< taken by tx_burst */
	uint64_t packets;		/**< the same, all classes */
	uint64_t bytes;
	uint64_t refused;	/**< offered and not taken; offered again, they count again */
	uint64_t nombuf;
	uint64_t random;
	uint64_t written_off;	/**< the window does not wait for them any more */
	uint64_t arrived;	/**< at the last progress of the window */
	uint64_t arrived_tsc;
	uint64_t began;		/**< `packets` when the plan began */
	uint64_t began_tsc;
	unsigned int turn;
	unsigned int n_pending;
	struct rte_mbuf *pending[MAX_BURST];
	uint8_t pending_class[MAX_BURST];
} __rte_cache_aligned;

bool send_some(struct tx_queue *txq);

/* ------------------------------------------------------------------------------- receiving --- */

/** What has arrived of one stream at one port. */
struct stream {
	struct stream_id id;
	uint64_t next;		/**< highest number + 1 */
	uint64_t received;	/**< without doubles */
	uint64_t bytes;
	uint64_t doubled;
	uint64_t reordered;	/**< behind one with a higher number */
	uint64_t misdirected;	/**< in another queue than sender queue mod n */
	uint64_t seen[SEEN_WINDOW / 64];
};

/** When a stream's frames have arrived, at whatever port. */
struct rhythm {
	uint64_t last_tsc;	/**< 0 = nothing yet */
	uint64_t longest_gap;	/**< cycles between two frames */
	uint64_t longest_gap_at; /**< number of the frame behind it */
};

/** What an mbuf says apart from its data; one for both channels, if they are alike. */
struct shape {
	uint64_t ol_flags;
	uint32_t packet_type;
	uint16_t data_off;
	uint16_t vlan_tci;
	uint16_t vlan_tci_outer;
	uint16_t port;
	uint64_t tx_offload;
};

struct rx_queue {
	uint16_t port;
	uint16_t queue;
	uint64_t packets;
	uint64_t bytes;
	uint64_t corrupt;
	uint64_t foreign;
	uint64_t bad_mbuf;	/**< lengths, segments or reference counts that cannot be */
	uint64_t multi_segment;
	uint64_t forwarded;
	uint64_t from[MAX_SOURCES][MAX_QUEUES]; /**< sound frames without doubles */
	struct shape shapes[MAX_SHAPES];
	uint64_t shape_packets[MAX_SHAPES];
	unsigned int n_shapes;
	unsigned int n_pending;	/**< to be forwarded */
	struct rte_mbuf *pending[MAX_BURST];
	struct rte_mbuf *held[MAX_HELD];	/**< the last ones, to be checked again */
	uint64_t held_first, held_next;		/**< of them; modulo MAX_HELD */
} __rte_cache_aligned;

bool receive_some(struct rx_queue *rxq);
void receive_forget_gaps(void);
const struct rhythm *receive_rhythm(struct stream_id id);
struct stream *receive_stream(uint16_t port, struct stream_id id);
/** Sound frames of one sender queue that have arrived at any port of this program. */
uint64_t receive_from(uint8_t source, uint16_t queue);

/* ----------------------------------------------------------------------------------- ports --- */

struct port {
	char name[RTE_ETH_NAME_MAX_LEN];
	uint16_t n_rxq;
	uint16_t n_txq;
	uint8_t source;
	bool started;
	bool polled;		/**< workers use it; atomic */
	bool sending;		/**< new frames are made; atomic */
	int forward_to;		/**< port, -1 = what comes is checked */
	struct plan plan;
	struct tx_queue tx[MAX_QUEUES];
	struct rx_queue rx[MAX_QUEUES];
};

struct settings {
	unsigned int burst;
	unsigned int n_mbufs;
	unsigned int room;	/**< bytes of data per mbuf */
	unsigned int mtu;
	unsigned int source;	/**< of port 0 */
	unsigned int tx_shift;	/**< tx queue q belongs to worker q + tx_shift */
	unsigned int polls;	/**< idle rounds before a worker yields, 0 = never */
	unsigned int held;	/**< mbufs that a receive queue keeps for a while; atomic */
	struct { uint16_t rx, tx; } queues[MAX_PORTS];
	unsigned int n_queues;
};

extern struct settings settings;
extern struct port ports[MAX_PORTS];
extern unsigned int n_ports;
extern struct rte_mempool *pool;

int ports_open(void);
void ports_close(void);
int port_start(struct port *port);
int port_stop(struct port *port);

/** Return once no worker is in a round that began before this call. */
void traffic_settle(void);

/* -------------------------------------------------------------- commands and their answers --- */

void notes_add(const char *format, ...) __rte_format_printf(1, 2);

void report_stats(FILE *out);
void report_port(FILE *out, uint16_t port);

/** Read commands until the end; each is answered by one line of JSON. */
void command_loop(FILE *in, FILE *out);

static inline uint64_t
traffic_read(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/** For counters with one writer. */
static inline void
traffic_add(uint64_t *counter, uint64_t by)
{
	__atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

#endif /* TRAFFIC_H */
