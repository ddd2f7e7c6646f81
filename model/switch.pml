/* SPDX-License-Identifier: Apache-2.0
 * highway_switch_rxtx.c, and OVS around it: one thread per sender port reads what its queues have
 * sent, and puts it into the receivers' rings when OVS flushes.
 */

/* ----------------------------------------------------------------------------------- marks --- */

#ifdef COMBINED_MARKS
/* One mark for all of a sender queue, in the order of a table that is filled up from its end. */
inline flush_pending(l, x)
{
	ok = true;
	u = 0;
	do
	:: u < n_table[l] ->
		v = PENDING(l, table[l * QUEUES + u]);
		if
		:: (pending[v].enter_rings & 1 << x) != 0 && R_ROOM(RX(l, x)) ->
			printf("switch: SYNC of q%d to ring %d.%d: entered %d, leave %d\n",
			       table[l * QUEUES + u], l, x, pending[v].entered, pending[v].leave);
			receive[RX(l, x)]!ENTRY(SYNC, table[l * QUEUES + u], pending[v].entered,
					      pending[v].leave, pending[v].id);
			pending[v].enter_rings = pending[v].enter_rings & ~(1 << x)
		:: (pending[v].enter_rings & 1 << x) != 0 ->
			ok = false	/* was full when this entry had its turn */
		:: else
		fi;
		if
		:: pending[v].enter_rings == 0 ->
			forget(v);
			n_table[l]--;
			table[l * QUEUES + u] = table[l * QUEUES + n_table[l]];
			table[l * QUEUES + n_table[l]] = 0
		:: else ->
			u++
		fi
	:: else ->
		break
	od;
	u = 0;
	v = 0
}
#else
/* All Enters before any Leave: what waits for an Enter must not hold it up. */
inline flush_pending(l, x)
{
	ok = true;
	u = 0;
	do
	:: u < QUEUES && ok ->
		v = PENDING(l, u);
		if
		:: (pending[v].enter_rings & 1 << x) != 0 && R_ROOM(RX(l, x)) ->
			printf("switch: SYNC of q%d to ring %d.%d: entered %d\n", u, l, x,
			       pending[v].entered);
			receive[RX(l, x)]!ENTRY(SYNC, u, pending[v].entered, 0, pending[v].id);
			pending[v].enter_rings = pending[v].enter_rings & ~(1 << x);
			forget(v)
		:: (pending[v].enter_rings & 1 << x) != 0 && !R_ROOM(RX(l, x)) ->
			ok = false
		:: else
		fi;
		u++
	:: else ->
		break
	od;
	u = 0;
	do
	:: u < QUEUES && ok ->
		v = PENDING(l, u);
		if
		:: (pending[v].leave_rings & 1 << x) != 0 && R_ROOM(RX(l, x)) ->
			printf("switch: SYNC of q%d to ring %d.%d: leave %d\n", u, l, x,
			       pending[v].leave);
			receive[RX(l, x)]!ENTRY(SYNC, u, 0, pending[v].leave, pending[v].id);
			pending[v].leave_rings = pending[v].leave_rings & ~(1 << x);
			forget(v)
		:: (pending[v].leave_rings & 1 << x) != 0 && !R_ROOM(RX(l, x)) ->
			ok = false
		:: else
		fi;
		u++
	:: else ->
		break
	od;
	u = 0;
	v = 0
}
#endif

/* An entry that no ring lacks any more. */
inline forget(w)
{
	if
	:: pending[w].enter_rings == 0 && pending[w].leave_rings == 0 ->
		pending[w].entered = 0;
		pending[w].leave = 0;
		pending[w].id = 0
	:: else
	fi
}

inline flush_all(l)
{
	flushed = true;
	for (x : 0 .. RXQ - 1) {
		flush_pending(l, x);
		flushed = flushed && ok
	}
	x = 0
}

#ifdef ONE_RING
#define MARKED_RINGS(q) (1 << (q) % RXQ)
#else
#define MARKED_RINGS(q) ALL_RINGS
#endif

/* In: q; mark: ENTER or LEAVE. */
inline pass_on(mark)
{
	l = B(mark);
	v = PENDING(l, q);
#ifdef COMBINED_MARKS
	if
	:: pending[v].enter_rings == 0 ->
		table[l * QUEUES + n_table[l]] = q;
		n_table[l]++
	:: else
	fi;
#endif
	if
	:: pending[v].id != ID(mark) ->
		pending[v].id = ID(mark);
		pending[v].entered = 0;
		pending[v].leave = 0;
		pending[v].enter_rings = 0;
		pending[v].leave_rings = 0
	:: else
	fi;
	if
	:: KIND(mark) == ENTER ->
		pending[v].entered = A(mark);
		pending[v].enter_rings = MARKED_RINGS(q)
	:: else ->
		pending[v].leave = A(mark);
#ifdef COMBINED_MARKS
		pending[v].enter_rings = MARKED_RINGS(q)
#else
		pending[v].leave_rings = MARKED_RINGS(q)
#endif
	fi;
	v = 0;
	flush_all(l);
#ifdef RETRY_BY_SENDER
	retry[q] = (flushed -> 0 : l + 1);
#endif
	flushed = false;
	l = 0
}

/* --------------------------------------------------------------------------------- receive --- */

#ifdef RETRY_BY_SENDER
byte retry[QUEUES];		/* 0, or the link + 1 whose receiver still lacks a mark */
#define MARK_FITS(l) (RING_LACKS(l, 0) || RXQ > 1 && RING_LACKS(l, RXQ - 1))
#define RETRY(q) (retry[q] != 0 && MARK_FITS(retry[q] - 1))
#else
#define RETRY(q) false
#endif
#if QUEUES > 2
#define LACKS_MARK(l, x) (LACKS(l, x, 0) || LACKS(l, x, 1) || LACKS(l, x, 2))
#elif QUEUES > 1
#define LACKS_MARK(l, x) (LACKS(l, x, 0) || LACKS(l, x, 1))
#else
#define LACKS_MARK(l, x) LACKS(l, x, 0)
#endif
#define LACKS(l, x, q) \
	(((pending[PENDING(l, q)].enter_rings | pending[PENDING(l, q)].leave_rings) & 1 << (x)) != 0)
#define RING_LACKS(l, x) (LACKS_MARK(l, x) && R_ROOM(RX(l, x)))

int batch[PORTS * BATCH];	/* read by OVS, not flushed yet */
byte n_batch[PORTS];
int enter[QUEUES];		/* ring->enter: a mark to pass on at the next poll; 0: none */
#ifdef FLUSH_LATER
bool unflushed[QUEUES];		/* OVS may still have what was in front of that mark */
#define MAY_PASS_ON(q) (!unflushed[q])
#else
#define MAY_PASS_ON(q) true
#endif

#define TO_READ(q) (enter[q] == 0 && len(normal[q]) > unpublished[q])
#define TO_POLL(q) \
	(PORT_OF(q) == p && (TO_READ(q) || enter[q] != 0 && MAY_PASS_ON(q) || RETRY(q)))

inline take_packet()
{
	batch[p * BATCH + n_batch[p]] = entry;
	n_batch[p]++
}

inline take_marker()
{
	if
	:: KIND(entry) == LEAVE ->
		pass_on(entry)
	:: else ->
		assert(KIND(entry) == ENTER);
#ifdef SYNC_AT_ENTER
		pass_on(entry);
#else
		enter[q] = entry;
#ifdef FLUSH_LATER
#ifndef FLUSH_NOT_AWAITED
		unflushed[q] = n_batch[p] != 0;
#endif
#endif
#endif
		entry = 0;
		break
	fi
}

/* One ring; in: p, q. Anything from one entry to all that fit may be published by now. */
inline drain()
{
#ifdef RETRY_BY_SENDER
	if
	:: retry[q] != 0 ->
		l = retry[q] - 1;
		flush_all(l);
		retry[q] = (flushed -> 0 : l + 1);
		flushed = false;
		l = 0
	:: else
	fi;
#endif
	if
	:: enter[q] != 0 && MAY_PASS_ON(q) ->
		entry = enter[q];
		enter[q] = 0;
		pass_on(entry);
		entry = 0
	:: else
	fi;
	some = false;
	do
	:: TO_READ(q) && n_batch[p] < BATCH ->
		some = true;
		normal[q]?entry;
		wake(q);
		if
		:: KIND(entry) == PACKET ->
			take_packet()
		:: else ->
			take_marker()
		fi;
		entry = 0
	:: some || !TO_READ(q) || n_batch[p] == BATCH ->
		break
	od;
	some = false
}

/* -------------------------------------------------------------------------------- transmit --- */

/* OVS flushes what it has for each port: highway_switch_tx(), and what that refuses is dropped. */
inline flush_batch()
{
	for (i : 0 .. n_batch[p] - 1) {
		entry = batch[p * BATCH + i];
		batch[p * BATCH + i] = 0;
		l = LINK_OF(Q(entry), A(entry));
		x = RING_OF(Q(entry), A(entry));
		ok = (refusing & 1 << l) == 0;
		if
		:: ok ->
			flush_pending(l, x)
		:: else
		fi;
		if
		:: ok && R_ROOM(RX(l, x)) ->
			receive[RX(l, x)]!entry
		:: else ->
			refusing = refusing | 1 << l;
			printf("switch: q%d c%d #%d dropped\n", Q(entry), A(entry), B(entry));
			drop(entry)
		fi;
		ok = false
	}
	n_batch[p] = 0;
#ifdef FLUSH_LATER
	for (i : 0 .. QUEUES - 1) {
		if
		:: PORT_OF(i) == p ->
			unflushed[i] = false
		:: else
		fi
	}
#endif
	i = 0;
	entry = 0;
	refusing = 0;
	l = 0;
	x = 0
}

proctype Switch(byte p)
{
	byte q, l, x, u, v, w, i, refusing;
	int entry;
	bool ok, flushed, some;

end:	do
	:: atomic {
#ifdef FLUSH_LATER
		n_batch[p] < BATCH &&
#endif
#if QUEUES > 2
		(TO_POLL(0) || TO_POLL(1) || TO_POLL(2)) ->
#elif QUEUES > 1
		(TO_POLL(0) || TO_POLL(1)) ->
#else
		TO_POLL(0) ->
#endif
		/* All rings by turns, and any may be the first. */
#if QUEUES > PORTS
		if
		:: i = 0
		:: i = 1
		fi;
#endif
		q = i;
		i = 0;
		do
		:: i < QUEUES ->
			if
			:: TO_POLL(q) && n_batch[p] < BATCH ->
				drain()
			:: else
			fi;
			q = (q + 1) % QUEUES;
			i++
		:: else ->
			break
		od;
		q = 0;
		i = 0
	   }
#ifndef FLUSH_LATER
	   atomic {
		if
		:: n_batch[p] != 0 -> flush_batch()
		:: else
		fi
	   }
#else
	:: atomic {
		n_batch[p] != 0 ->
		flush_batch()
	   }
#endif
	od
}

#ifndef RETRY_BY_SENDER
/* Whoever polls the receiver's port puts in the marks that have found no room. */
proctype Port(byte l)
{
	byte x, u, v;
	bool ok, flushed;

end:	do
	:: atomic {
		RING_LACKS(l, 0) || RXQ > 1 && RING_LACKS(l, RXQ - 1) ->
		flush_all(l);
		ok = false;
		flushed = false
	   }
	od
}
#endif
