/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#ifndef HIGHWAY_MSG_H
#define HIGHWAY_MSG_H

#include <stdbool.h>
#include <stddef.h>

#include "highway_shm.h"

/** A message on its way in. */
struct highway_msg_input {
	struct highway_msg msg;
	size_t used;		/**< bytes of it that are here */
	int fd;			/**< descriptor that came along, -1 = none */
	unsigned int bad;	/**< unsound messages so far */
};

/** Fill in magic, version, length and checksum. */
void highway_msg_seal(struct highway_msg *msg);

/** Is this a whole message, as it was sent? */
bool highway_msg_sound(const struct highway_msg *msg);

/** Send a sealed message, with `fd` beside it unless that is negative. 0 or -errno. */
int highway_msg_write(int socket, const struct highway_msg *msg, int fd);

/** Read on. 1: a message is complete; 0: not yet; -errno: the connection is gone. */
int highway_msg_read(int socket, struct highway_msg_input *input);

/** The message was dealt with: make room for the next, close what came along and was not taken. */
void highway_msg_done(struct highway_msg_input *input);

/** The message is unsound: go on from the next magic in it. */
void highway_msg_resync(struct highway_msg_input *input);

#endif /* HIGHWAY_MSG_H */
