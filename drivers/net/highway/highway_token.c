/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * What a VNF shows to be let in: the bytes of a file, since everybody may read command lines.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "highway.h"

#define MIN_TOKEN 16
#define MAX_TOKEN 64

/** Read a token, with zeros behind it. 0 or -errno; -EMSGSIZE: it is too short, or too long. */
int
highway_token_read(const char *path, char token[MAX_TOKEN])
{
	char bytes[MAX_TOKEN + 1] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read(fd, bytes, sizeof(bytes));
	if (len < 0)
		len = -errno;
	close(fd);
	if (len < 0)
		return (int)len;
	if (len < MIN_TOKEN || len > MAX_TOKEN)
		return -EMSGSIZE;
	memcpy(token, bytes, (size_t)len);
	return 0;
}
