/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Frames: the headers of a class, a tag with the number, and a pattern that follows from both.
 *
 * A class is a list of key=value, joined by '+', such as "udp=1000", "vlan=5+tcp=80",
 * "qinq=7+vlan=5+udp6=53", "ether=0x88b5", "proto=89", "udp=7+tos=16".
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "traffic.h"

#define SOURCE_PORT 4000

struct frame_class frame_classes[MAX_CLASSES];
uint32_t frame_seed = 1;

struct wanted {
	long ether, vlan, qinq, udp, tcp, udp6, tcp6, proto, tos, address;
};

/* --------------------------------------------------------------------------------- headers --- */

static void *
append(struct frame_class *class, size_t size)
{
	void *place = class->header + class->length;

	class->length += (uint16_t)size;
	return place;
}

static void
append_word(struct frame_class *class, uint16_t value)
{
	rte_be16_t word = rte_cpu_to_be_16(value);

	memcpy(append(class, sizeof(word)), &word, sizeof(word));
}

static void
append_tag(struct frame_class *class, uint16_t tpid, long vid)
{
	append_word(class, tpid);
	append_word(class, (uint16_t)vid);
}

static void
append_ipv4(struct frame_class *class, const struct wanted *w, uint8_t proto)
{
	struct rte_ipv4_hdr *ip;
	uint16_t words[sizeof(*ip) / sizeof(uint16_t)];
	unsigned int i;

	class->ip_at = class->length;
	class->ip_version = 4;
	ip = append(class, sizeof(*ip));
	*ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.type_of_service = (uint8_t)RTE_MAX(w->tos, 0L),
		.time_to_live = 64,
		.next_proto_id = proto,
		.src_addr = rte_cpu_to_be_32(RTE_IPV4(192, 0, 2, 1)),
		.dst_addr = rte_cpu_to_be_32(RTE_IPV4(198, 51, 100, RTE_MAX(w->address, 1L))),
	};
	memcpy(words, ip, sizeof(words));
	for (i = 0; i < RTE_DIM(words); i++)
		class->ip_sum += words[i];
}

static void
append_ipv6(struct frame_class *class, const struct wanted *w, uint8_t proto)
{
	struct rte_ipv6_hdr *ip;

	class->ip_at = class->length;
	class->ip_version = 6;
	ip = append(class, sizeof(*ip));
	*ip = (struct rte_ipv6_hdr){
		.vtc_flow = rte_cpu_to_be_32(6U << 28 | (uint32_t)RTE_MAX(w->tos, 0L) << 20),
		.proto = proto,
		.hop_limits = 64,
		.src_addr = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 },
		.dst_addr = { 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)RTE_MAX(w->address, 2L) },
	};
}

static void
append_udp(struct frame_class *class, long port)
{
	struct rte_udp_hdr *udp;

	class->udp_at = class->length;
	udp = append(class, sizeof(*udp));
	*udp = (struct rte_udp_hdr){
		.src_port = rte_cpu_to_be_16(SOURCE_PORT),
		.dst_port = rte_cpu_to_be_16((uint16_t)port),
	};
}

static void
append_tcp(struct frame_class *class, long port)
{
	struct rte_tcp_hdr *tcp = append(class, sizeof(*tcp));

	*tcp = (struct rte_tcp_hdr){
		.src_port = rte_cpu_to_be_16(SOURCE_PORT),
		.dst_port = rte_cpu_to_be_16((uint16_t)port),
		.data_off = sizeof(*tcp) / 4 << 4,
		.tcp_flags = RTE_TCP_ACK_FLAG,
	};
}

static int
fill_header(struct frame_class *class, const struct wanted *w)
{
	static const struct rte_ether_addr dst = { { 0x02, 0, 0, 0, 0, 0x01 } };
	int kinds = (w->ether >= 0) + (w->udp >= 0) + (w->tcp >= 0) + (w->udp6 >= 0) +
		    (w->tcp6 >= 0) + (w->proto >= 0);

	if (kinds != 1)
		return -EINVAL;
	memcpy(append(class, 2 * sizeof(dst)), &dst, sizeof(dst));
	if (w->qinq >= 0)
		append_tag(class, RTE_ETHER_TYPE_QINQ, w->qinq);
	if (w->vlan >= 0)
		append_tag(class, RTE_ETHER_TYPE_VLAN, w->vlan);
	if (w->ether >= 0) {
		append_word(class, (uint16_t)w->ether);
	} else if (w->udp6 >= 0 || w->tcp6 >= 0) {
		append_word(class, RTE_ETHER_TYPE_IPV6);
		append_ipv6(class, w, w->udp6 >= 0 ? IPPROTO_UDP : IPPROTO_TCP);
	} else {
		append_word(class, RTE_ETHER_TYPE_IPV4);
		append_ipv4(class, w, w->udp >= 0 ? IPPROTO_UDP :
			    w->tcp >= 0 ? IPPROTO_TCP : (uint8_t)w->proto);
	}
	if (w->udp >= 0 || w->udp6 >= 0)
		append_udp(class, RTE_MAX(w->udp, w->udp6));
	else if (w->tcp >= 0 || w->tcp6 >= 0)
		append_tcp(class, RTE_MAX(w->tcp, w->tcp6));
	return 0;
}

static int
read_word(struct wanted *w, const char *word)
{
	const struct { const char *name; long *value; long most; } known[] = {
		{ "ether", &w->ether, UINT16_MAX }, { "vlan", &w->vlan, 4094 },
		{ "qinq", &w->qinq, 4094 }, { "udp", &w->udp, UINT16_MAX },
		{ "tcp", &w->tcp, UINT16_MAX }, { "udp6", &w->udp6, UINT16_MAX },
		{ "tcp6", &w->tcp6, UINT16_MAX }, { "proto", &w->proto, UINT8_MAX },
		{ "tos", &w->tos, UINT8_MAX }, { "address", &w->address, UINT8_MAX },
	};
	const char *value = strchr(word, '=');
	char *end;
	size_t i;

	if (value == NULL)
		return -EINVAL;
	for (i = 0; i < RTE_DIM(known); i++) {
		if (strlen(known[i].name) == (size_t)(value - word) &&
		    strncmp(known[i].name, word, (size_t)(value - word)) == 0)
			break;
	}
	if (i == RTE_DIM(known))
		return -EINVAL;
	*known[i].value = strtol(value + 1, &end, 0);
	return end == value + 1 || *end != '\0' || *known[i].value < 0 ||
	       *known[i].value > known[i].most ? -EINVAL : 0;
}

int
frame_class_define(unsigned int id, const char *spec, const char **why)
{
	struct wanted wanted = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };
	struct frame_class class = { .used = true };
	char text[sizeof(class.spec)], *word, *rest = text;

	*why = "class: give a number from 0 to 31 and a list such as vlan=5+udp=1000";
	if (id >= MAX_CLASSES || strlen(spec) >= sizeof(text))
		return -EINVAL;
	strcpy(text, spec);
	strcpy(class.spec, spec);
	while ((word = strsep(&rest, "+")) != NULL) {
		if (read_word(&wanted, word) != 0)
			return -EINVAL;
	}
	if (fill_header(&class, &wanted) != 0)
		return -EINVAL;
	frame_classes[id] = class;
	return 0;
}

uint32_t
frame_least(const struct frame_class *class)
{
	return RTE_MAX(60U, class->length + (uint32_t)sizeof(struct frame_tag));
}

/* ------------------------------------------------------------------------- build and check --- */

static inline uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static inline uint64_t
key_of(struct stream_id id, uint64_t number, uint32_t length)
{
	uint64_t key = (uint64_t)frame_seed << 32 | (uint32_t)id.source << 16 |
		       (uint32_t)id.class << 8 | id.queue;

	return mix(mix(key ^ (uint64_t)length << 40) + number);
}

static inline uint64_t
pattern(uint64_t key, uint32_t word)
{
	return key + word * UINT64_C(0x9e3779b97f4a7c15);
}

static void
fill_pattern(uint8_t *to, uint32_t length, uint64_t key)
{
	uint64_t last;
	uint32_t i;

	for (i = 0; i < length / 8; i++) {
		uint64_t word = pattern(key, i);

		memcpy(to + (size_t)i * 8, &word, 8);
	}
	last = pattern(key, i);
	memcpy(to + (size_t)i * 8, &last, length % 8);
}

static bool
is_pattern(const uint8_t *from, uint32_t length, uint64_t key)
{
	uint64_t differ = 0, last;
	uint32_t i;

	for (i = 0; i < length / 8; i++) {
		uint64_t word;

		memcpy(&word, from + (size_t)i * 8, 8);
		differ |= word ^ pattern(key, i);
	}
	last = pattern(key, i);
	return differ == 0 && memcmp(from + (size_t)i * 8, &last, length % 8) == 0;
}

static void
set_lengths(const struct frame_class *class, uint8_t *frame, uint32_t length)
{
	if (class->ip_version == 4) {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + class->ip_at);
		uint32_t sum;

		ip->total_length = rte_cpu_to_be_16((uint16_t)(length - class->ip_at));
		sum = class->ip_sum + ip->total_length;
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		ip->hdr_checksum = (uint16_t)~sum;
	} else if (class->ip_version == 6) {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(frame + class->ip_at);

		ip->payload_len = rte_cpu_to_be_16((uint16_t)(length - class->ip_at -
							      sizeof(*ip)));
	}
	if (class->udp_at != 0) {
		struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(frame + class->udp_at);

		udp->dgram_len = rte_cpu_to_be_16((uint16_t)(length - class->udp_at));
	}
}

static void
make_header(const struct frame_class *class, uint8_t *frame, uint32_t length, struct stream_id id)
{
	struct rte_ether_hdr *ether = (struct rte_ether_hdr *)frame;

	memcpy(frame, class->header, class->length);
	ether->src_addr = (struct rte_ether_addr){
		{ 0x02, 'H', 'W', id.source, id.class, id.queue }
	};
	set_lengths(class, frame, length);
}

/** Write a frame into `length` bytes, which have to be at least frame_least(). */
void
frame_build(uint8_t *frame, uint32_t length, struct stream_id id, uint64_t number)
{
	const struct frame_class *class = &frame_classes[id.class];
	uint64_t key = key_of(id, number, length);
	struct frame_tag tag = { .number = number, .length = length, .check = (uint32_t)key };

	make_header(class, frame, length, id);
	memcpy(frame + class->length, &tag, sizeof(tag));
	fill_pattern(frame + class->length + sizeof(tag),
		     length - class->length - (uint32_t)sizeof(tag), key);
}

/** Is this frame, but for its destination address, what frame_build() has made? */
enum frame_verdict
frame_check(const uint8_t *frame, uint32_t length, struct stream_id *id, uint64_t *number)
{
	const uint8_t *src = frame + RTE_ETHER_ADDR_LEN;
	const struct frame_class *class;
	uint8_t header[MAX_HEADER];
	struct frame_tag tag;
	uint64_t key;

	if (length < RTE_ETHER_HDR_LEN || src[0] != 0x02 || src[1] != 'H' || src[2] != 'W')
		return FRAME_FOREIGN;
	*id = (struct stream_id){ .source = src[3], .class = src[4], .queue = src[5] };
	if (id->source >= MAX_SOURCES || id->class >= MAX_CLASSES || id->queue >= MAX_QUEUES)
		return FRAME_CORRUPT;
	class = &frame_classes[id->class];
	if (!class->used || length < frame_least(class))
		return FRAME_CORRUPT;
	memcpy(&tag, frame + class->length, sizeof(tag));
	key = key_of(*id, tag.number, length);
	*number = tag.number;
	make_header(class, header, length, *id);
	if (tag.length != length || tag.check != (uint32_t)key ||
	    memcmp(src, header + RTE_ETHER_ADDR_LEN, class->length - RTE_ETHER_ADDR_LEN) != 0 ||
	    !is_pattern(frame + class->length + sizeof(tag),
			length - class->length - (uint32_t)sizeof(tag), key))
		return FRAME_CORRUPT;
	return FRAME_OK;
}
