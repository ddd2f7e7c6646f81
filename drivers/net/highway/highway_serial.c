/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The control channel of a virtual machine: one virtio-serial port, shared by all ports of the
 * program. Only one program at a time can have it open. While nobody has the host's end, poll()
 * says POLLHUP for ever, so it is then looked at once per tick.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "highway.h"

#define PORTS "/sys/class/virtio-ports"
#define NAME "org.highway.0"
#define RETRY_MS 100

static struct {
	int fd;			/* -1 = not open */
	bool here;		/* somebody has the host's end */
	bool logged;		/* why it is not open */
	uint64_t retry_tsc;
	struct highway_msg_input input;
} serial = { .fd = -1, .input = { .fd = -1 } };

/* The name of the device file, "" if this machine has no such port. */
static void
find_device(char *device, size_t len)
{
	DIR *ports = opendir(PORTS);
	struct dirent *entry;

	device[0] = '\0';
	while (ports != NULL && device[0] == '\0' && (entry = readdir(ports)) != NULL) {
		char path[128], name[64] = "";
		FILE *file;

		snprintf(path, sizeof(path), PORTS "/%.64s/name", entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%63s", name) == 1 && strcmp(name, NAME) == 0)
			snprintf(device, len, "/dev/%.64s", entry->d_name);
		fclose(file);
	}
	if (ports != NULL)
		closedir(ports);
}

/** Does this machine have the control channel of a virtual machine? */
bool
highway_serial_exists(void)
{
	char device[96];

	find_device(device, sizeof(device));
	return device[0] != '\0';
}

static void
open_device(void)
{
	char device[96];

	if (rte_rdtsc() < serial.retry_tsc)
		return;
	serial.retry_tsc = rte_rdtsc() + RETRY_MS * rte_get_tsc_hz() / 1000;
	find_device(device, sizeof(device));
	if (device[0] != '\0')
		serial.fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (serial.fd < 0 && !serial.logged)
		HW_LOG(ERR, "no control channel: %s; the ports stay down", device[0] == '\0' ?
		       "this VM has no virtio-serial port " NAME " (see \"highway vm args\")" :
		       errno == EBUSY ? "another program of this VM has it" : strerror(errno));
	serial.logged = serial.fd < 0;
}

/* Nobody has the host's end any more. */
static void
lost(void)
{
	struct highway_port *port;

	serial.here = false;
	highway_msg_done(&serial.input);
	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->conn.serial)
			highway_ctrl_greet_again(port);
	}
}

static struct highway_port *
port_of(uint64_t region_id)
{
	struct highway_port *port;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->conn.serial && region_id != 0 && port->conn.region_id == region_id)
			return port;
	}
	return NULL;
}

static void
dispatch(const struct highway_msg *msg)
{
	struct highway_port *port = port_of(msg->port_id);

	if (port != NULL) {
		highway_ctrl_handle(port, msg, -1);
		return;
	}
	/* A highwayd that has just come does not know who is here. */
	if (msg->type == HIGHWAY_MSG_WELCOME && msg->port_id == 0) {
		TAILQ_FOREACH(port, &highway_ports, next) {
			if (port->conn.serial)
				highway_ctrl_greet_again(port);
		}
	}
}

static void
receive(void)
{
	struct highway_msg_input *input = &serial.input;

	for (;;) {
		ssize_t n = read(serial.fd, (uint8_t *)&input->msg + input->used,
				 sizeof(input->msg) - input->used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				lost();
			return;
		}
		input->used += (size_t)n;
		if (input->used < sizeof(input->msg))
			continue;
		if (highway_msg_sound(&input->msg)) {
			struct highway_msg msg = input->msg;

			highway_msg_done(input);
			dispatch(&msg);
		} else {
			/* Half a message of an earlier highwayd may stand in front of this one. */
			highway_msg_resync(input);
		}
	}
}

/** Open the channel, see who is there, and take what came. Called by the control thread. */
void
highway_serial_tick(void)
{
	struct pollfd fds = { .events = POLLIN };
	struct highway_port *port;

	TAILQ_FOREACH(port, &highway_ports, next) {
		if (port->conn.serial)
			break;
	}
	if (port == NULL) {
		if (serial.fd >= 0)
			close(serial.fd);
		serial.fd = -1;
		serial.here = false;
		return;
	}
	if (serial.fd < 0)
		open_device();
	if (serial.fd < 0)
		return;
	fds.fd = serial.fd;
	if (poll(&fds, 1, 0) < 0)
		return;
	if ((fds.revents & POLLHUP) != 0) {
		if (serial.here)
			lost();
		return;
	}
	serial.here = true;
	if ((fds.revents & POLLIN) != 0)
		receive();
}

/** The descriptor to wait for, -1 if there is nothing to wait for. */
int
highway_serial_fd(void)
{
	return serial.here ? serial.fd : -1;
}

/** Send a sealed message. 0 or -errno; then nothing of it was sent. */
int
highway_serial_send(const struct highway_msg *msg)
{
	ssize_t n;

	if (!serial.here)
		return -ENOTCONN;
	do {
		n = write(serial.fd, msg, sizeof(*msg));
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*msg) ? 0 : -EAGAIN;
}
