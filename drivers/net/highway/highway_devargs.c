/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_kvargs.h>

#include "highway.h"

#define NAME_PREFIX "net_highway_"

static const char *const known_args[] = {
	"role", "port", "socket", "idle", "queues", "ring-size", "rules", "drain-timeout",
	"unordered", "bar-limit", "memory", "stores", "token-file", "external-buffers", NULL
};

struct number_range {
	const char *device;
	uint32_t least;
	uint32_t most;
	bool power_of_two;
	uint32_t *value;
};

struct path {
	char *text;
	size_t room;
};

static int
parse_number(const char *key, const char *text, void *opaque)
{
	struct number_range *range = opaque;
	char *end = NULL;
	unsigned long number;

	errno = 0;
	number = text == NULL ? 0 : strtoul(text, &end, 10);
	if (text == NULL || !isdigit((unsigned char)text[0]) || errno != 0 || *end != '\0' ||
	    number < range->least || number > range->most ||
	    (range->power_of_two && !rte_is_power_of_2((uint32_t)number))) {
		HW_LOG(ERR, "%s: %s=%s: give a number from %u to %u%s", range->device, key,
		       text == NULL ? "" : text, range->least, range->most,
		       range->power_of_two ? ", a power of two" : "");
		return -EINVAL;
	}
	*range->value = (uint32_t)number;
	return 0;
}

static int
parse_role(const char *key __rte_unused, const char *text, void *opaque)
{
	struct highway_options *options = opaque;

	if (text != NULL && strcmp(text, "switch") == 0)
		options->role = HIGHWAY_ROLE_SWITCH;
	else if (text != NULL && strcmp(text, "vnf") == 0)
		options->role = HIGHWAY_ROLE_VNF;
	else
		return -EINVAL;
	return 0;
}

static int
parse_idle(const char *key __rte_unused, const char *text, void *opaque)
{
	struct highway_options *options = opaque;

	if (text != NULL && strcmp(text, "poll") == 0)
		options->idle = HIGHWAY_IDLE_POLL;
	else if (text != NULL && strcmp(text, "yield") == 0)
		options->idle = HIGHWAY_IDLE_YIELD;
	else if (text != NULL && strcmp(text, "sleep") == 0)
		options->idle = HIGHWAY_IDLE_SLEEP;
	else
		return -EINVAL;
	return 0;
}

static int
parse_flag(const char *key __rte_unused, const char *text, void *opaque)
{
	bool *flag = opaque;

	if (text == NULL || (strcmp(text, "0") != 0 && strcmp(text, "1") != 0))
		return -EINVAL;
	*flag = text[0] == '1';
	return 0;
}

static int
parse_memory(const char *key __rte_unused, const char *text, void *opaque)
{
	bool *in_shm = opaque;

	if (text == NULL || (strcmp(text, "auto") != 0 && strcmp(text, "shm") != 0))
		return -EINVAL;
	*in_shm = text[0] == 's';
	return 0;
}

static int
parse_stores(const char *key __rte_unused, const char *text, void *opaque)
{
	struct highway_options *options = opaque;

	if (text != NULL && strcmp(text, "auto") == 0)
		options->stores = HIGHWAY_STORES_AUTO;
	else if (text != NULL && strcmp(text, "cached") == 0)
		options->stores = HIGHWAY_STORES_CACHED;
	else if (text != NULL && strcmp(text, "streamed") == 0)
		options->stores = HIGHWAY_STORES_STREAMED;
	else
		return -EINVAL;
	return 0;
}

static int
parse_port(const char *key __rte_unused, const char *text, void *opaque)
{
	struct highway_options *options = opaque;
	size_t i, len = text == NULL ? 0 : strlen(text);

	if (len == 0 || len >= sizeof(options->port) || text[0] == '.' || text[0] == '-')
		return -EINVAL;
	for (i = 0; i < len; i++) {
		if (!isalnum((unsigned char)text[i]) && strchr("._-", text[i]) == NULL)
			return -EINVAL;
	}
	memcpy(options->port, text, len + 1);
	return 0;
}

static int
parse_path(const char *key __rte_unused, const char *text, void *opaque)
{
	struct path *path = opaque;
	size_t len = text == NULL ? 0 : strlen(text);

	if (len == 0 || len >= path->room || text[0] != '/')
		return -EINVAL;
	memcpy(path->text, text, len + 1);
	return 0;
}

/* One argument that may stand once. The handler's -EINVAL is told here, with `hint`. */
static int
process(struct rte_kvargs *args, const char *device, const char *key, arg_handler_t handler,
	void *opaque, const char *hint)
{
	int ret;

	if (rte_kvargs_count(args, key) > 1) {
		HW_LOG(ERR, "%s: %s stands more than once; give it once", device, key);
		return -EINVAL;
	}
	ret = rte_kvargs_process(args, key, handler, opaque);
	if (ret != 0 && hint != NULL)
		HW_LOG(ERR, "%s: wrong %s: %s", device, key, hint);
	return ret != 0 ? -EINVAL : 0;
}

static int
check_role(const char *name, const struct rte_kvargs *args, struct highway_options *options)
{
	static const char *const switch_only[] = { "queues", "ring-size", "rules", "memory" };
	static const char *const vnf_only[] = { "socket", "idle", "drain-timeout",
						 "unordered", "bar-limit", "external-buffers",
						 "token-file" };
	unsigned int i;

	if (options->role == HIGHWAY_ROLE_SWITCH) {
		if (options->port[0] != '\0') {
			HW_LOG(ERR, "%s: with role=switch the port is named by the device, "
			       "net_highway_<port>; leave port= out", name);
			return -EINVAL;
		}
		if ((strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0 ||
		     parse_port(NULL, name + strlen(NAME_PREFIX), options) != 0)) {
			HW_LOG(ERR, "%s: with role=switch name the device net_highway_<port>, "
			       "where <port> has letters, digits, '.', '_' or '-' and at most %d "
			       "of them", name, HIGHWAY_NAME_LEN - 1);
			return -EINVAL;
		}
		for (i = 0; i < RTE_DIM(vnf_only); i++) {
			if (rte_kvargs_count(args, vnf_only[i]) != 0) {
				HW_LOG(ERR, "%s: %s is not for role=switch; leave it out", name,
				       vnf_only[i]);
				return -EINVAL;
			}
		}
		return 0;
	}
	if (options->port[0] == '\0') {
		HW_LOG(ERR, "%s: no port; give port=<name of the switch's port>", name);
		return -EINVAL;
	}
	for (i = 0; i < RTE_DIM(switch_only); i++) {
		if (rte_kvargs_count(args, switch_only[i]) != 0) {
			HW_LOG(ERR, "%s: %s is set at the switch's port, not here; leave it out",
			       name, switch_only[i]);
			return -EINVAL;
		}
	}
	return 0;
}

int
highway_options_parse(const char *name, const char *devargs, struct highway_options *options)
{
	struct number_range queues = { name, 1, HIGHWAY_MAX_QUEUES, false, &options->queues };
	struct number_range ring = { name, HIGHWAY_MIN_RING_SIZE, HIGHWAY_MAX_RING_SIZE, true,
				     &options->ring_size };
	struct number_range rules = { name, 1, HIGHWAY_MAX_RULES, false, &options->rules };
	struct number_range drain = { name, 1, HIGHWAY_DRAIN_TIMEOUT_MAX_S, false,
				      &options->drain_timeout_s };
	struct number_range bar = { name, 0, HIGHWAY_BAR_LIMIT_MAX_NS, false,
				    &options->bar_limit_ns };
	struct path socket_path = { options->socket, sizeof(options->socket) };
	struct path token_file = { options->token_file, sizeof(options->token_file) };
	struct rte_kvargs *args;
	int ret = -EINVAL;

	*options = (struct highway_options){
		.role = HIGHWAY_ROLE_VNF,
		.idle = HIGHWAY_IDLE_POLL,
		.queues = 1,
		.ring_size = HIGHWAY_DEFAULT_RING_SIZE,
		.rules = HIGHWAY_DEFAULT_RULES,
		.drain_timeout_s = HIGHWAY_DRAIN_TIMEOUT_S,
		.bar_limit_ns = HIGHWAY_BAR_LIMIT_NS,
	};
	args = rte_kvargs_parse(devargs == NULL ? "" : devargs, known_args);
	if (args == NULL) {
		HW_LOG(ERR, "%s: cannot read \"%s\"; known are role, port, socket, idle, queues, "
		       "ring-size, rules, memory, stores, external-buffers, drain-timeout, "
		       "token-file, bar-limit and unordered, each as key=value", name,
		       devargs == NULL ? "" : devargs);
		return -EINVAL;
	}
	if (process(args, name, "role", parse_role, options, "give switch or vnf") != 0 ||
	    process(args, name, "port", parse_port, options,
		    "give a name of letters, digits, '.', '_' and '-', at most 63") != 0 ||
	    process(args, name, "socket", parse_path, &socket_path,
		    "give an absolute path of at most 107 bytes") != 0 ||
	    process(args, name, "token-file", parse_path, &token_file,
		    "give an absolute path of at most 255 bytes") != 0 ||
	    process(args, name, "idle", parse_idle, options, "give poll, yield or sleep") != 0 ||
	    process(args, name, "unordered", parse_flag, &options->unordered,
		    "give 0 or 1") != 0 ||
	    process(args, name, "external-buffers", parse_flag, &options->external,
		    "give 0 or 1") != 0 ||
	    process(args, name, "memory", parse_memory, &options->in_shm,
		    "give auto or shm") != 0 ||
	    process(args, name, "stores", parse_stores, options,
		    "give auto, cached or streamed") != 0 ||
	    process(args, name, "bar-limit", parse_number, &bar, NULL) != 0 ||
	    process(args, name, "drain-timeout", parse_number, &drain, NULL) != 0 ||
	    process(args, name, "queues", parse_number, &queues, NULL) != 0 ||
	    process(args, name, "ring-size", parse_number, &ring, NULL) != 0 ||
	    process(args, name, "rules", parse_number, &rules, NULL) != 0)
		goto out;
	ret = check_role(name, args, options);
out:
	rte_kvargs_free(args);
	return ret;
}
