/* SPDX-License-Identifier: Apache-2.0
 * What must hold. No step can be taken for ever (each one uses up packets, marks or changes; that
 * there are no cycles is checked too), so "in the end everything is delivered" is a property of
 * the states in which nothing can move.
 */

byte sent[QUEUES * CLASSES];	/* accepted from the application: also the next number */
byte next[QUEUES * CLASSES];	/* the least number that may be delivered */
byte got[QUEUES * CLASSES];
byte dropped[QUEUES * CLASSES];	/* by OVS, at a full ring of the receiver */
byte n_ended;			/* senders that have sent all or have gone silent */

#ifdef DEAD		/* after a time limit, order is not kept */
#define LATE(class) (TIMED_OUT(class))
#else
#define LATE(class) false
#endif

inline deliver(packet)
{
	/* Never again, and never behind a later one. */
	assert(B(packet) >= next[COUNT(Q(packet), A(packet))] || LATE(A(packet)));
	next[COUNT(Q(packet), A(packet))] = B(packet) + 1;
	got[COUNT(Q(packet), A(packet))]++
}

inline drop(packet)
{
#ifndef DROPS
	assert(false);		/* the rings are large enough in this configuration */
#endif
	dropped[COUNT(Q(packet), A(packet))]++
}

#ifdef DEAD
/* What lies in front of the dead is lost. */
inline count_abandoned()
{
	for (j : 0 .. LINKS * RXQ - 1) {
		do
		:: len(receive[j]) > 0 ->
			receive[j]?entry;
			if
			:: KIND(entry) == PACKET ->
				abandoned[COUNT(Q(entry), A(entry))]++
			:: else
			fi
		:: else ->
			break
		od
	}
	for (j : 0 .. QUEUES - 1) {
		for (k : bypass[TX(j, 0)].tail .. bypass[TX(j, 0)].head) {
			entry = bypass[TX(j, 0)].slot[k % BYPASS_RING];
			if
			:: k < bypass[TX(j, 0)].head && KIND(entry) == PACKET ->
				abandoned[COUNT(Q(entry), A(entry))]++
			:: else
			fi
		}
	}
}

byte abandoned[QUEUES * CLASSES];

/* Class 0 goes to the receiver that may be dead, class 1 to the other one. */
proctype Check()
{
	byte i, j, k;
	int entry;

	timeout ->
	atomic {
		count_abandoned();
		for (i : 0 .. QUEUES - 1) {
			assert(len(normal[i]) == 0);
			assert(sent[COUNT(i, 1)] == PACKETS);	/* the dead one stops nobody */
			assert(got[COUNT(i, 1)] == PACKETS);
#ifdef DEAD_QUEUE
			assert(sent[COUNT(i, 0)] == PACKETS);	/* the time limit ends waits */
#endif
			assert(got[COUNT(i, 0)] + dropped[COUNT(i, 0)] + abandoned[COUNT(i, 0)] ==
			       sent[COUNT(i, 0)])
		}
	}
}
#else
proctype Check()
{
	byte i;

	timeout ->
	atomic {
		assert(n_ended == QUEUES);	/* no sender is stuck */
		for (i : 0 .. QUEUES * CLASSES - 1) {
			assert(got[i] + dropped[i] == sent[i])
		}
	}
}
#endif
