/* SPDX-License-Identifier: Apache-2.0 */

/** @file Answers: everything as one line of JSON. */

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

#include "traffic.h"

static char notes[MAX_NOTES][192];
static unsigned int n_notes;
static pthread_mutex_t notes_lock = PTHREAD_MUTEX_INITIALIZER;

/** Note something for a person to read; the first ones are kept. */
void
notes_add(const char *format, ...)
{
	va_list arguments;

	pthread_mutex_lock(&notes_lock);
	if (n_notes < MAX_NOTES) {
		va_start(arguments, format);
		vsnprintf(notes[n_notes++], sizeof(notes[0]), format, arguments);
		va_end(arguments);
	}
	pthread_mutex_unlock(&notes_lock);
}

static double
microseconds(uint64_t cycles)
{
	return (double)cycles * 1e6 / (double)rte_get_tsc_hz();
}

/* ----------------------------------------------------------------------------------- stats --- */

static void
put_tx(FILE *out, const struct port *port)
{
	uint64_t packets = 0, bytes = 0, refused = 0, nombuf = 0, pending = 0, off = 0;
	const char *comma = "";
	unsigned int c;
	uint16_t q;

	for (q = 0; q < port->n_txq; q++) {
		packets += traffic_read(&port->tx[q].packets);
		bytes += traffic_read(&port->tx[q].bytes);
		refused += traffic_read(&port->tx[q].refused);
		nombuf += traffic_read(&port->tx[q].nombuf);
		pending += port->tx[q].n_pending;
		off += traffic_read(&port->tx[q].written_off);
	}
	fputs("\"tx\": {", out);
	put_number(out, "sent", packets);
	put_number(out, "bytes", bytes);
	put_number(out, "refused", refused);
	put_number(out, "nombuf", nombuf);
	put_number(out, "pending", pending);
	put_number(out, "written_off", off);
	fputs("\"streams\": [", out);
	for (q = 0; q < port->n_txq; q++) {
		for (c = 0; c < MAX_CLASSES; c++) {
			uint64_t sent = traffic_read(&port->tx[q].sent[c]);

			if (sent == 0)
				continue;
			fprintf(out, "%s{\"source\": %u, \"class\": %u, \"queue\": %u, "
				"\"sent\": %" PRIu64 "}", comma, port->source, c, q, sent);
			comma = ", ";
		}
	}
	fputs("]}, ", out);
}

static void
put_stream(FILE *out, const struct stream *s)
{
	const struct rhythm *rhythm = receive_rhythm(s->id);

	fprintf(out, "{\"source\": %u, \"class\": %u, \"queue\": %u, ", s->id.source, s->id.class,
		s->id.queue);
	put_number(out, "received", traffic_read(&s->received));
	put_number(out, "bytes", traffic_read(&s->bytes));
	put_number(out, "doubled", traffic_read(&s->doubled));
	put_number(out, "reordered", traffic_read(&s->reordered));
	put_number(out, "misdirected", traffic_read(&s->misdirected));
	put_number(out, "next", traffic_read(&s->next));
	fprintf(out, "\"longest_gap_us\": %.1f, ", microseconds(rhythm->longest_gap));
	fprintf(out, "\"longest_gap_at\": %" PRIu64 "}", rhythm->longest_gap_at);
}

static void
put_streams(FILE *out, uint16_t port)
{
	const char *comma = "";
	unsigned int source, class, queue;

	fputs("\"streams\": [", out);
	for (source = 0; source < MAX_SOURCES; source++) {
		for (class = 0; class < MAX_CLASSES; class++) {
			for (queue = 0; queue < MAX_QUEUES; queue++) {
				struct stream_id id = { (uint8_t)source, (uint8_t)class,
							(uint8_t)queue };
				const struct stream *s = receive_stream(port, id);

				if (s == NULL)
					continue;
				fputs(comma, out);
				put_stream(out, s);
				comma = ", ";
			}
		}
	}
	fputs("]", out);
}

static void
put_shapes(FILE *out, const struct port *port)
{
	const char *comma = "";
	unsigned int i;
	uint16_t q;

	fputs("\"shapes\": [", out);
	for (q = 0; q < port->n_rxq; q++) {
		const struct rx_queue *rxq = &port->rx[q];

		for (i = 0; i < __atomic_load_n(&rxq->n_shapes, __ATOMIC_ACQUIRE); i++) {
			const struct shape *s = &rxq->shapes[i];

			fprintf(out, "%s{\"queue\": %u, \"ol_flags\": %" PRIu64 ", "
				"\"packet_type\": %u, \"data_off\": %u, \"vlan_tci\": %u, "
				"\"vlan_tci_outer\": %u, \"port\": %u, \"tx_offload\": %" PRIu64
				", \"packets\": %" PRIu64 "}", comma, q, s->ol_flags,
				s->packet_type, s->data_off, s->vlan_tci, s->vlan_tci_outer,
				s->port, s->tx_offload, traffic_read(&rxq->shape_packets[i]));
			comma = ", ";
		}
	}
	fputs("], ", out);
}

static void
put_rx(FILE *out, const struct port *port)
{
	struct rx_queue sum = { 0 };
	uint64_t pending = 0;
	uint16_t q;

	for (q = 0; q < port->n_rxq; q++) {
		const struct rx_queue *rxq = &port->rx[q];

		sum.packets += traffic_read(&rxq->packets);
		sum.bytes += traffic_read(&rxq->bytes);
		sum.corrupt += traffic_read(&rxq->corrupt);
		sum.foreign += traffic_read(&rxq->foreign);
		sum.bad_mbuf += traffic_read(&rxq->bad_mbuf);
		sum.multi_segment += traffic_read(&rxq->multi_segment);
		sum.forwarded += traffic_read(&rxq->forwarded);
		pending += rxq->n_pending;
	}
	fputs("\"rx\": {", out);
	put_number(out, "received", sum.packets);
	put_number(out, "bytes", sum.bytes);
	put_number(out, "corrupt", sum.corrupt);
	put_number(out, "foreign", sum.foreign);
	put_number(out, "bad_mbuf", sum.bad_mbuf);
	put_number(out, "multi_segment", sum.multi_segment);
	put_number(out, "forwarded", sum.forwarded);
	put_number(out, "pending", pending);
	put_shapes(out, port);
	put_streams(out, (uint16_t)(port - ports));
	fputs("}", out);
}

void
report_stats(FILE *out)
{
	unsigned int i;

	fputs("{\"ports\": [", out);
	for (i = 0; i < n_ports; i++) {
		fprintf(out, "%s{\"port\": %u, \"name\": ", i == 0 ? "" : ", ", i);
		put_string(out, ports[i].name);
		fputs(", ", out);
		put_tx(out, &ports[i]);
		put_rx(out, &ports[i]);
		fputs("}", out);
	}
	fputs("], \"notes\": [", out);
	pthread_mutex_lock(&notes_lock);
	for (i = 0; i < n_notes; i++) {
		fputs(i == 0 ? "" : ", ", out);
		put_string(out, notes[i]);
	}
	pthread_mutex_unlock(&notes_lock);
	fputs("]}\n", out);
}

/* -------------------------------------------------------------------------------- the rest --- */

void
report_port(FILE *out, uint16_t port)
{
	struct rte_eth_link link = { 0 };
	uint16_t mtu = 0;

	rte_eth_link_get_nowait(port, &link);
	rte_eth_dev_get_mtu(port, &mtu);
	fprintf(out, "{\"port\": %u, \"link_up\": %s, \"started\": %s, \"mtu\": %u, \"rxq\": %u, "
		"\"txq\": %u}\n", port, link.link_status == RTE_ETH_LINK_UP ? "true" : "false",
		ports[port].started ? "true" : "false", mtu, ports[port].n_rxq, ports[port].n_txq);
}
