/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * The control thread of the process and its ports' connections to highwayd. Nothing hangs on a
 * message that was missed: at each connection both sides tell their whole state again.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_version.h>

#include "highway.h"

#define TICK_MS 10
#define TICK_AWAITING_MS 1	/* while a link's region is looked for */
#define MAX_BAD 16		/* unsound messages before the connection is started over */
#define RETRY_MS 100
#define RETRY_REFUSED_MS 5000
#define ANSWER_MS 3000		/* a message can get lost in a VM's channel: then HELLO again */
#define REGION_MS 5000		/* from LINK_ADD until the link's region has to be seen in a VM */

static int kick_fd = -1;
static uint32_t kicked;

void
highway_ctrl_kick(void)
{
	uint64_t one = 1;

	/* Called from bursts: one system call per change, not per burst. */
	if (__atomic_load_n(&kicked, __ATOMIC_RELAXED) != 0 ||
	    __atomic_exchange_n(&kicked, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	if (write(kick_fd, &one, sizeof(one)) < 0)
		__atomic_store_n(&kicked, 0, __ATOMIC_RELEASE);
}

/* ------------------------------------------------------------------------------ connection --- */

/* Of the channel that a VM's ports share, this is the port's part only. */
static void
hang_up(struct highway_port *port, uint64_t retry_ms)
{
	struct highway_conn *conn = &port->conn;

	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	conn->state = HIGHWAY_CONN_DOWN;
	conn->retry_tsc = highway_tsc_in(retry_ms);
	highway_msg_done(&conn->input);
}

/** Say HELLO again, since highwayd has not heard the last one. */
void
highway_ctrl_greet_again(struct highway_port *port)
{
	hang_up(port, 0);
}

void
highway_ctrl_send(struct highway_port *port, enum highway_msg_type type,
		  const union highway_msg_body *body, int fd)
{
	struct highway_msg msg = {
		.type = (uint16_t)type,
		.port_id = port->conn.serial ? port->conn.region_id : port->region_id,
		.sequence = ++port->conn.sequence,
		.body = *body,
	};
	int ret;

	if (port->conn.fd < 0 && !port->conn.serial)
		return;
	highway_msg_seal(&msg);
	ret = port->conn.serial ? highway_serial_send(&msg) :
	      highway_msg_write(port->conn.fd, &msg, fd);
	if (ret != 0)
		hang_up(port, RETRY_MS);
}

void
highway_ctrl_link_reply(struct highway_port *port, enum highway_msg_type type, uint64_t link_id,
			uint64_t peer_id, enum highway_status status, const char *text)
{
	union highway_msg_body body = {
		.link = { .link_id = link_id, .peer_id = peer_id, .status = status },
	};
	const struct highway_link *link = highway_vnf_find_link(port, link_id);

	if (link != NULL)
		body.link.flags = (uint16_t)link->flags;
	snprintf(body.link.text, sizeof(body.link.text), "%s", text);
	highway_ctrl_send(port, type, &body, -1);
}

static void
greet(struct highway_port *port)
{
	union highway_msg_body body = {
		.hello = {
			.role = port->options.role,
			.abi_version = HIGHWAY_ABI_VERSION,
			.abi_oldest = HIGHWAY_ABI_OLDEST,
			.pid = (uint32_t)getpid(),
			.epoch = port->epoch,
			.flags = port->options.external ? HIGHWAY_HELLO_EXTERNAL : 0,
		},
	};
	int fd = -1, slot;

	snprintf(body.hello.name, sizeof(body.hello.name), "%s", port->options.port);
	snprintf(body.hello.driver, sizeof(body.hello.driver), "net_highway %s, %s",
		 HIGHWAY_DRIVER_VERSION, rte_version());
	if (port->options.token_file[0] != '\0') {
		int ret = highway_token_read(port->options.token_file, body.hello.token);

		if (ret != 0 && !port->conn.refused_logged)
			HW_LOG(ERR, "port %s: token-file=%s: %s", port->options.port,
			       port->options.token_file, ret == -EMSGSIZE ?
			       "a token has 16 to 64 bytes" : strerror(-ret));
	}
	if (port->sw != NULL) {
		char path[64];

		/* Opened anew: the lock on ours must not live on in highwayd. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", port->sw->fd);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	port->conn.state = HIGHWAY_CONN_GREETED;
	highway_ctrl_send(port, HIGHWAY_MSG_HELLO, &body, fd);
	if (fd >= 0)
		close(fd);
	for (slot = 0; slot < HIGHWAY_MAX_LINKS; slot++) {
		const struct highway_link *link = port->links[slot];

		if (link != NULL)
			highway_ctrl_link_reply(port, HIGHWAY_MSG_LINK_ADDED,
						link->geometry.link_id, link->peer_id,
						HIGHWAY_STATUS_OK, "");
	}
}

/* In a VM: the port is greeted for once its region is there, and again if nobody answers. */
static void
dial_serial(struct highway_port *port)
{
	struct highway_conn *conn = &port->conn;
	struct highway_bar_port found;

	if (conn->state == HIGHWAY_CONN_UP || rte_rdtsc() < conn->retry_tsc)
		return;
	if (port->map.base == NULL) {
		if (highway_bar_port_named(port->options.port, &found) != 0) {
			conn->retry_tsc = highway_tsc_in(RETRY_MS);
			return;
		}
		conn->region_id = found.region_id;
	}
	conn->retry_tsc = highway_tsc_in(ANSWER_MS);
	greet(port);
}

static void
dial(struct highway_port *port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct highway_conn *conn = &port->conn;
	int ret;

	if (rte_rdtsc() < conn->retry_tsc)
		return;
	if (port->options.socket[0] != '\0')
		ret = snprintf(address.sun_path, sizeof(address.sun_path), "%s",
			       port->options.socket) < 0 ? -EINVAL : 0;
	else if (port->sw != NULL)
		ret = highway_rundir_path(address.sun_path, sizeof(address.sun_path),
					  "switch.sock");
	else
		ret = highway_rundir_path(address.sun_path, sizeof(address.sun_path),
					  "ports/%s/sock", port->options.port);
	conn->fd = ret == 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	if (conn->fd < 0 ||
	    connect(conn->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		if (!conn->away_logged)
			HW_LOG(NOTICE, "port %s: no highwayd at %s yet; the port works without "
			       "and keeps trying", port->options.port, address.sun_path);
		conn->away_logged = true;
		hang_up(port, ret == 0 ? RETRY_MS : RETRY_REFUSED_MS);
		return;
	}
	greet(port);
}

/* -------------------------------------------------------------------------------- messages --- */

static void
welcome(struct highway_port *port, const struct highway_msg_welcome *msg)
{
	struct highway_conn *conn = &port->conn;

	if (msg->status == HIGHWAY_STATUS_OK) {
		conn->state = HIGHWAY_CONN_UP;
		conn->abi_version = msg->abi_version;
		if (msg->text[0] != '\0' && !conn->refused_logged)
			HW_LOG(WARNING, "port %s: highwayd gives it no links: %.*s",
			       port->options.port, (int)sizeof(msg->text) - 1, msg->text);
		conn->refused_logged = msg->text[0] != '\0';
		conn->away_logged = false;
		if (port->sw != NULL)
			highway_switch_connected(port);
		return;
	}
	if (!conn->refused_logged)
		HW_LOG(ERR, "port %s: highwayd refuses it: %.*s", port->options.port,
		       (int)sizeof(msg->text) - 1, msg->text);
	conn->refused_logged = true;
	hang_up(port, msg->status == HIGHWAY_STATUS_LATER ? RETRY_MS : RETRY_REFUSED_MS);
}

/* Map a region: of the descriptor that came with the message or, in a VM, of its PCI device. */
static int
map_region(const struct highway_port *port, int fd, uint64_t magic, uint64_t region_id,
	   uint64_t size, struct highway_map *map, char *why, size_t len)
{
	int ret;

	if (port->conn.serial)
		return highway_bar_map(magic, region_id, map, why, len);
	ret = highway_map_fd(map, fd, size);
	if (ret != 0)
		snprintf(why, len, "cannot map the %s's region: %s",
			 magic == HIGHWAY_PORT_MAGIC ? "port" : "link", strerror(-ret));
	return ret;
}

static void
port_region(struct highway_port *port, const struct highway_msg_region *msg, int fd)
{
	char why[HIGHWAY_TEXT_LEN] = "no PCI device has its region yet";
	struct highway_map map = { 0 };
	int ret;

	if (highway_vnf_attached(port, msg->region_id))
		return;
	ret = map_region(port, fd, HIGHWAY_PORT_MAGIC, msg->region_id, msg->size, &map, why,
			 sizeof(why));
	if (ret == 0)
		ret = highway_vnf_attach(port, &map, msg->region_id, why, sizeof(why));
	if (ret == 0)
		return;
	HW_LOG(ERR, "port %s: %s", port->options.port, why);
	hang_up(port, ret == -ENOENT ? RETRY_MS : RETRY_REFUSED_MS);
}

/* In a VM nothing is mapped for the port any more: its devices may be unplugged. */
static void
tell_released(struct highway_port *port)
{
	union highway_msg_body body = { .region = { .region_id = port->conn.region_id } };

	if (port->conn.serial)
		highway_ctrl_send(port, HIGHWAY_MSG_PORT_RELEASED, &body, -1);
}

static void
port_gone(struct highway_port *port)
{
	highway_vnf_detach(port);
	tell_released(port);
	if (port->conn.serial)
		hang_up(port, RETRY_MS);
}

static void
link_added(struct highway_port *port, const struct highway_msg_link *msg, int ret, const char *text)
{
	if (ret != 0)
		HW_LOG(ERR, "port %s: link to %.*s not attached: %s", port->options.port,
		       (int)sizeof(msg->peer_name) - 1, msg->peer_name, text);
	highway_ctrl_link_reply(port, HIGHWAY_MSG_LINK_ADDED, msg->link_id, msg->peer_id,
				ret == 0 ? HIGHWAY_STATUS_OK : HIGHWAY_STATUS_REFUSED, text);
}

/* Attach a link; -ENOENT if its region is not to be seen yet. */
static int
try_link(struct highway_port *port, const struct highway_msg_link *msg, int fd, char *why,
	 size_t len)
{
	struct highway_map map = { 0 };
	int ret;

	if (highway_vnf_find_link(port, msg->link_id) != NULL)
		return 0;
	ret = map_region(port, fd, HIGHWAY_LINK_MAGIC, msg->link_id, msg->size, &map, why, len);
	return ret == 0 ? highway_vnf_link_add(port, &map, msg, why, len) : ret;
}

/* highwayd waits for the answer before it tells the other end that it may do more. */
static void
link_update(struct highway_port *port, const struct highway_msg_link *msg, uint16_t version)
{
	/* The phase is looked at with the next tick; there are no flags from an old highwayd. */
	if (version >= HIGHWAY_ABI_DIRECTED && highway_vnf_link_update(port, msg))
		highway_ctrl_link_reply(port, HIGHWAY_MSG_LINK_ADDED, msg->link_id, msg->peer_id,
					HIGHWAY_STATUS_OK, "");
}

static void
link_add(struct highway_port *port, const struct highway_msg_link *msg, int fd)
{
	char why[HIGHWAY_TEXT_LEN] = "";
	struct highway_awaited *awaited;
	int ret;

	if (port->map.base == NULL)
		return;
	ret = try_link(port, msg, fd, why, sizeof(why));
	if (ret != -ENOENT) {
		link_added(port, msg, ret, why);
		return;
	}
	awaited = rte_zmalloc("highway_awaited", sizeof(*awaited), 0);
	if (awaited == NULL) {
		link_added(port, msg, -ENOMEM, "no memory in the VNF");
		return;
	}
	awaited->msg = *msg;
	awaited->since_tsc = rte_rdtsc();
	TAILQ_INSERT_TAIL(&port->awaited, awaited, next);
}

static void
forget(struct highway_port *port, struct highway_awaited *awaited)
{
	TAILQ_REMOVE(&port->awaited, awaited, next);
	rte_free(awaited);
}

/* Links whose regions were not to be seen yet: a device takes some milliseconds to appear. */
static void
look_for_awaited(struct highway_port *port)
{
	struct highway_awaited *awaited, *following;

	for (awaited = TAILQ_FIRST(&port->awaited); awaited != NULL; awaited = following) {
		char text[HIGHWAY_TEXT_LEN] = "no PCI device with its region has appeared";
		uint64_t found_tsc = rte_rdtsc(), waited = found_tsc - awaited->since_tsc;
		uint64_t us = RTE_MAX(rte_get_tsc_hz() / 1000000, UINT64_C(1));
		int ret = try_link(port, &awaited->msg, -1, text, sizeof(text));

		following = TAILQ_NEXT(awaited, next);
		if (ret == -ENOENT && waited < REGION_MS * us * 1000)
			continue;
		if (ret == 0)
			snprintf(text, sizeof(text), "seen after %" PRIu64 " us, mapped in %" PRIu64
				 " us", waited / us, (rte_rdtsc() - found_tsc) / us);
		link_added(port, &awaited->msg, ret, text);
		forget(port, awaited);
	}
}

static void
link_remove(struct highway_port *port, uint64_t link_id)
{
	struct highway_awaited *awaited;

	TAILQ_FOREACH(awaited, &port->awaited, next) {
		if (awaited->msg.link_id == link_id) {
			forget(port, awaited);
			break;
		}
	}
	highway_vnf_link_remove(port, link_id);
}

/* A link's message as one of today. */
static struct highway_msg_link
link_msg(const struct highway_msg *msg)
{
	struct highway_msg_link link = msg->body.link;

	if (msg->version < HIGHWAY_ABI_DIRECTED && (link.flags & HIGHWAY_LINK_CHECKED) != 0)
		link.flags |= HIGHWAY_LINK_PEER_CHECKS;
	return link;
}

/** Deal with a message for a port; `fd` came with it, -1 for none. Under highway_lock. */
void
highway_ctrl_handle(struct highway_port *port, const struct highway_msg *msg, int fd)
{
	bool vnf = port->options.role == HIGHWAY_ROLE_VNF;
	struct highway_msg_link link = link_msg(msg);

	if (msg->type == HIGHWAY_MSG_WELCOME)
		welcome(port, &msg->body.welcome);
	else if (vnf && msg->type == HIGHWAY_MSG_PORT_REGION)
		port_region(port, &msg->body.region, fd);
	else if (vnf && msg->type == HIGHWAY_MSG_PORT_GONE)
		port_gone(port);
	else if (vnf && msg->type == HIGHWAY_MSG_LINK_ADD)
		link_add(port, &link, fd);
	else if (vnf && msg->type == HIGHWAY_MSG_LINK_UPDATE)
		link_update(port, &link, msg->version);
	else if (vnf && msg->type == HIGHWAY_MSG_LINK_REMOVE)
		link_remove(port, link.link_id);
	else if (!vnf && msg->type == HIGHWAY_MSG_PURGED)
		highway_switch_purged(port, msg->body.want.token);
	else if (!vnf && msg->type == HIGHWAY_MSG_PURGE)
		highway_switch_hold(port);
	else if (!vnf && msg->type == HIGHWAY_MSG_STATS)
		highway_received_set(port, &msg->body.stats);
	else
		HW_LOG(WARNING, "port %s: message of type %u ignored", port->options.port,
		       msg->type);
}

static void
listen_to(struct highway_port *port)
{
	struct highway_msg_input *input = &port->conn.input;

	while (port->conn.fd >= 0) {
		int ret = highway_msg_read(port->conn.fd, input);

		if (ret == 0)
			return;
		if (ret < 0) {
			hang_up(port, RETRY_MS);
			return;
		}
		if (highway_msg_sound(&input->msg)) {
			struct highway_msg msg = input->msg;

			highway_ctrl_handle(port, &msg, input->fd);
			if (port->conn.fd >= 0)
				highway_msg_done(input);
			continue;
		}
		HW_LOG(ERR, "port %s: unsound control message skipped", port->options.port);
		highway_msg_resync(input);
		if (input->bad > MAX_BAD) {
			input->bad = 0;
			hang_up(port, RETRY_REFUSED_MS);
		}
	}
}

static void
serve(struct highway_port *port)
{
	if (port->conn.serial)
		dial_serial(port);
	else if (port->conn.fd < 0)
		dial(port);
	listen_to(port);
	look_for_awaited(port);
	if (port->sw != NULL)
		highway_switch_tick(port);
	else if (port->options.role == HIGHWAY_ROLE_VNF)
		highway_vnf_tick(port);
}

/* ---------------------------------------------------------------------------------- thread --- */

static nfds_t
collect(struct pollfd *fds, nfds_t room, int *timeout)
{
	struct highway_port *port;
	nfds_t n = 0;

	fds[n++] = (struct pollfd){ .fd = kick_fd, .events = POLLIN };
	pthread_mutex_lock(&highway_lock);
	*timeout = TAILQ_EMPTY(&highway_ports) && !highway_links_pinned() ? -1 : TICK_MS;
	if (highway_serial_fd() >= 0)
		fds[n++] = (struct pollfd){ .fd = highway_serial_fd(), .events = POLLIN };
	TAILQ_FOREACH(port, &highway_ports, next) {
		if (!TAILQ_EMPTY(&port->awaited))
			*timeout = TICK_AWAITING_MS;
		if (port->conn.fd >= 0 && n < room)
			fds[n++] = (struct pollfd){ .fd = port->conn.fd, .events = POLLIN };
	}
	pthread_mutex_unlock(&highway_lock);
	return n;
}

static void *
run(void *arg __rte_unused)
{
	struct pollfd fds[RTE_MAX_ETHPORTS + 2];
	struct highway_port *port;
	uint64_t count;
	int timeout;
	nfds_t n;

	for (;;) {
		n = collect(fds, RTE_DIM(fds), &timeout);
		poll(fds, n, timeout);
		__atomic_store_n(&kicked, 0, __ATOMIC_RELEASE);
		if ((fds[0].revents & POLLIN) != 0 &&
		    read(kick_fd, &count, sizeof(count)) < 0)
			HW_LOG(DEBUG, "spurious wake-up");
		pthread_mutex_lock(&highway_lock);
		highway_serial_tick();
		TAILQ_FOREACH(port, &highway_ports, next)
			serve(port);
		highway_links_reap();
		pthread_mutex_unlock(&highway_lock);
	}
	return NULL;
}

static int
start_thread(void)
{
	static bool started;
	pthread_t thread;
	int ret;

	if (started)
		return 0;
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (kick_fd < 0)
		return -errno;
#if RTE_VERSION >= RTE_VERSION_NUM(23, 7, 0, 0)
	{
		rte_thread_t id;

		ret = rte_thread_create_control(&id, "highway-ctrl", (rte_thread_func)run, NULL);
		thread = (pthread_t)id.opaque_id;
	}
#else
	ret = rte_ctrl_thread_create(&thread, "highway-ctrl", NULL, run, NULL);
#endif
	if (ret != 0) {
		close(kick_fd);
		return ret < 0 ? ret : -ret;
	}
	pthread_detach(thread);
	started = true;
	return 0;
}

/**
 * Let the control thread look after a port. If highwayd answers at once, the port is attached
 * when this returns, so that its queue count is known before the application configures it.
 */
int
highway_ctrl_add(struct highway_port *port)
{
	int ret, tries;

	port->conn.fd = -1;
	port->conn.input.fd = -1;
	pthread_mutex_lock(&highway_lock);
	ret = start_thread();
	if (ret == 0) {
		rte_spinlock_lock(&highway_ports_spin);
		TAILQ_INSERT_TAIL(&highway_ports, port, next);
		rte_spinlock_unlock(&highway_ports_spin);
		highway_serial_tick();
		serve(port);
	}
	for (tries = 0; ret == 0 && tries < 100 && port->sw == NULL &&
	     port->conn.state != HIGHWAY_CONN_DOWN && port->map.base == NULL; tries++) {
		pthread_mutex_unlock(&highway_lock);
		rte_delay_us_sleep(5000);
		pthread_mutex_lock(&highway_lock);
	}
	pthread_mutex_unlock(&highway_lock);
	highway_ctrl_kick();
	return ret;
}

/** Under highway_lock. */
void
highway_ctrl_remove(struct highway_port *port)
{
	/* The channel outlives the port, so its end tells nothing. */
	tell_released(port);
	hang_up(port, 0);
	while (!TAILQ_EMPTY(&port->awaited))
		forget(port, TAILQ_FIRST(&port->awaited));
	rte_spinlock_lock(&highway_ports_spin);
	TAILQ_REMOVE(&highway_ports, port, next);
	rte_spinlock_unlock(&highway_ports_spin);
}
