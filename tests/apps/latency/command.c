/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Commands, a line each, and their answers, a line of JSON each:
 *
 *   run [KEY=VALUE]...      measure; rate=1000 frames per second, 0 for as many as go, seconds=1,
 *                           size=64, echo=0
 *   xstats PORT             the driver's extended statistics
 *   link PORT               whether the port's link is up
 *   quit
 */

#include <stdlib.h>
#include <string.h>

#include "dialogue.h"
#include "latency.h"

static const char *
read_word(struct run *run, const char *key, const char *value)
{
	char *end;
	double number = strtod(value, &end);

	if (end == value || *end != '\0')
		return "run: a value is no number";
	if (strcmp(key, "rate") == 0 && number >= 0)
		run->rate = number;
	else if (strcmp(key, "seconds") == 0 && number > 0 && number <= 3600)
		run->seconds = number;
	else if (strcmp(key, "size") == 0 && number >= MIN_FRAME && number <= MAX_FRAME)
		run->size = (uint32_t)number;
	else if (strcmp(key, "echo") == 0 && (number == 0 || number == 1))
		run->echo = number > 0;
	else
		return "run: unknown key, or its value is out of range";
	return NULL;
}

static const char *
run_command(FILE *out, char *line)
{
	struct run run = { .rate = 1000, .seconds = 1, .size = 64 };
	const char *why = NULL;
	char *word, *value;

	while (why == NULL && (word = strsep(&line, " ")) != NULL) {
		if (*word == '\0')
			continue;
		value = strchr(word, '=');
		if (value == NULL)
			return "run: give KEY=VALUE";
		*value++ = '\0';
		why = read_word(&run, word, value);
	}
	return why != NULL ? why : run_measure(out, &run);
}

bool
command_obey(FILE *out, char *line)
{
	static char nothing[] = "";
	const char *command = strsep(&line, " "), *why = "unknown command";
	char *rest = line == NULL ? nothing : line;

	if (strcmp(command, "quit") == 0) {
		answer_text(out, NULL);
		return false;
	}
	if (strcmp(command, "run") == 0)
		why = run_command(out, rest);
	else if (strcmp(command, "xstats") == 0 || strcmp(command, "link") == 0)
		why = obey_port(out, command, rest);
	if (why != NULL)
		answer_text(out, why);
	return true;
}
