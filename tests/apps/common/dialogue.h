/* SPDX-License-Identifier: Apache-2.0 */

/** @file Commands, a line each, and their answers, a line of JSON each. */

#ifndef DIALOGUE_H
#define DIALOGUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/** Read commands until the end, or until `obey` returns false: that one was the last. */
void dialogue(FILE *in, FILE *out, bool (*obey)(FILE *out, char *line));

/** Say that all is well, obey standard input until its end, and close all ports and EAL. */
void converse(bool (*obey)(FILE *out, char *line));

/** NULL: all is well; else why a command was not carried out. */
void answer_text(FILE *out, const char *text);

/** The driver's extended statistics of a port. */
void answer_xstats(FILE *out, uint16_t port);

/** Obey `xstats PORT` or `link PORT`. NULL: the answer is written; else why not. */
const char *obey_port(FILE *out, const char *command, const char *port);

/* Parts of an answer. */
void put_string(FILE *out, const char *text);
void put_number(FILE *out, const char *key, uint64_t value);

#endif /* DIALOGUE_H */
