/* SPDX-License-Identifier: Apache-2.0 */

/**
 * @file
 * Messages in a stream that is cut anywhere, with other bytes between them and descriptors beside
 * them: each sound message arrives, once, and no descriptor is lost.
 */

#include <errno.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "highway_msg.h"

#define STREAM 8192
#define MESSAGES (STREAM / HIGHWAY_MSG_LEN)
#define FAKE_FD 1000
#define GARBAGE 255 /* bytes between two messages: too few to be one */

static struct fuzz_input input;
static uint8_t stream[STREAM];
static size_t filled, taken;
static uint32_t sent, received;
static int fds_given, fds_open;

/* -------------------------------------------------------------------- in place of a socket --- */

ssize_t __wrap_recvmsg(int fd, struct msghdr *header, int flags);
int __wrap_close(int fd);
int __real_close(int fd);

/* Descriptors come along: as many as the receiver has room for, or fewer. */
static void
give_descriptors(struct msghdr *header, int n)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(header);
	int i, fd;

	n = RTE_MIN(n, (int)((header->msg_controllen - CMSG_LEN(0)) / sizeof(int)));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
	header->msg_controllen = cmsg->cmsg_len;
	for (i = 0; i < n; i++) {
		fd = FAKE_FD + fds_given++;
		fds_open++;
		memcpy(CMSG_DATA(cmsg) + (size_t)i * sizeof(int), &fd, sizeof(fd));
	}
}

ssize_t
__wrap_recvmsg(int fd, struct msghdr *header, int flags)
{
	uint8_t how = fuzz_u8(&input);
	size_t n = RTE_MIN(filled - taken, header->msg_iov->iov_len);

	CHECK(fd == 5 && (flags & MSG_CMSG_CLOEXEC) != 0 && header->msg_iov->iov_len != 0);
	if (n == 0)
		return 0;
	if ((how & 7) == 7) {
		errno = EAGAIN;
		return -1;
	}
	if ((how & 1) != 0)
		n = RTE_MIN(n, (size_t)(1 + (how >> 1)));
	memcpy(header->msg_iov->iov_base, stream + taken, n);
	taken += n;
	if ((how & 0xc0) == 0xc0)
		give_descriptors(header, how >> 3 & 7);
	else
		header->msg_controllen = 0;
	return (ssize_t)n;
}

int
__wrap_close(int fd)
{
	if (fd < FAKE_FD)
		return __real_close(fd);
	CHECK(fd < FAKE_FD + fds_given);
	fds_open--;
	return 0;
}

/* ---------------------------------------------------------------------------------- fuzzer --- */

static void
add_message(uint8_t how)
{
	struct highway_msg msg = { .type = how & 15, .sequence = sent + 1 };

	if ((how & 16) != 0)
		fuzz_take(&input, (uint8_t *)&msg.body + fuzz_u8(&input) % 200, 16);
	if ((how & 32) != 0) /* a text that looks like a message */
		memcpy((uint8_t *)&msg.body + fuzz_u8(&input) % 200, "HWYM", sizeof(uint32_t));
	highway_msg_seal(&msg);
	CHECK(highway_msg_sound(&msg));
	memcpy(stream + filled, &msg, sizeof(msg));
	filled += sizeof(msg);
	sent++;
}

static void
make_stream(void)
{
	size_t garbage = 0, some;
	uint8_t how;

	filled = taken = 0;
	while (filled + sizeof(struct highway_msg) <= STREAM && (how = fuzz_u8(&input)) != 0) {
		some = (how & 63) + 1U;
		if (how < 128) {
			add_message(how);
			garbage = 0;
		} else if (garbage + some <= GARBAGE) {
			fuzz_take(&input, stream + filled, some);
			if ((how & 64) != 0 && some >= sizeof(uint32_t))
				memcpy(stream + filled, "HWYM", sizeof(uint32_t));
			filled += some;
			garbage += some;
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct highway_msg_input in = { .fd = -1 };
	int ret;

	input = (struct fuzz_input){ .at = data, .left = size };
	sent = received = 0;
	fds_given = fds_open = 0;
	make_stream();
	while ((ret = highway_msg_read(5, &in)) >= 0) {
		CHECK(in.used <= sizeof(in.msg) && (ret == 1) == (in.used == sizeof(in.msg)));
		CHECK(fds_open == (in.fd >= 0));
		if (ret == 0)
			continue;
		if (highway_msg_sound(&in.msg)) {
			CHECK(in.msg.sequence == ++received);
			highway_msg_done(&in);
			CHECK(in.used == 0 && fds_open == 0);
		} else {
			highway_msg_resync(&in);
			CHECK(in.used < sizeof(in.msg));
		}
	}
	CHECK(ret == -ECONNRESET && received == sent);
	highway_msg_done(&in);
	CHECK(fds_open == 0);
	return 0;
}
