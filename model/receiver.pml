/* SPDX-License-Identifier: Apache-2.0
 * highway_vnf_rx.c: one receive queue, and its rings of the links' bypass channels.
 */

#define HELD(q) \
	(hold_link != 0 && at_receiver[LINK(PORT_OF(q), l)] == hold_link && \
	 bypass[TX(q, l)].tail < hold_until && !TIMED_OUT(l))

#if RXQ > 1
#define ENTERED_ALL(q, e) (ENTERED(q, l, 0) >= (e) && ENTERED(q, l, 1) >= (e))
#else
#define ENTERED_ALL(q, e) (ENTERED(q, l, 0) >= (e))
#endif
#ifdef NO_FENCE
#define GATE_OPEN(q, e) true
#elif defined ONE_RING
#define GATE_OPEN(q, e) (ENTERED(q, l, (q) % RXQ) >= (e))
#else
#define GATE_OPEN(q, e) ENTERED_ALL(q, e)
#endif

/* Has this queue something to take from the bypass ring of queue q? */
#define TO_TAKE(q) \
	(ALIVE(l, x) && (q) % RXQ == x && at_receiver[LINK(PORT_OF(q), l)] != 0 && \
	 bypass[TX(q, l)].tail < bypass[TX(q, l)].published && \
	 (KIND(B_FRONT(TX(q, l))) != FENCE || TIMED_OUT(l) || \
	  GATE_OPEN(q, A(B_FRONT(TX(q, l))))))

/* In: entry, a SYNC. */
inline take_sync()
{
	q = Q(entry);
	if
	:: ID(entry) != at_receiver[LINK(PORT_OF(q), l)]
	:: else ->
		if
		:: A(entry) > ENTERED(q, l, x) ->
			ENTERED(q, l, x) = A(entry)
		:: else
		fi;
#ifndef NO_HOLD
		if
		:: B(entry) > bypass[TX(q, l)].tail ->
			assert(B(entry) <= bypass[TX(q, l)].published);	/* else it closes the link */
			printf("receiver %d.%d: holds until %d of q%d\n", l, x, B(entry), q);
			hold_link = ID(entry);
			hold_queue = q;
			hold_until = B(entry)
		:: else
		fi
#endif
	fi;
	q = 0
}

inline drain_normal()
{
	hold_link = 0;
	hold_queue = 0;
	hold_until = 0;
	receive[RX(l, x)]?entry;
	if
	:: KIND(entry) == PACKET ->
		printf("receiver %d.%d: q%d c%d #%d from the normal channel\n", l, x, Q(entry),
		       A(entry), B(entry));
		deliver(entry)
	:: else ->
		printf("receiver %d.%d: SYNC of q%d: entered %d, leave %d\n", l, x, Q(entry), A(entry),
		       B(entry));
		take_sync()
	fi;
	entry = 0
}

inline drain_bypass()
{
	entry = B_FRONT(TX(q, l));
	b_take(TX(q, l));
	wake(q);
	if
	:: KIND(entry) == PACKET ->
		printf("receiver %d.%d: q%d c%d #%d from the bypass\n", l, x, Q(entry), A(entry),
		       B(entry));
		deliver(entry)
	:: else ->
		printf("receiver %d.%d: passes the fence %d of q%d\n", l, x, A(entry), q)
	fi;
	entry = 0;
	q = 0
}

proctype Receiver(byte l; byte x)
{
	byte q, w, hold_link, hold_queue, hold_until;
	int entry;

end:	do
	:: atomic {
		ALIVE(l, x) && len(receive[RX(l, x)]) > 0 && !HELD(hold_queue) ->
		drain_normal()
	   }
	:: atomic {
		TO_TAKE(0) ->
		q = 0;
		drain_bypass()
	   }
#if QUEUES > 1
	:: atomic {
		TO_TAKE(1) ->
		q = 1;
		drain_bypass()
	   }
#endif
#if QUEUES > 2
	:: atomic {
		TO_TAKE(2) ->
		q = 2;
		drain_bypass()
	   }
#endif
	od
}
