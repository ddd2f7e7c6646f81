/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * One control message on a socket, with a file descriptor beside it if there is one.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "highway_msg.h"

static uint32_t
checksum(const struct highway_msg *msg)
{
	struct highway_msg copy = *msg;
	const uint8_t *byte = (const uint8_t *)&copy;
	uint32_t hash = 0x811c9dc5;
	size_t i;

	copy.checksum = 0;
	for (i = 0; i < sizeof(copy); i++)
		hash = (hash ^ byte[i]) * 0x01000193;
	return hash;
}

void
highway_msg_seal(struct highway_msg *msg)
{
	msg->magic = HIGHWAY_MSG_MAGIC;
	msg->version = HIGHWAY_ABI_VERSION;
	msg->length = HIGHWAY_MSG_LEN;
	msg->checksum = checksum(msg);
}

bool
highway_msg_sound(const struct highway_msg *msg)
{
	/* Of any version: the greeting says which ones fit, and its answer has to be understood. */
	return msg->magic == HIGHWAY_MSG_MAGIC && msg->length == HIGHWAY_MSG_LEN &&
	       msg->checksum == checksum(msg);
}

int
highway_msg_write(int socket, const struct highway_msg *msg, int fd)
{
	union {
		struct cmsghdr align;
		uint8_t space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t n;

	if (fd >= 0) {
		header.msg_control = control.space;
		header.msg_controllen = sizeof(control.space);
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	}
	do {
		n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* A message that was cut in two cannot be mended: the connection is started over. */
	return n == (ssize_t)sizeof(*msg) ? 0 : -EPIPE;
}

/* Take all descriptors that came along; keep one, close the others. */
static void
take_descriptors(struct msghdr *header, int *kept)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(header); cmsg != NULL; cmsg = CMSG_NXTHDR(header, cmsg)) {
		size_t n, i;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			if (*kept < 0)
				*kept = fd;
			else
				close(fd);
		}
	}
}

int
highway_msg_read(int socket, struct highway_msg_input *input)
{
	uint8_t control[CMSG_SPACE(sizeof(int) * 4)]
		__attribute__((aligned(__alignof__(struct cmsghdr))));
	struct iovec iov = {
		.iov_base = (uint8_t *)&input->msg + input->used,
		.iov_len = sizeof(input->msg) - input->used,
	};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	/* Never more than what is missing, so that a descriptor belongs to this message. */
	do {
		n = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	take_descriptors(&header, &input->fd);
	input->used += (size_t)n;
	return input->used == sizeof(input->msg) ? 1 : 0;
}

void
highway_msg_done(struct highway_msg_input *input)
{
	if (input->fd >= 0)
		close(input->fd);
	input->fd = -1;
	input->used = 0;
}

void
highway_msg_resync(struct highway_msg_input *input)
{
	const uint32_t magic = HIGHWAY_MSG_MAGIC;
	uint8_t *bytes = (uint8_t *)&input->msg;
	size_t at;

	input->bad++;
	for (at = 1; at < sizeof(input->msg); at++) {
		size_t rest = sizeof(input->msg) - at;

		if (memcmp(bytes + at, &magic, rest < sizeof(magic) ? rest : sizeof(magic)) == 0) {
			memmove(bytes, bytes + at, rest);
			input->used = rest;
			return;
		}
	}
	highway_msg_done(input);
}
