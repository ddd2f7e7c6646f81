/* SPDX-License-Identifier: Apache-2.0
 * What OVS and highwayd do to rules, gates and links, and the VNF's control thread, which makes
 * views of it (highway_view.c, highway_link.c).
 */

/* A port's gate.change; in: p. */
inline note()
{
	changed[p] = true;
	n_changes++;
	wake_all()
}

inline wake_all()
{
	for (w : 0 .. QUEUES * CLASSES - 1) {
		refused[w] = false
	}
	w = 0
}

inline choose_port()
{
#if PORTS > 1
	if
	:: p = 0
	:: p = 1
	fi
#else
	p = 0
#endif
}

inline choose_rule()
{
#if CLASSES > 1 && FLIPPING == 3
	if
	:: c = 0
	:: c = 1
	fi
#else
	c = (FLIPPING >> 1) % CLASSES
#endif
}

proctype Changes()
{
	byte p, c, w, flips, gates;

	do
	:: atomic {
		flips < FLIPS ->
		choose_port();
		choose_rule();
		if
		:: rule[RULE(p, c)].live != 0 ->
			printf("OVS: the rule of class %d of port %d goes\n", c, p);
			rule[RULE(p, c)].live = 0
		:: else ->
			printf("OVS: the rule of class %d of port %d comes\n", c, p);
			rule[RULE(p, c)].generations++;
			rule[RULE(p, c)].live = rule[RULE(p, c)].generations
		fi;
		flips++;
		note();
		p = 0;
		c = 0
	   }
#if GATES > 0
	:: atomic {
		gates < GATES ->
		choose_port();
		gate_closed[p] = !gate_closed[p];
		printf("highwayd: the gate of port %d is closed: %d\n", p, gate_closed[p]);
		gates++;
		note();
		p = 0
	   }
#endif
#ifndef CONSTANT
	:: break		/* nothing more happens */
#endif
	:: flips == FLIPS && gates == GATES -> break
	od;
	flips = 0;
	gates = 0
}

/* highway_view_renew(); in: p. */
inline make_view()
{
	changed[p] = false;
	view[p].version = n_changes + 1;	/* what counts is that it grows */
	view[p].off = gate_closed[p];
	for (i : 0 .. LINKS - 1) {
		view[p].link[i] = at_sender[LINK(p, i)].id;
		view[p].usable[i] = at_sender[LINK(p, i)].usable
	}
	for (i : 0 .. CLASSES - 1) {
		r = RULE(p, i);
		id = at_sender[LINK(p, LINK_OF(p, i))].id;
		if
		:: rule[r].live != 0 && id != 0 && !at_sender[LINK(p, LINK_OF(p, i))].leaving ->
			if
			:: rule[r].birth_generation != rule[r].live || rule[r].birth_link != id ->
				rule[r].birth_generation = rule[r].live;
				rule[r].birth_link = id;
				rule[r].birth_version = view[p].version
			:: else
			fi;
			view[p].generation[i] = rule[r].live;
			view[p].born[i] = rule[r].birth_version
		:: else ->
			view[p].generation[i] = 0;
			view[p].born[i] = 0
		fi
	}
	printf("port %d: view %d\n", p, view[p].version);
	i = 0;
	r = 0;
	id = 0;
	wake_all()
}

proctype Control(byte p)
{
	byte i, r, w, id;

end:	do
	:: atomic {
		changed[p] ->
		make_view()
	   }
	od
}

#if REMOVALS > 0
#define LAST_LINK_EMPTY(q) (bypass[TX(q, 0)].tail == bypass[TX(q, 0)].head)
#if QUEUES > 1
#define NO_BURST (!in_burst[0] && !in_burst[1])
#define EMPTY (LAST_LINK_EMPTY(0) && LAST_LINK_EMPTY(1))
#else
#define NO_BURST (!in_burst[0])
#define EMPTY LAST_LINK_EMPTY(0)
#endif
#ifdef UNDRAINED
#define DRAINED true
#else
#define DRAINED EMPTY
#endif

/* The sender's end stands in no view any more. */
inline detach_sender()
{
	for (i : 0 .. QUEUES - 1) {
		tx[TX(i, 0)].link_id = 0;
		tx[TX(i, 0)].left_at = 0;
		tx[TX(i, 0)].entered = 0;
		tx[TX(i, 0)].fence_at = 0;
		tx[TX(i, 0)].entering = false
	}
	i = 0
}

/* A region of its own, and both ends have it. */
inline make_link()
{
	id = removals + 1;
	for (i : 0 .. QUEUES - 1) {
		bypass[TX(i, 0)].head = 0;
		bypass[TX(i, 0)].published = 0;
		bypass[TX(i, 0)].tail = 0;
		tx[TX(i, 0)].link_id = id;
		for (w : 0 .. RXQ - 1) {
			ENTERED(i, 0, w) = 0
		}
	}
	w = 0;
	i = 0;
	at_receiver[0] = id;
	at_sender[0].id = id;
	at_sender[0].leaving = false;
	at_sender[0].usable = true;
	printf("link 0 is back\n");
	id = 0;
	note()
}

/* highway_links_tick() at both ends of link 0: leaving, drained() and detach(), and made again. */
proctype Highwayd()
{
	byte p, i, r, id, w, removals;

end:	do
	:: removals < REMOVALS ->
		atomic {
			printf("link 0 goes\n");
			removals++;
			at_sender[0].leaving = true;
			at_sender[0].usable = false;
			n_changes++;
			make_view()
		}
		NO_BURST;	/* tx_done: no queue sends on it any more */
		if
		:: atomic {
			EMPTY ->
			at_receiver[0] = 0
		   }
		   atomic {
			at_sender[0].id = 0;
			n_changes++;
			make_view()
		   }
		:: atomic {
			DRAINED ->
			at_sender[0].id = 0;
			n_changes++;
			make_view()
		   }
		   atomic {
			EMPTY ->
			at_receiver[0] = 0
		   }
		fi;
		atomic {
			NO_BURST ->
			detach_sender()
		}
		atomic {
			make_link()
		}
	:: break
	od
}
#endif

#ifdef DEAD
/* The VNF of receiver 0 stops to poll, all or one of its queues, at any moment. */
proctype Death()
{
	printf("receiver 0 is dead\n");
	dead = true
}

#ifdef DEAD_QUEUE
/* Its other queue does not wait for ever: too_long(), highway_link_fault(), and both ends go. */
proctype Timeout()
{
	byte p, i, r, id, w;

	dead;
	timed_out = true;
	atomic {
		printf("the link to receiver 0 is closed\n");
		at_receiver[0] = 0
	}
	atomic {
		at_sender[0].leaving = true;
		at_sender[0].usable = false;
		n_changes++;
		make_view()
	}
	atomic {
		at_sender[0].id = 0;
		n_changes++;
		make_view()
	}
}
#endif
#endif
