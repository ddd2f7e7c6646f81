/* SPDX-License-Identifier: Apache-2.0
 * highway_ring.h
 */

#define N_ROOM(q) (len(normal[q]) < NORMAL_RING)
#define R_ROOM(r) (len(receive[r]) < RECEIVE_RING)
#define B_ROOM(t) (bypass[t].head - bypass[t].tail < BYPASS_RING)
#define B_FRONT(t) bypass[t].slot[bypass[t].tail % BYPASS_RING]

inline n_put(q, entry)
{
	normal[q]!entry;
	unpublished[q]++
}

inline b_put(t, entry)
{
	bypass[t].slot[bypass[t].head % BYPASS_RING] = entry;
	bypass[t].head++
}

inline b_take(t)
{
	B_FRONT(t) = 0;
	bypass[t].tail++
}

/* What was refused to a sender may be accepted now. */
inline wake(q)
{
	for (w : 0 .. CLASSES - 1) {
		refused[COUNT(q, w)] = false
	}
	w = 0
}
