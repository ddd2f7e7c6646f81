/* SPDX-License-Identifier: Apache-2.0
 * What the processes share.
 */

/* ------------------------------------------------------------------------- entries of rings --- */

/* kind      | queue  | a        | b          | id
 * PACKET    | sender | class    | number     |
 * ENTER     |        | epoch    | link       | link's id
 * LEAVE     |        | Be       | link       | link's id
 * FENCE     |        | epoch    |            |
 * SYNC      | sender | entered  | leave      | link's id
 */
#define PACKET 1
#define ENTER 2
#define LEAVE 3
#define FENCE 4
#define SYNC 5

#define ENTRY(kind, queue, a, b, id) \
	((kind) | (queue) << 3 | (a) << 5 | (b) << 11 | (id) << 17)
#define KIND(e) ((e) & 7)
#define Q(e) ((e) >> 3 & 3)
#define A(e) ((e) >> 5 & 63)
#define B(e) ((e) >> 11 & 63)
#define ID(e) ((e) >> 17 & 3)

/* Entries of normal and receive rings are never spoken of by index, so channels do. */
chan normal[QUEUES] = [NORMAL_RING] of { int };
byte unpublished[QUEUES];	/* entries of `normal` that the switch does not see yet */
chan receive[LINKS * RXQ] = [RECEIVE_RING] of { int };

/* Indexes only grow; an entry that was consumed is set to 0, so that states stay few. */
typedef bypass_ring {
	int slot[BYPASS_RING];
	byte head;		/* ahead of what is published */
	byte published;
	byte tail
}
bypass_ring bypass[QUEUES * LINKS];

#define TX(q, l) ((q) * LINKS + (l))
#define RX(l, x) ((l) * RXQ + (x))
#define LINK(p, l) ((p) * LINKS + (l))
#define RULE(p, c) ((p) * CLASSES + (c))
#define COUNT(q, c) ((q) * CLASSES + (c))

/* -------------------------------------------------------------------------------- sender's --- */

typedef tx_link {		/* struct highway_tx_link */
	byte link_id;
	byte left_at;
	byte entered;
	byte epoch;
	byte fence_at;
	bool entering
}
tx_link tx[QUEUES * LINKS];

typedef sender_view {		/* struct highway_view */
	byte version;
	byte generation[CLASSES];	/* 0: no such rule */
	byte born[CLASSES];
	byte link[LINKS];		/* id, 0: none */
	bool usable[LINKS];
	bool off
}
sender_view view[PORTS];	/* port->view: what a burst that begins now uses */
sender_view own[QUEUES];	/* what the queue's burst uses */
bool refused[QUEUES * CLASSES];	/* and nothing has changed since: not tried again */
#if REMOVALS > 0
bool in_burst[QUEUES];
#endif

/* ---------------------------------------------------------------------------------- rules --- */

typedef a_rule {
	byte generations;	/* given so far */
	byte live;
	byte birth_generation;	/* struct highway_birth */
	byte birth_link;
	byte birth_version
}
a_rule rule[PORTS * CLASSES];
byte n_changes;			/* of rules, gates and links, so far */
bool changed[PORTS];		/* gate.change is not view.change */
bool gate_closed[PORTS];

/* ---------------------------------------------------------------------------------- links --- */

typedef link_end {		/* struct highway_link, at the sender */
	byte id;		/* 0: none */
	bool usable;
	bool leaving
}
link_end at_sender[PORTS * LINKS];
byte at_receiver[PORTS * LINKS];	/* id, 0: none */
byte entered[QUEUES * LINKS * RXQ];	/* rx->entered[] */
#define ENTERED(q, l, x) entered[((q) * LINKS + (l)) * RXQ + (x)]

#ifdef DEAD
bool dead;			/* receiver 0, or its last queue only */
bool timed_out;			/* a queue of it that lives waits no more */
#ifdef DEAD_QUEUE
#define ALIVE(l, x) ((l) != 0 || (x) != RXQ - 1 || !dead)
#else
#define ALIVE(l, x) ((l) != 0 || !dead)
#endif
#define TIMED_OUT(l) ((l) == 0 && timed_out)
#else
#define ALIVE(l, x) true
#define TIMED_OUT(l) false
#endif

/* -------------------------------------------------------------------------------- switch's --- */

typedef pending_marks {		/* struct highway_pending */
	byte id;		/* the link's */
	byte entered;
	byte leave;
	byte enter_rings;	/* bit per ring that still lacks it */
	byte leave_rings
}
pending_marks pending[LINKS * QUEUES];
#define PENDING(l, q) ((l) * QUEUES + (q))
#define ALL_RINGS ((1 << RXQ) - 1)
#ifdef COMBINED_MARKS
byte table[LINKS * QUEUES];	/* sender queues with marks, in the order of their entries */
byte n_table[LINKS];
#endif
