/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Rule tables that anybody may have written, as a sender and as a receiver that checks read them.
 * What the classifier says of a frame is what a search through all rules says, and a frame passes
 * a check only if an inbound rule of that peer lets it.
 */

#include <stdlib.h>

#include "highway_lookup.h"
#include "highway_vnf.h"
#include "scene.h"

#define LINKS 2
#define FRAMES 3

static const uint64_t peer_ids[LINKS] = { 12, 13 };

static struct scene_port scene;
static struct scene_region region;
static struct highway_link *links[LINKS];
static struct highway_birth births[SCENE_RULES];
static struct rte_mempool *pool;

uint64_t __wrap_highway_random_id(void);

uint64_t
__wrap_highway_random_id(void)
{
	static uint64_t last;

	return last = last * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	unsigned int i;

	(void)argc;
	(void)argv;
	pool = fuzz_pool(8, 2048);
	for (i = 0; i < LINKS; i++) {
		links[i] = fuzz_memory(sizeof(*links[i]) + sizeof(links[i]->rx[0]));
		links[i]->slot = i;
		links[i]->peer_id = peer_ids[i];
		links[i]->geometry.link_id = 21 + i;
		links[i]->usable = true;
		links[i]->n_rx_rings = 1;
		links[i]->rx[0].ring.mem.ctl = fuzz_memory(sizeof(struct highway_ring));
	}
	return highway_presence_init();
}

static void
begin(void)
{
	unsigned int i;

	fuzz_tsc_hz = FUZZ_TSC_HZ;
	scene_port(&scene, 0, HIGHWAY_ROLE_VNF);
	scene_port_region(&region, 11);
	memset(births, 0, sizeof(births));
	scene.port.map = region.map;
	scene.port.region = region.map.base;
	scene.port.geometry = *scene_geometry();
	scene.port.births = births;
	scene.port.n_links = LINKS;
	for (i = 0; i < LINKS; i++) {
		scene.port.links[i] = links[i];
		links[i]->flags = 0;
		links[i]->rx[0].ring.tail = 0;
		memset(links[i]->rx[0].ring.mem.ctl, 0, sizeof(struct highway_ring));
	}
}

/* --------------------------------------------------------------------------------- a model --- */

static bool
covers(const struct highway_rule *rule, const struct highway_key *key)
{
	const uint8_t *k = (const uint8_t *)key, *r = (const uint8_t *)&rule->key;
	const uint8_t *m = (const uint8_t *)&rule->mask;
	size_t i;

	for (i = 0; i < sizeof(*key); i++) {
		if (((k[i] ^ r[i]) & m[i]) != 0)
			return false;
	}
	return true;
}

static const struct highway_rule *
table(uint64_t offset)
{
	return RTE_PTR_ADD(region.map.base, offset);
}

static uint32_t
link_of(const struct highway_rule *rule)
{
	uint32_t i;

	for (i = 0; i < LINKS && links[i]->peer_id != rule->peer_id; i++)
		;
	if (i == LINKS || rule->suppressed == rule->generation ||
	    (links[i]->flags & HIGHWAY_LINK_NO_SEND) != 0 ||
	    ((links[i]->flags & HIGHWAY_LINK_PEER_CHECKS) != 0 &&
	     (rule->flags & HIGHWAY_RULE_UNCHECKED) != 0))
		return HIGHWAY_CLASS_UNLINKED;
	return i;
}

/* Where a frame may be sent: the link that all rules agree on. */
static uint32_t
sent_to(const struct highway_key *key)
{
	const struct highway_rule *rules = table(scene_geometry()->rules_offset);
	uint32_t found = UINT32_MAX, slot, link;

	for (slot = 0; slot < SCENE_RULES; slot++) {
		if (rules[slot].live == 0 || rules[slot].live != rules[slot].generation ||
		    !covers(&rules[slot], key))
			continue;
		link = link_of(&rules[slot]);
		if (found != UINT32_MAX && found != link)
			return HIGHWAY_CLASS_UNLINKED;
		found = link;
	}
	return found == UINT32_MAX ? HIGHWAY_CLASS_UNLINKED : found;
}

/* ---------------------------------------------------------------------------------- fuzzer --- */

static void
check_sending(const struct highway_view *view, const struct rte_mbuf *mbuf)
{
	const struct highway_rule *rules = table(scene_geometry()->rules_offset);
	const struct highway_class_rule *rule;
	union highway_key_words key;
	bool conflict = false;

	rule = highway_lookup(&view->classifier, mbuf, &conflict);
	if (view->classifier.alone != NULL && highway_alone_match(&view->classifier, mbuf))
		CHECK(rule == view->classifier.alone);
	if (rule != NULL) {
		CHECK(rule->link < view->n_slots && view->links[rule->link].link != NULL);
		CHECK(rule->slot < SCENE_RULES && rule->shared == &rules[rule->slot]);
		CHECK(rule->max_frame <= HIGHWAY_MAX_FRAME && rule->generation != 0);
	}
	if (view->classifier.n_rules == 0)
		CHECK(rule == NULL);
	else if (highway_extract(mbuf, view->classifier.depth, &key))
		CHECK((rule != NULL ? rule->link : HIGHWAY_CLASS_UNLINKED) == sent_to(&key.key));
	else
		CHECK(rule == NULL);
}

static void
check_receiving(const struct highway_view *view, uint32_t slot, const struct rte_mbuf *mbuf,
		bool nothing_ended)
{
	const struct highway_rule *rules = table(scene_geometry()->in_rules_offset);
	const struct highway_classifier *check = view->links[slot].check;
	const struct highway_class_rule *rule;
	union highway_key_words key;
	bool conflict = false, allowed = false;
	uint32_t i;

	CHECK((check != NULL) == ((links[slot]->flags & HIGHWAY_LINK_CHECKED) != 0));
	if (check == NULL || !nothing_ended)
		return;
	rule = highway_lookup(check, mbuf, &conflict);
	CHECK(!conflict);
	if (rule == NULL)
		return;
	CHECK(rule->max_frame <= HIGHWAY_MAX_FRAME);
	CHECK(highway_extract(mbuf, check->depth, &key));
	for (i = 0; i < SCENE_RULES; i++)
		allowed |= rules[i].live != 0 && rules[i].live == rules[i].generation &&
			   rules[i].peer_id == peer_ids[slot] && covers(&rules[i], &key.key);
	CHECK(allowed);
}

static void
look(struct fuzz_input *in, bool nothing_ended)
{
	const struct highway_view *view;
	struct rte_mbuf *mbuf;
	unsigned int i;

	CHECK(highway_view_renew(&scene.port) == 0);
	view = scene.port.view;
	for (i = 0; i < FRAMES; i++) {
		mbuf = scene_frame(in, pool);
		if (mbuf->pkt_len >= RTE_ETHER_HDR_LEN) {
			check_sending(view, mbuf);
			check_receiving(view, 0, mbuf, nothing_ended);
			check_receiving(view, 1, mbuf, nothing_ended);
		}
		rte_pktmbuf_free(mbuf);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { .at = data, .left = size };
	const struct highway_geometry *g = scene_geometry();
	unsigned int looks = 0;

	begin();
	while (in.left != 0) {
		uint8_t command = fuzz_u8(&in);

		if (command < 0x80)
			scene_scribble_rule(&in, &region, g->rules_offset, peer_ids);
		else if (command < 0xc0)
			scene_scribble_rule(&in, &region, g->in_rules_offset, peer_ids);
		else if (command < 0xd8)
			links[command & 1]->flags = command >> 1 & 7;
		else if (command < 0xe0)
			links[command & 1]->rx[0].ring.mem.ctl->head = fuzz_near(&in, 0);
		else if (command < 0xe8)
			highway_checks_tick(&scene.port);
		else if (command < 0xec)
			fuzz_tsc_hz = command == 0xe8 ? 1000 : FUZZ_TSC_HZ;
		else
			look(&in, looks++ == 0);
	}
	look(&in, looks == 0);
	highway_view_drop(&scene.port);
	highway_checks_drop(&scene.port);
	return 0;
}
