/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * A DPDK program that sends the frames it is told to and hands back what it receives, for
 * tests/system/frame_pipe.py. It uses every port that EAL finds:
 *
 *   frame_pipe EAL-OPTIONS -- SOCKET QUEUES
 *
 * SOCKET is a Unix stream socket that somebody listens at; the program connects when all ports are
 * started. Requests and answers are a struct message and `length` bytes, in host byte order:
 *
 *   SEND     send the bytes as one frame, chained of segments of `segment` bytes (0: one segment);
 *            frames in a row for the same port and queue go in bursts of up to 32
 *   PAUSE    go on receiving for `length` microseconds before the next request (no bytes follow)
 *   COLLECT  go on until nothing has been received for `length` microseconds (no bytes follow);
 *            the answer is a RECEIVED for each frame since the last COLLECT, in order, then COLLECT
 *   XSTATS   the answer's bytes, behind frames as with COLLECT, are "name value" lines for the port, `link_up` among them
 *   LINK     set the port's link up (`length` 1) or down (0), as the application's wish
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define BURST 32
#define FRAME_MAX 9728
#define MBUFS 2047
#define DESCRIPTORS 512
#define IDLE_ROUNDS 256

enum op {
	OP_SEND = 1,
	OP_PAUSE = 2,
	OP_COLLECT = 3,
	OP_RECEIVED = 4,
	OP_XSTATS = 5,
	OP_LINK = 6
};

struct message {
	uint8_t op;
	uint8_t port;
	uint16_t queue;
	uint32_t length;
	uint16_t segment;
	uint16_t reserved;
};

struct buffer {
	uint8_t *bytes;
	size_t used, size;
};

static struct rte_mempool *pool;
static struct buffer input, output;
static uint16_t n_queues;
static uint64_t last_received; /* TSC */
static int peer;

static void
reserve(struct buffer *buffer, size_t more)
{
	if (buffer->used + more <= buffer->size)
		return;
	buffer->size = (buffer->used + more) * 2;
	buffer->bytes = realloc(buffer->bytes, buffer->size);
	if (buffer->bytes == NULL)
		rte_exit(EXIT_FAILURE, "no memory\n");
}

static void
append(struct buffer *buffer, const void *bytes, size_t length)
{
	reserve(buffer, length);
	memcpy(buffer->bytes + buffer->used, bytes, length);
	buffer->used += length;
}

static void
append_frame(uint16_t port, uint16_t queue, const struct rte_mbuf *mbuf)
{
	struct message header = { .op = OP_RECEIVED, .port = (uint8_t)port, .queue = queue,
				  .length = mbuf->pkt_len, .segment = mbuf->nb_segs };

	append(&output, &header, sizeof(header));
	for (; mbuf != NULL; mbuf = mbuf->next)
		append(&output, rte_pktmbuf_mtod(mbuf, const void *), mbuf->data_len);
}

static unsigned int
receive(void)
{
	struct rte_mbuf *mbufs[BURST];
	unsigned int total = 0;
	uint16_t port, queue, i, got;

	RTE_ETH_FOREACH_DEV(port) {
		for (queue = 0; queue < n_queues; queue++) {
			got = rte_eth_rx_burst(port, queue, mbufs, BURST);
			for (i = 0; i < got; i++)
				append_frame(port, queue, mbufs[i]);
			rte_pktmbuf_free_bulk(mbufs, got);
			total += got;
		}
	}
	if (total > 0)
		last_received = rte_rdtsc();
	return total;
}

static struct rte_mbuf *
make_frame(const uint8_t *bytes, uint32_t length, uint32_t segment)
{
	struct rte_mbuf *head = NULL, *part;
	uint32_t done, size;

	if (segment == 0 || segment > length)
		segment = length;
	for (done = 0; done < length; done += size) {
		size = RTE_MIN(segment, length - done);
		part = rte_pktmbuf_alloc(pool);
		if (part == NULL)
			rte_exit(EXIT_FAILURE, "no mbuf\n");
		memcpy(rte_pktmbuf_append(part, (uint16_t)size), bytes + done, size);
		if (head == NULL)
			head = part;
		else if (rte_pktmbuf_chain(head, part) != 0)
			rte_exit(EXIT_FAILURE, "too many segments\n");
	}
	return head;
}

static void
transmit(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	uint16_t done = 0;

	while (done < count) {
		done += rte_eth_tx_burst(port, queue, mbufs + done, count - done);
		if (done < count)
			receive();
	}
}

static void
send_text(const struct message *header, const char *text, size_t length)
{
	struct message answer = *header;

	answer.length = (uint32_t)length;
	append(&output, &answer, sizeof(answer));
	append(&output, text, length);
}

/* false: a link came or went meanwhile, and its statistics with it */
static bool
put_xstats(FILE *stream, uint16_t port)
{
	int count = rte_eth_xstats_get_names(port, NULL, 0), i;
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	bool same;

	if (count < 0)
		rte_exit(EXIT_FAILURE, "no statistics of port %u\n", port);
	names = calloc((size_t)count, sizeof(*names));
	values = calloc((size_t)count, sizeof(*values));
	same = rte_eth_xstats_get_names(port, names, (unsigned int)count) == count &&
	       rte_eth_xstats_get(port, values, (unsigned int)count) == count;
	for (i = 0; same && i < count; i++)
		fprintf(stream, "%s %" PRIu64 "\n", names[i].name, values[i].value);
	free(names);
	free(values);
	return same;
}

static void
xstats(const struct message *header)
{
	struct rte_eth_link link;
	char *text;
	size_t length;
	FILE *stream = open_memstream(&text, &length);

	if (stream == NULL)
		rte_exit(EXIT_FAILURE, "no memory for statistics\n");
	while (!put_xstats(stream, header->port))
		;
	if (rte_eth_link_get_nowait(header->port, &link) == 0)
		fprintf(stream, "link_up %u\n", link.link_status);
	fclose(stream);
	send_text(header, text, length);
	free(text);
}

static void
flush_output(void)
{
	size_t sent = 0;

	while (sent < output.used) {
		ssize_t n = send(peer, output.bytes + sent, output.used - sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			exit(EXIT_SUCCESS); /* whoever started us has gone */
		sent += n > 0 ? (size_t)n : 0;
	}
	output.used = 0;
}

static void
poll_for(uint32_t usec, uint64_t *since)
{
	uint64_t cycles = rte_get_tsc_hz() / 1000000 * usec;

	do
		receive();
	while (rte_rdtsc() - *since < cycles);
}

/* Carry out the request at `at`; return the bytes that it took. */
static size_t
obey(size_t at)
{
	struct rte_mbuf *mbufs[BURST];
	struct message header, first;
	size_t begin = at, length;
	uint64_t now = rte_rdtsc();
	uint16_t count = 0;

	memcpy(&first, input.bytes + at, sizeof(first));
	if (!rte_eth_dev_is_valid_port(first.port) || first.queue >= n_queues)
		rte_exit(EXIT_FAILURE, "no port %u with queue %u\n", first.port, first.queue);
	switch (first.op) {
	case OP_SEND:
		while (count < BURST && input.used - at >= sizeof(header)) {
			memcpy(&header, input.bytes + at, sizeof(header));
			if (header.op != OP_SEND || header.port != first.port ||
			    header.queue != first.queue)
				break;
			if (header.length == 0 || header.length > FRAME_MAX)
				rte_exit(EXIT_FAILURE, "a frame of %u bytes\n", header.length);
			length = sizeof(header) + header.length;
			if (input.used - at < length)
				break;
			mbufs[count++] = make_frame(input.bytes + at + sizeof(header),
						    header.length, header.segment);
			at += length;
		}
		transmit(first.port, first.queue, mbufs, count);
		return at - begin;
	case OP_PAUSE:
		poll_for(first.length, &now);
		return sizeof(first);
	case OP_COLLECT:
		last_received = now;
		poll_for(first.length, &last_received);
		send_text(&first, "", 0);
		flush_output();
		return sizeof(first);
	case OP_XSTATS:
		xstats(&first);
		flush_output();
		return sizeof(first);
	case OP_LINK:
		if (first.length != 0)
			rte_eth_dev_set_link_up(first.port);
		else
			rte_eth_dev_set_link_down(first.port);
		return sizeof(first);
	default:
		rte_exit(EXIT_FAILURE, "request %u is not known\n", first.op);
	}
}

static void
loop(void)
{
	unsigned int idle = 0;
	ssize_t got;
	size_t took;

	for (;;) {
		reserve(&input, 65536);
		got = recv(peer, input.bytes + input.used, 65536, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return;
		input.used += got > 0 ? (size_t)got : 0;
		for (took = 0; input.used - took >= sizeof(struct message);) {
			size_t n = obey(took);

			if (n == 0)
				break; /* a frame that has not come in full */
			took += n;
			receive();
		}
		memmove(input.bytes, input.bytes + took, input.used - took);
		input.used -= took;
		idle = receive() > 0 || got > 0 ? 0 : idle + 1;
		if (idle > IDLE_ROUNDS) {
			struct pollfd wait = { .fd = peer, .events = POLLIN };

			poll(&wait, 1, 1);
		}
	}
}

static void
start_port(uint16_t port)
{
	struct rte_eth_conf conf = { .txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS };
	uint16_t queue;
	int ret = rte_eth_dev_configure(port, n_queues, n_queues, &conf);

	for (queue = 0; ret == 0 && queue < n_queues; queue++) {
		ret = rte_eth_rx_queue_setup(port, queue, DESCRIPTORS, SOCKET_ID_ANY, NULL, pool);
		if (ret == 0)
			ret = rte_eth_tx_queue_setup(port, queue, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	}
	if (ret == 0)
		ret = rte_eth_dev_start(port);
	if (ret != 0)
		rte_exit(EXIT_FAILURE, "port %u: %s\n", port, rte_strerror(-ret));
	rte_eth_promiscuous_enable(port);
}

int
main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int used = rte_eal_init(argc, argv);
	uint16_t port;

	if (used < 0 || argc - used != 3)
		rte_exit(EXIT_FAILURE, "usage: frame_pipe EAL-OPTIONS -- SOCKET QUEUES\n");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[used + 1]);
	n_queues = (uint16_t)atoi(argv[used + 2]);
	pool = rte_pktmbuf_pool_create("frames", MBUFS, 0, 0, RTE_PKTMBUF_HEADROOM + FRAME_MAX,
				       SOCKET_ID_ANY);
	if (pool == NULL)
		rte_exit(EXIT_FAILURE, "no memory for mbufs\n");
	RTE_ETH_FOREACH_DEV(port)
		start_port(port);
	peer = socket(AF_UNIX, SOCK_STREAM, 0);
	if (peer < 0 || connect(peer, (struct sockaddr *)&address, sizeof(address)) != 0)
		rte_exit(EXIT_FAILURE, "%s: %s\n", address.sun_path, strerror(errno));
	loop();
	RTE_ETH_FOREACH_DEV(port) {
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	return rte_eal_cleanup();
}
