/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Commands, a line each, and their answers, a line of JSON each:
 *
 *   class ID SPEC              define a class; before it is sent or received (frame.c)
 *   send PORT [KEY=VALUE]...   begin to send: classes=0,1 sizes=64,100-1500 segments=N window=N
 *                              rate=N count=N queues=0,1 drop=1 (struct plan)
 *   stop PORT                  make no new frames
 *   resume PORT                go on
 *   forward PORT TO            what comes is sent to port TO, on the queue of the same number;
 *                              TO -1: it is checked, as at first
 *   port-stop PORT, port-start PORT, mtu PORT BYTES, link PORT up|down
 *   port PORT                  link state, MTU, queues
 *   stats                      everything that is counted
 *   xstats PORT                the driver's extended statistics
 *   hold N                     keep the last N mbufs of each receive queue, and check them again
 *                              before they are freed
 *   forget-gaps                silence until now was on purpose
 *   quit
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

static const char *
read_numbers(const char *text, uint32_t most, uint32_t *values, unsigned int *n, unsigned int room)
{
	char *end;

	for (*n = 0; *n < room; text = end + 1) {
		unsigned long value = strtoul(text, &end, 10);

		if (end == text || value > most || (*end != ',' && *end != '\0'))
			break;
		values[(*n)++] = (uint32_t)value;
		if (*end == '\0')
			return NULL;
	}
	return "give numbers joined by commas";
}

static const char *
read_sizes(struct plan *plan, const char *text)
{
	for (plan->n_sizes = 0; plan->n_sizes < MAX_SIZES; plan->n_sizes++) {
		struct size_range range;
		int used = 0;

		if (sscanf(text, "%u-%u%n", &range.least, &range.most, &used) != 2) {
			if (sscanf(text, "%u%n", &range.least, &used) != 1)
				break;
			range.most = range.least;
		}
		if (range.most > MAX_FRAME || range.least > range.most)
			break;
		plan->sizes[plan->n_sizes] = range;
		text += used;
		if (*text == '\0') {
			plan->n_sizes++;
			return NULL;
		}
		if (*text++ != ',')
			break;
	}
	return "sizes: give numbers or ranges up to 9234, such as 64,100-1500";
}

static const char *
read_classes(struct plan *plan, const char *text)
{
	uint32_t values[MAX_CLASSES];
	unsigned int i;

	if (read_numbers(text, MAX_CLASSES - 1, values, &plan->n_classes, MAX_CLASSES) != NULL)
		return "classes: give numbers from 0 to 31 joined by commas";
	for (i = 0; i < plan->n_classes; i++) {
		if (!frame_classes[values[i]].used)
			return "classes: define them first, with class";
		plan->classes[i] = (uint8_t)values[i];
	}
	return NULL;
}

static const char *
read_queues(struct plan *plan, const char *text, uint16_t n_txq)
{
	uint32_t values[MAX_QUEUES];
	unsigned int n, i;

	if (read_numbers(text, n_txq - 1U, values, &n, MAX_QUEUES) != NULL)
		return "queues: give numbers of this port's queues joined by commas";
	plan->queues = 0;
	for (i = 0; i < n; i++)
		plan->queues |= UINT32_C(1) << values[i];
	return NULL;
}

static const char *
read_plan_word(struct plan *plan, char *word, uint16_t n_txq)
{
	char *value = strchr(word, '='), *end;
	unsigned long long number;

	if (value == NULL)
		return "send: give KEY=VALUE";
	*value++ = '\0';
	if (strcmp(word, "classes") == 0)
		return read_classes(plan, value);
	if (strcmp(word, "sizes") == 0)
		return read_sizes(plan, value);
	if (strcmp(word, "queues") == 0)
		return read_queues(plan, value, n_txq);
	number = strtoull(value, &end, 10);
	if (end == value || *end != '\0')
		return "send: give a number";
	if (strcmp(word, "segments") == 0 && number >= 1 && number <= MAX_SEGMENTS)
		plan->segments = (unsigned int)number;
	else if (strcmp(word, "window") == 0)
		plan->window = number;
	else if (strcmp(word, "rate") == 0)
		plan->rate = number;
	else if (strcmp(word, "count") == 0)
		plan->count = number;
	else if (strcmp(word, "drop") == 0 && number <= 1)
		plan->drop = number != 0;
	else
		return "send: unknown key, or a value out of range";
	return NULL;
}

static void
pause_sending(struct port *port)
{
	__atomic_store_n(&port->sending, false, __ATOMIC_RELEASE);
	traffic_settle();
}

static void
go_on_sending(struct port *port)
{
	uint16_t q;

	for (q = 0; q < port->n_txq; q++) {
		port->tx[q].began = port->tx[q].packets;
		port->tx[q].began_tsc = rte_rdtsc();
		port->tx[q].arrived_tsc = 0;
	}
	__atomic_store_n(&port->sending, true, __ATOMIC_RELEASE);
}

static const char *
send_command(struct port *port, char *words)
{
	struct plan plan = {
		.n_classes = 1,
		.sizes = { { 64, 64 } },
		.n_sizes = 1,
		.segments = 1,
		.queues = (UINT32_C(1) << port->n_txq) - 1,
	};
	const char *why = NULL;
	char *word;
	uint16_t q;

	while (why == NULL && (word = strsep(&words, " ")) != NULL) {
		if (*word != '\0')
			why = read_plan_word(&plan, word, port->n_txq);
	}
	if (why != NULL)
		return why;
	if (!frame_classes[plan.classes[0]].used)
		return "send: define class 0 first, or name another one with classes=";
	pause_sending(port);
	port->plan = plan;
	for (q = 0; q < port->n_txq; q++)
		port->tx[q].turn = 0;
	go_on_sending(port);
	return NULL;
}

static const char *
forward_command(struct port *port, const char *words)
{
	char *end;
	long to = strtol(words, &end, 10);

	if (end == words || *end != '\0' || to < -1 || to >= (long)n_ports)
		return "forward: give the port to send to, or -1";
	if (to >= 0 && ports[to].n_txq < port->n_rxq)
		return "forward: the port to send to has fewer queues";
	__atomic_store_n(&port->polled, false, __ATOMIC_RELEASE);
	traffic_settle();
	port->forward_to = (int)to;
	__atomic_store_n(&port->polled, port->started, __ATOMIC_RELEASE);
	return NULL;
}

static const char *
device_command(struct port *port, const char *command, const char *words)
{
	uint16_t id = (uint16_t)(port - ports);
	int ret;

	if (strcmp(command, "port-stop") == 0)
		ret = port->started ? port_stop(port) : 0;
	else if (strcmp(command, "port-start") == 0)
		ret = port->started ? 0 : port_start(port);
	else if (strcmp(command, "mtu") == 0)
		ret = rte_eth_dev_set_mtu(id, (uint16_t)atoi(words));
	else if (strcmp(words, "up") == 0)
		ret = rte_eth_dev_set_link_up(id);
	else if (strcmp(words, "down") == 0)
		ret = rte_eth_dev_set_link_down(id);
	else
		return "link: give up or down";
	return ret == 0 ? NULL : rte_strerror(-ret);
}

static bool
is_one_of(const char *command, const char *const *names)
{
	for (; *names != NULL; names++) {
		if (strcmp(command, *names) == 0)
			return true;
	}
	return false;
}

static void
port_command(FILE *out, const char *command, struct port *port, char *words)
{
	static const char *const device[] = { "port-stop", "port-start", "mtu", "link", NULL };
	const char *why = NULL;

	if (strcmp(command, "send") == 0) {
		why = send_command(port, words);
	} else if (strcmp(command, "stop") == 0) {
		pause_sending(port);
	} else if (strcmp(command, "resume") == 0) {
		if (port->plan.n_classes == 0)
			why = "resume: it has not sent; use send";
		else
			go_on_sending(port);
	} else if (strcmp(command, "forward") == 0) {
		why = forward_command(port, words);
	} else if (is_one_of(command, device)) {
		why = device_command(port, command, words);
	} else if (strcmp(command, "port") == 0) {
		report_port(out, (uint16_t)(port - ports));
		return;
	} else if (strcmp(command, "xstats") == 0) {
		answer_xstats(out, (uint16_t)(port - ports));
		return;
	} else {
		why = "unknown command";
	}
	answer_text(out, why);
}

static void
class_command(FILE *out, char *words)
{
	const char *why = NULL;
	char *spec;
	unsigned long id = strtoul(words, &spec, 10);

	while (*spec == ' ')
		spec++;
	if (spec == words || id >= MAX_CLASSES)
		id = MAX_CLASSES;
	answer_text(out, frame_class_define((unsigned int)id, spec, &why) == 0 ? NULL : why);
}

static void
hold_command(FILE *out, const char *words)
{
	char *end;
	unsigned long n = strtoul(words, &end, 10);
	bool fits = end != words && *end == '\0' && n < MAX_HELD;

	if (fits)
		__atomic_store_n(&settings.held, (unsigned int)n, __ATOMIC_RELAXED);
	answer_text(out, fits ? NULL : "hold: give a number below 4096");
}

/* false: the last one */
static bool
obey(FILE *out, char *line)
{
	static char nothing[] = "";
	const char *command = strsep(&line, " ");
	char *words = line == NULL ? nothing : line, *end;
	unsigned long port;

	if (strcmp(command, "quit") == 0) {
		answer_text(out, NULL);
		return false;
	}
	if (strcmp(command, "stats") == 0) {
		report_stats(out);
	} else if (strcmp(command, "forget-gaps") == 0) {
		receive_forget_gaps();
		answer_text(out, NULL);
	} else if (strcmp(command, "hold") == 0) {
		hold_command(out, words);
	} else if (strcmp(command, "class") == 0) {
		class_command(out, words);
	} else {
		port = strtoul(words, &end, 10);
		while (*end == ' ')
			end++;
		if (end == words || port >= n_ports)
			answer_text(out, "give a command and the number of a port");
		else
			port_command(out, command, &ports[port], end);
	}
	return true;
}

void
command_loop(FILE *in, FILE *out)
{
	dialogue(in, out, obey);
}
