/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Commands, a line each, and their answers, a line of JSON each:
 *
 *   run [KEY=VALUE]...      measure; port=0: where it is sent, to=1: where it is received, -1 for
 *                           nowhere, seconds=1, size=64, classes=1 (frames.c), queues=1
 *   limit [KEY=VALUE]...    what the machine itself can do (limit.h): seconds=1 size=64 mbufs=0
 *                           isa=avx512|avx2|base, by default the widest
 *   xstats PORT             the driver's extended statistics
 *   link PORT               whether the port's link is up
 *   round-trip              how far the two workers' cores are from each other
 *   quit
 */

#include <stdlib.h>
#include <string.h>

#include "dialogue.h"
#include "gauge.h"

/** Everything that a command can be told. */
struct words {
	double port, to, seconds, size, classes, queues, mbufs;
	char isa[16];
};

static const char *
read_word(struct words *words, const char *key, const char *value)
{
	const struct { const char *name; double *value, least, most; } known[] = {
		{ "port", &words->port, 0, n_ports - 1.0 },
		{ "to", &words->to, -1, n_ports - 1.0 },
		{ "seconds", &words->seconds, 0.01, 3600 },
		{ "size", &words->size, LEAST_FRAME, MAX_BARE },
		{ "classes", &words->classes, 1, MAX_CLASSES },
		{ "queues", &words->queues, 1, n_queues },
		{ "mbufs", &words->mbufs, 0, 1 },
	};
	unsigned int i;
	char *end;

	if (strcmp(key, "isa") == 0) {
		snprintf(words->isa, sizeof(words->isa), "%s", value);
		return NULL;
	}
	for (i = 0; i < RTE_DIM(known); i++) {
		if (strcmp(key, known[i].name) != 0)
			continue;
		*known[i].value = strtod(value, &end);
		return end == value || *end != '\0' || *known[i].value < known[i].least ||
		       *known[i].value > known[i].most ? "a value is out of range" : NULL;
	}
	return "unknown key";
}

static const char *
read_words(struct words *words, char *line)
{
	const char *why = NULL;
	char *word, *value;

	*words = (struct words){ .to = 1, .seconds = 1, .size = 64, .classes = 1, .queues = 1 };
	while (why == NULL && (word = strsep(&line, " ")) != NULL) {
		if (*word == '\0')
			continue;
		value = strchr(word, '=');
		if (value == NULL)
			return "give KEY=VALUE";
		*value++ = '\0';
		why = read_word(words, word, value);
	}
	return why;
}

static const char *
run_command(FILE *out, char *line)
{
	struct words words;
	const char *why = read_words(&words, line);
	struct run run;

	if (why != NULL)
		return why;
	run = (struct run){
		.from = (uint16_t)words.port,
		.to = (int)words.to,
		.seconds = words.seconds,
		.size = (uint32_t)words.size,
		.n_classes = (unsigned int)words.classes,
		.n_queues = (unsigned int)words.queues,
	};
	if (run.from >= n_ports || run.to >= (int)n_ports)
		return "run: there is no such port";
	if (run.size > MAX_FRAME)
		return "run: size: give 60 to 1514";
	return run_measure(out, &run);
}

static const char *
limit_command(FILE *out, char *line)
{
	struct words words;
	const char *why = read_words(&words, line);

	return why != NULL ? why : limit_measure(out, words.seconds, (uint32_t)words.size,
						 words.mbufs > 0, words.isa);
}

static const char *
round_trip_command(FILE *out)
{
	fprintf(out, "{\"round_trip_ns\": %.1f}\n", round_trip_ns());
	return NULL;
}

bool
command_obey(FILE *out, char *line)
{
	static char nothing[] = "";
	const char *command = strsep(&line, " "), *why;
	char *rest = line == NULL ? nothing : line;
	bool quit = strcmp(command, "quit") == 0;

	if (quit) {
		answer_text(out, NULL);
		return false;
	}
	if (strcmp(command, "run") == 0)
		why = run_command(out, rest);
	else if (strcmp(command, "limit") == 0)
		why = limit_command(out, rest);
	else if (strcmp(command, "xstats") == 0 || strcmp(command, "link") == 0)
		why = obey_port(out, command, rest);
	else if (strcmp(command, "round-trip") == 0)
		why = round_trip_command(out);
	else
		why = "unknown command";
	if (why != NULL)
		answer_text(out, why);
	return true;
}
