/* SPDX-License-Identifier: Apache-2.0 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "dialogue.h"

#define MAX_XSTATS 512
#define XSTATS_TRIES 20 /* drivers have more or fewer of them as links come and go */

void
put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
	}
	fputc('"', out);
}

void
put_number(FILE *out, const char *key, uint64_t value)
{
	fprintf(out, "\"%s\": %" PRIu64 ", ", key, value);
}

void
answer_text(FILE *out, const char *text)
{
	fputs(text == NULL ? "{\"ok\": true" : "{\"error\": ", out);
	if (text != NULL)
		put_string(out, text);
	fputs("}\n", out);
}

void
answer_xstats(FILE *out, uint16_t port)
{
	static struct rte_eth_xstat_name names[MAX_XSTATS];
	static struct rte_eth_xstat values[MAX_XSTATS];
	int n = -1, n_names = -2, tries, i;

	for (tries = 0; n != n_names && tries < XSTATS_TRIES; tries++) {
		n = rte_eth_xstats_get(port, values, MAX_XSTATS);
		n_names = rte_eth_xstats_get_names(port, names, MAX_XSTATS);
	}
	if (n != n_names || n < 0 || n > MAX_XSTATS) {
		answer_text(out, "the extended statistics cannot be read; try again");
		return;
	}
	fputs("{\"xstats\": {", out);
	for (i = 0; i < n; i++) {
		fputs(i == 0 ? "" : ", ", out);
		put_string(out, names[values[i].id].name);
		fprintf(out, ": %" PRIu64, values[i].value);
	}
	fputs("}}\n", out);
}

const char *
obey_port(FILE *out, const char *command, const char *port)
{
	struct rte_eth_link link = { 0 };
	unsigned long number;
	char *end;

	number = strtoul(port, &end, 10);
	if (end == port || *end != '\0' || number >= RTE_MAX_ETHPORTS ||
	    !rte_eth_dev_is_valid_port((uint16_t)number))
		return "give the number of a port";
	if (strcmp(command, "xstats") == 0) {
		answer_xstats(out, (uint16_t)number);
		return NULL;
	}
	rte_eth_link_get_nowait((uint16_t)number, &link);
	fprintf(out, "{\"link_up\": %s}\n",
		link.link_status == RTE_ETH_LINK_UP ? "true" : "false");
	return NULL;
}

void
dialogue(FILE *in, FILE *out, bool (*obey)(FILE *out, char *line))
{
	char line[1024];
	bool more = true;

	while (more && fgets(line, sizeof(line), in) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		more = obey(out, line);
		fflush(out);
	}
}

void
converse(bool (*obey)(FILE *out, char *line))
{
	uint16_t port;

	answer_text(stdout, NULL);
	fflush(stdout);
	dialogue(stdin, stdout, obey);
	RTE_ETH_FOREACH_DEV(port) {
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	rte_eal_cleanup();
}
