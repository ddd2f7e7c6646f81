/* SPDX-License-Identifier: Apache-2.0
 * highway_vnf_tx.c: one transmit queue. Names are the functions' there.
 */

#define BIT(l) (1 << (l))

inline leave_links()
{
	ok = true;
	k = 0;
	do
	:: k < LINKS && ok ->
		if
		:: (leave_mask & BIT(k)) != 0 && tx[TX(q, k)].link_id != 0 &&
		   bypass[TX(q, k)].head != tx[TX(q, k)].left_at ->
#ifndef NO_LEAVE
			if
			:: N_ROOM(q) ->
				printf("q%d: LEAVE(%d) of link %d\n", q, bypass[TX(q, k)].head, k);
				n_put(q, ENTRY(LEAVE, 0, bypass[TX(q, k)].head, k,
					       tx[TX(q, k)].link_id));
				tx[TX(q, k)].left_at = bypass[TX(q, k)].head
			:: else ->
				ok = false
			fi
#else
			tx[TX(q, k)].left_at = bypass[TX(q, k)].head
#endif
		:: else
		fi;
		if
		:: ok ->
			leave_mask = leave_mask & ~BIT(k);
			k++
		:: else
		fi
	:: else ->
		break
	od;
	k = 0
}

inline give_up_link(link)
{
	tx[TX(q, link)].entered = 0;
	leave_mask = leave_mask | BIT(link)
}

inline give_up_all()
{
	for (k : 0 .. LINKS - 1) {
		if
		:: tx[TX(q, k)].entered != 0 ->
			give_up_link(k)
		:: else
		fi
	}
	k = 0
}

#ifdef TWO_ENTERS
#define ENTER_UNFINISHED(t) false
#else
#define ENTER_UNFINISHED(t) (tx[t].entering && bypass[t].tail <= tx[t].fence_at)
#endif

/* In: l, t; out: ok. */
inline enter_link()
{
	if
	:: ENTER_UNFINISHED(t) ->
		ok = false
	:: else ->
		tx[t].entering = false;
		leave_links();
		if
		:: ok && B_ROOM(t) && N_ROOM(q) ->
			tx[t].epoch++;
			printf("q%d: ENTER(%d) of link %d, fence at %d\n", q, tx[t].epoch, l,
			       bypass[t].head);
			n_put(q, ENTRY(ENTER, 0, tx[t].epoch, l, tx[t].link_id));
			tx[t].fence_at = bypass[t].head;
			b_put(t, ENTRY(FENCE, 0, tx[t].epoch, 0, 0));
			tx[t].entering = true;
			tx[t].entered = own[q].version
		:: else ->
			ok = false
		fi
	fi
}

inline new_view()
{
	own[q].version = view[p].version;
#ifdef DEPTH	/* the rule of class 1 has it parsed deeper */
	if
	:: (own[q].generation[1] != 0) != (view[p].generation[1] != 0) ->
		give_up_all()
	:: else
	fi;
#endif
	for (k : 0 .. CLASSES - 1) {
		own[q].generation[k] = view[p].generation[k];
		own[q].born[k] = view[p].born[k]
	}
	own[q].off = view[p].off;
	for (k : 0 .. LINKS - 1) {
		own[q].link[k] = view[p].link[k];
		own[q].usable[k] = view[p].usable[k];
		if
		:: own[q].link[k] == 0 ->
			leave_mask = leave_mask & ~BIT(k)
		:: else ->
			if
			:: bypass[TX(q, k)].head != tx[TX(q, k)].left_at ->
				leave_mask = leave_mask | BIT(k)
			:: else
			fi;
			if
			:: !own[q].usable[k] && tx[TX(q, k)].entered != 0 ->
				give_up_link(k)
			:: else
			fi
		fi
	}
	k = 0
}

/* In: c, l, t; out: taken. */
inline put_bypass()
{
	if
	:: closed || own[q].generation[c] == 0
	:: else ->
		if
		:: rule[RULE(p, c)].live != own[q].generation[c] ->
			leave_mask = leave_mask | BIT(l)
		:: else ->
			if
			:: !own[q].usable[l]
			:: else ->
				ok = true;
				if
				:: tx[t].entered >= own[q].born[c]
				:: else ->
					enter_link()
				fi;
				if
				:: ok && B_ROOM(t) ->
					printf("q%d: c%d #%d on the bypass %d\n", q, c,
					       sent[COUNT(q, c)], l);
					b_put(t, ENTRY(PACKET, q, c, sent[COUNT(q, c)], 0));
					taken = 1
				:: ok && !B_ROOM(t) ->
					taken = 0
				:: !ok
				fi
			fi
		fi
	fi
}

/* In: c; out: taken. */
inline put_normal()
{
#ifdef LEAVE_BEHIND
	if
	:: N_ROOM(q) ->
		printf("q%d: c%d #%d on the normal channel\n", q, c, sent[COUNT(q, c)]);
		n_put(q, ENTRY(PACKET, q, c, sent[COUNT(q, c)], 0));
		taken = 1;
		leave_links()
	:: else ->
		taken = 0
	fi
#else
	leave_links();
	if
	:: ok && N_ROOM(q) ->
		printf("q%d: c%d #%d on the normal channel\n", q, c, sent[COUNT(q, c)]);
		n_put(q, ENTRY(PACKET, q, c, sent[COUNT(q, c)], 0));
		taken = 1
	:: else ->
		taken = 0
	fi
#endif
}

/* One packet of class c. */
inline send()
{
	l = LINK_OF(q, c);
	t = TX(q, l);
	taken = 2;
	put_bypass();
	if
	:: taken == 2 ->
		put_normal()
	:: else
	fi;
	if
	:: taken == 1 ->
		sent[COUNT(q, c)]++;
		n++
	:: else ->
		refused[COUNT(q, c)] = true;
		n = BURST
	fi;
	ok = false;
	taken = 0;
	c = 0;
	l = 0;
	t = 0
}

#define TO_SEND(q, c) (sent[COUNT(q, c)] < PACKETS && !refused[COUNT(q, c)] && MAY_SEND(q))
#if CLASSES > 1
#define ANY_TO_SEND(q) (TO_SEND(q, 0) || TO_SEND(q, 1))
#define ALL_SENT(q) (sent[COUNT(q, 0)] == PACKETS && sent[COUNT(q, 1)] == PACKETS)
#else
#define ANY_TO_SEND(q) TO_SEND(q, 0)
#define ALL_SENT(q) (sent[COUNT(q, 0)] == PACKETS)
#endif

/* Which packet comes next is the application's business. */
inline choose_class()
{
	if
	:: TO_SEND(q, 0) -> c = 0
#if CLASSES > 1
	:: TO_SEND(q, 1) -> c = 1
#endif
	fi
}

inline publish_bypass()
{
	for (k : 0 .. LINKS - 1) {
		bypass[TX(q, k)].published = bypass[TX(q, k)].head
	}
	k = 0
}

inline publish_normal()
{
	unpublished[q] = 0;
	n = 0;
#if REMOVALS > 0
	in_burst[q] = false;
#endif
	closed = false
}

proctype Sender(byte q)
{
	byte p, c, l, t, k, n, taken, leave_mask;
	bool ok, closed;

	p = PORT_OF(q);
#ifdef DEAD
end:
#endif
	do
	:: atomic {
		ANY_TO_SEND(q) ->
#if REMOVALS > 0
		in_burst[q] = true;
#endif
		if
		:: own[q].version != view[p].version ->
			new_view()
		:: else
		fi;
		closed = own[q].off || gate_closed[p];
		if
		:: closed ->
			give_up_all()
		:: else
		fi;
		choose_class();
		send();
#if BURST == 1
		publish_bypass();
		publish_normal()
	   }
#else
	   }
	   do
	   :: atomic {
		n < BURST && ANY_TO_SEND(q) ->
		choose_class();
		send()
	      }
	   :: break
	   od;
#ifdef NORMAL_FIRST
	   unpublished[q] = 0;
#endif
	   atomic {
		publish_bypass()
	   }
	   atomic {
		publish_normal()
	   }
#endif
#ifndef CONSTANT
	:: atomic {		/* from now on silent; not while it is refused, for then it is stuck */
		ANY_TO_SEND(q) ->
		printf("q%d: silent\n", q);
		break
	   }
#endif
	:: ALL_SENT(q) -> break
	od;
	atomic {
		n_ended++;
		leave_mask = 0
	}
}
