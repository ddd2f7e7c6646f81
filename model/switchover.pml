/* SPDX-License-Identifier: Apache-2.0
 * Changes of channel (docs/switchover.md): senders, the switch and receivers, for spin.
 *
 * Run by tests/model; by hand:
 *   spin -a -DQUEUES=2 -DRXQ=2 switchover.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -m100000
 *
 * A configuration is a set of these macros. Numbers count from 0.
 */

/* ---- how many there are ---- */
#ifndef PORTS
#define PORTS 1		/* sender ports, each polled by a thread of its own */
#endif
#ifndef QUEUES
#define QUEUES 1	/* sender queues, over all ports */
#endif
#ifndef LINKS
#define LINKS 1		/* receivers, each with a link to every sender port */
#endif
#ifndef RXQ
#define RXQ 1		/* queues of each receiver, each on a core of its own; at most 2 */
#endif
#ifndef CLASSES
#define CLASSES 1	/* classes per sender queue, each with a rule */
#endif
#ifndef PACKETS
#define PACKETS 3	/* packets that the application has, per class and queue */
#endif
#ifndef BURST
#define BURST 1		/* packets that it sends at once, at most */
#endif

/* ---- what happens ---- */
#ifndef FLIPS
#define FLIPS 3		/* how often some rule comes or goes, at most */
#endif
#ifndef FLIPPING
#define FLIPPING 3	/* bit per class: its rule comes and goes */
#endif
#ifndef START
#define START 0		/* bit per class: its rules that are in force at the beginning */
#endif
#ifndef GATES
#define GATES 0		/* how often the gate of some port closes or opens, at most */
#endif
#ifndef REMOVALS
#define REMOVALS 0	/* how often the link 0 of port 0 is taken down and made again, at most */
#endif

/* FULL_RING: the last ring of receiver 0 is full at the beginning, of marks without meaning. */
/* DROPS: OVS may drop at a full ring. CONSTANT: senders and OVS do all that they may. */

/* DEAD: receiver 0 stops at some moment, with DEAD_QUEUE only its last queue. FLUSH_LATER: OVS has a tx-flush-interval. */

/* ---- sizes, in entries ---- */
#ifndef NORMAL_RING
#define NORMAL_RING 4	/* from a sender queue to the switch */
#endif
#ifndef BYPASS_RING
#define BYPASS_RING 4
#endif
#ifndef RECEIVE_RING
#define RECEIVE_RING 12	/* from the switch to a receiver's queue */
#endif
#ifndef BATCH
#define BATCH 2		/* packets that the switch reads at once, at most */
#endif

/* ---- to which receiver a class goes, and to which of its queues the switch puts it ---- */
#ifdef ECHO
#define LINK_OF(q, c) (q)
#else
#define LINK_OF(q, c) ((c) % LINKS)
#endif
#ifdef UNTAGGED		/* class 1 loses the queue's number on its way through OVS */
#define RING_OF(q, c) (((q) + (c)) % RXQ)
#else
#define RING_OF(q, c) ((q) % RXQ)
#endif
/* May queue q send its next packet? */
#ifdef ECHO		/* queue 1 answers what link 0 has delivered; queue 0 asks with a window */
#define MAY_SEND(q) ((q) == 1 && sent[1] < next[0] || (q) == 0 && sent[0] < next[1] + ECHO)
#else
#define MAY_SEND(q) true
#endif
#define PORT_OF(q) ((q) % PORTS)

#include "state.pml"
#include "rings.pml"
#include "check.pml"
#include "sender.pml"
#include "switch.pml"
#include "receiver.pml"
#include "control.pml"

init {
	byte i, j;

	atomic {
		for (i : 0 .. PORTS - 1) {
			view[i].version = 1;
			for (j : 0 .. CLASSES - 1) {
				if
				:: START >> j & 1 ->
					rule[RULE(i, j)].generations = 1;
					rule[RULE(i, j)].live = 1;
					rule[RULE(i, j)].birth_generation = 1;
					rule[RULE(i, j)].birth_version = 1;
					rule[RULE(i, j)].birth_link = 1;
					view[i].generation[j] = 1;
					view[i].born[j] = 1
				:: else
				fi
			}
			for (j : 0 .. LINKS - 1) {
				at_sender[LINK(i, j)].id = 1;
				at_sender[LINK(i, j)].usable = true;
				at_receiver[LINK(i, j)] = 1;
				view[i].link[j] = 1;
				view[i].usable[j] = true
			}
			run Switch(i);
			run Control(i)
		}
		for (i : 0 .. QUEUES - 1) {
			for (j : 0 .. LINKS - 1) {
				tx[TX(i, j)].link_id = 1
			}
			run Sender(i)
		}
		for (i : 0 .. LINKS - 1) {
			for (j : 0 .. RXQ - 1) {
				run Receiver(i, j)
			}
#ifndef RETRY_BY_SENDER
			run Port(i)
#endif
		}
#ifdef FULL_RING
		for (i : 1 .. RECEIVE_RING) {
			receive[RX(0, RXQ - 1)]!ENTRY(SYNC, 0, 0, 0, 0)
		}
#endif
		run Changes();
#if REMOVALS > 0
		run Highwayd();
#endif
#ifdef DEAD
		run Death();
#if defined DEAD_QUEUE && !defined NO_TIME_LIMIT
		run Timeout();
#endif
#endif
		run Check();
		i = 0;
		j = 0
	}
}
