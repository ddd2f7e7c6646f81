/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the ovs-highway authors
 */

/**
 * @file
 * How DPDK finds ports: as virtual devices that the user names, and in a virtual machine by
 * themselves, as ivshmem devices whose memory is a port's region. DPDK's PCI bus shows its drivers
 * only devices that a kernel driver is bound to, and these need none; so they are looked for when
 * the bus of virtual devices is scanned, and become virtual devices too.
 */

#include <bus_driver.h>
#include <bus_vdev_driver.h>
#include <dlfcn.h>
#include <ethdev_vdev.h>
#include <link.h>
#include <rte_devargs.h>
#include <rte_version.h>

#include "highway.h"

int highway_logtype;

/** The DPDK version that this file was built for; read by installers and by "highway doctor". */
__rte_used __attribute__((visibility("default"))) const char highway_dpdk_version[] = RTE_STR(
	RTE_VER_YEAR) "." RTE_STR(RTE_VER_MONTH) "." RTE_STR(RTE_VER_MINOR);

static bool
may_probe(const char *name)
{
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		return true;
	HW_LOG(ERR, "%s: secondary processes cannot share a port; give the program a port of its "
	       "own", name);
	return false;
}

static int
probe(struct rte_vdev_device *vdev)
{
	const char *name = rte_vdev_device_name(vdev);
	struct highway_options options;
	struct highway_bar_port bar;
	struct rte_eth_dev *dev;
	bool in_bar;
	int ret;

	if (!may_probe(name))
		return -ENOTSUP;
	ret = highway_options_parse(name, rte_vdev_device_args(vdev), &options);
	if (ret != 0)
		return ret;
	if (highway_ethdev_has(options.port)) {
		HW_LOG(ERR, "%s: this program has port %s already; give each device a port of its "
		       "own", name, options.port);
		return -EEXIST;
	}
	dev = rte_eth_vdev_allocate(vdev, sizeof(struct highway_port));
	if (dev == NULL)
		return -ENOMEM;
	in_bar = options.role == HIGHWAY_ROLE_VNF && options.socket[0] == '\0' &&
		 highway_bar_port_named(options.port, &bar) == 0;
	ret = highway_ethdev_init(dev, &options, in_bar ? &bar : NULL);
	if (ret == 0)
		rte_eth_dev_probing_finish(dev);
	else
		rte_eth_dev_release_port(dev);
	return ret;
}

static int
remove_port(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *dev = rte_eth_dev_get_by_name(rte_vdev_device_name(vdev));

	if (dev != NULL)
		rte_eth_dev_close(dev->data->port_id);
	return 0;
}

static struct rte_vdev_driver highway_driver = {
	.probe = probe,
	.remove = remove_port,
};

/* ------------------------------------------------------------------- ports that find themselves */

/* Is there a virtual device of this name, or for this port? */
static bool
is_named(const char *name, const char *port)
{
	struct rte_devargs *devargs;
	char wanted[HIGHWAY_NAME_LEN + 8];

	snprintf(wanted, sizeof(wanted), "port=%s", port);
	RTE_EAL_DEVARGS_FOREACH("vdev", devargs) {
		const char *args = devargs->args == NULL ? "" : devargs->args;
		const char *found = strstr(args, wanted);

		if (strcmp(devargs->name, name) == 0)
			return true;
		if (strncmp(devargs->name, "net_highway", strlen("net_highway")) == 0 &&
		    found != NULL && strchr(",", found[strlen(wanted)]) != NULL)
			return true;
	}
	return false;
}

/* What -a and -b say of a PCI device; false: it is to be left alone. */
static bool
pci_allowed(const char *address, const char **args)
{
	struct rte_devargs *devargs;
	bool only_named = false, named = false, blocked = false;

	*args = "";
	RTE_EAL_DEVARGS_FOREACH("pci", devargs) {
		bool this_one = strcmp(devargs->name, address) == 0;

		if (devargs->policy == RTE_DEV_BLOCKED) {
			blocked |= this_one;
			continue;
		}
		only_named = true;
		if (this_one) {
			named = true;
			*args = devargs->args == NULL ? "" : devargs->args;
		}
	}
	return only_named ? named : !blocked;
}

/* Under the list's lock of the bus; what stands in the list of devargs is scanned next. */
static void
add_bar_port(const char *address, const struct highway_bar_port *bar, void *opaque)
{
	struct rte_bus *bus = opaque;
	struct rte_devargs *devargs;
	const char *args;
	char name[sizeof(devargs->name)];

	snprintf(name, sizeof(name), "net_highway_%s", address);
	if (!pci_allowed(address, &args) || is_named(name, bar->name))
		return;
	devargs = calloc(1, sizeof(*devargs));
	if (devargs == NULL)
		return;
	devargs->bus = bus;
	devargs->type = RTE_DEVTYPE_VIRTUAL;
	devargs->policy = RTE_DEV_ALLOWED;
	snprintf(devargs->name, sizeof(devargs->name), "%s", name);
	if (asprintf(&devargs->data, "port=%s%s%s", bar->name, args[0] != '\0' ? "," : "",
		     args) < 0) {
		free(devargs);
		return;
	}
	devargs->args = devargs->data;
	if (rte_devargs_insert(&devargs) != 0) {
		free(devargs->data);
		free(devargs);
		return;
	}
	HW_LOG(INFO, "PCI device %s is port %s", address, bar->name);
}

static void
find_bar_ports(void *opaque __rte_unused)
{
	struct rte_bus *bus = rte_bus_find_by_name("vdev");

	/* --no-pci keeps away from these too. */
	if (bus != NULL && rte_eal_has_pci() && rte_eal_process_type() == RTE_PROC_PRIMARY)
		highway_bar_each_port(add_bar_port, bus);
}

/* ------------------------------------------------------------------------------ registration --- */

#define FILE_NAME "librte_net_highway.so"

/* Is this object another copy of this driver? */
static int
is_other_copy(struct dl_phdr_info *object, size_t size __rte_unused, void *own_base)
{
	const char *name = strrchr(object->dlpi_name, '/');

	return name != NULL && strcmp(name + 1, FILE_NAME) == 0 &&
	       (void *)object->dlpi_addr != own_base;
}

static bool
loaded_twice(void)
{
	Dl_info own;

	return dladdr(highway_dpdk_version, &own) != 0 &&
	       dl_iterate_phdr(is_other_copy, own.dli_fbase) != 0;
}

/*
 * Registering by hand and not by RTE_PMD_REGISTER_VDEV: a driver of another DPDK version must stay
 * out of the way without ending the program, and so must a second copy of this file (one named
 * with -d, and then one in DPDK's plugin folder).
 */
RTE_INIT(highway_register)
{
	highway_logtype = rte_log_register_type_and_pick_level("pmd.net.highway", RTE_LOG_INFO);
	if (loaded_twice())
		return;
	if (strstr(rte_version(), highway_dpdk_version) == NULL) {
		HW_LOG(ERR, "built for DPDK %s, but this is %s: the driver stays out; install the "
		       "one for this version", highway_dpdk_version, rte_version());
		return;
	}
	highway_driver.driver.name = "net_highway";
	rte_vdev_register(&highway_driver);
	rte_vdev_add_custom_scan(find_bar_ports, NULL);
}

RTE_PMD_REGISTER_PARAM_STRING(net_highway,
	"role=switch|vnf port=<name> socket=<path> idle=poll|yield|sleep drain-timeout=<1-9> "
	"bar-limit=<0-1000000> token-file=<path> external-buffers=0|1 unordered=0|1 "
	"stores=auto|cached|streamed "
	"queues=<1-16> ring-size=<64-32768> rules=<1-4096> memory=auto|shm");
