# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every code that a finding can have: its severity, what it means, what to do, and Ganeti's counterpart.

A code is for programs, so it never changes its meaning. `docs/playbooks/verify.md` shows this table (written by
`python -m tools.codes`); a test fails for a code that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .findings import ERROR, INFO, WARNING


@dataclass(frozen=True)
class Code:
    """What a code means; `mended` by `verify -e fix=true`; `ganeti` are the error types of Ganeti's cluster verify."""

    severity: str
    meaning: str
    remedy: str
    ganeti: tuple[str, ...] = ()
    mended: bool = False


EITHER = f"{ERROR}, {WARNING}"
SITE, BACK, LOOK = "run site", "bring the node back", "see the finding"
CORRECT = "correct the inventory"

REPLICATION = {
    "split-brain": Code(
        ERROR, "both copies of a disk were written while they were apart", "name the survivor", ("EINSTANCEFAULTYDISK",)
    ),
    "stand-alone": Code(
        ERROR,
        "the copies are disconnected, and it is not known whether both were written",
        LOOK,
        ("EINSTANCEFAULTYDISK",),
    ),
    "two-primaries": Code(ERROR, "a disk is Primary on two nodes outside a migration", SITE, mended=True),
    "two-primaries-allowed": Code(WARNING, "two primaries are still allowed after a migration", SITE, mended=True),
    "primary-unused": Code(WARNING, "a disk is Primary where its guest does not run", SITE, mended=True),
    "no-good-copy": Code(
        ERROR,
        "no copy of a disk is UpToDate",
        "bring back the node that has the last good copy",
        ("EINSTANCEFAULTYDISK",),
    ),
    "disk-lost": Code(
        ERROR,
        "a disk in use is lost, and the copy that is left may lack what was written last",
        "say that this copy goes on",
        ("EINSTANCEFAULTYDISK",),
    ),
    "redundancy-lost": Code(
        WARNING, "only one copy of a disk is UpToDate", "repair or replace the other one", ("EINSTANCEFAULTYDISK",)
    ),
    "resyncing": Code(INFO, "a copy of a disk is being brought up to date", "wait", ("EINSTANCEFAULTYDISK",)),
    "not-connected": Code(
        WARNING,
        "DRBD has no connection between the nodes of an instance",
        "check the replication network",
        ("ENODEDRBD",),
    ),
    "not-replicated": Code(ERROR, "one node alone has the disks of a drbd instance", "give it a second copy"),
    "disk-not-up-to-date": Code(EITHER, "a disk cannot be used, for its copy is not UpToDate", "wait for the resync"),
    "replication-differs": Code(
        WARNING, "the DRBD configuration or what runs differs from the definition", SITE, ("ENODEDRBD",), mended=True
    ),
    "copy-unfinished": Code(WARNING, "a new copy of a disk is not finished", SITE),
    "not-primary": Code(WARNING, "a disk that is used is not Primary yet", SITE),
}
DEFINITIONS = {
    "definition-missing": Code(
        WARNING, "a node of an instance lacks its definition", SITE, ("ECLUSTERFILECHECK",), mended=True
    ),
    "definition-outdated": Code(WARNING, "a node has an older generation of a definition", SITE, mended=True),
    "definition-conflict": Code(ERROR, "two nodes have different definitions of one generation", SITE, mended=True),
    "definition-damaged": Code(
        ERROR,
        "a definition lacks something or contradicts itself",
        "copy the one of the other node",
        ("EINSTANCEMISSINGCFGPARAMETER",),
    ),
    "definition-layout": Code(
        ERROR, "the number of nodes of an instance does not fit its disk template", LOOK, ("EINSTANCELAYOUT",)
    ),
    "definition-differs": Code(WARNING, "the inventory wants another definition than the nodes have", SITE),
    "foreign-definition": Code(ERROR, "the instance belongs to another cluster", LOOK, ("ECLUSTERCFG",)),
}
INSTANCES = {
    "runs-twice": Code(ERROR, "an instance runs on two nodes", "stop one of them by hand", ("EINSTANCEWRONGNODE",)),
    "domain-elsewhere": Code(
        ERROR, "the domain is on a node that has not its disks", "undefine it there", ("EINSTANCEWRONGNODE",)
    ),
    "should-run": Code(ERROR, "an instance that should run does not", SITE, ("EINSTANCEDOWN",)),
    "should-be-stopped": Code(WARNING, "an instance that should be stopped runs", SITE, ("EINSTANCEDOWN",)),
    "guest-state": Code(
        EITHER, "a guest is paused, crashed or the like (and should run: error)", LOOK, ("EINSTANCEDOWN",)
    ),
    "migrating": Code(INFO, "a migration is going on", "wait"),
    "not-created": Code(INFO, "the instance is not there yet", SITE),
    "not-removed": Code(INFO, "the instance is to be removed and is still there", SITE),
    "not-converged": Code(WARNING, "something differs from the inventory", SITE),
    "domain-differs": Code(WARNING, "the domain differs from the definition", SITE),
    "extra-device": Code(WARNING, "the domain has a device that nobody asked for", "take it out, or ask for it"),
    "restart-pending": Code(INFO, "a change waits for a restart of the guest", "restart it when it suits"),
    "seed-differs": Code(WARNING, "cloud-init's data differ or are missing", SITE, mended=True),
    "tags-missing": Code(WARNING, "volumes lack their tags", SITE, mended=True),
    "left-off": Code(WARNING, "a node did not start a guest by itself after a boot", LOOK, ("EINSTANCEDOWN",)),
    "disk-too-small": Code(WARNING, "a disk is still to grow", SITE),
    "disks-unfinished": Code(WARNING, "the making of disks was not finished", SITE),
    "volume-missing": Code(ERROR, "a disk's volume has vanished", "rebuild the copy", ("EINSTANCEMISSINGDISK",)),
    "volume-size": Code(WARNING, "a volume has another size than the definition says", LOOK, ("EINSTANCEMISSINGDISK",)),
    "disk-size-differs": Code(WARNING, "the inventory wants another size of a disk", LOOK),
    "disk-template-differs": Code(WARNING, "the inventory wants another disk template", LOOK),
    "disks-differ": Code(WARNING, "the inventory wants another number of disks", LOOK),
    "placement-differs": Code(INFO, "the instance is not on the nodes of its pin", "migrate it", ("EINSTANCEPOLICY",)),
    "rule-broken": Code(
        WARNING,
        "an instance is where affinity, tags, groups or failure domains do not want it",
        "migrate it",
        ("EINSTANCEPOLICY", "EEXTAGS"),
    ),
    "former-copy-unknown": Code(
        ERROR,
        "a second copy is being replaced, and the former one may have the last state",
        "let the nodes that are named tell",
    ),
    "groups-split": Code(
        WARNING, "the nodes of an instance are of different node groups", LOOK, ("EINSTANCESPLITGROUPS",)
    ),
    "os-differs": Code(INFO, "the instance was made from another OS template", "nothing, or make it anew"),
    "os-owed": Code(ERROR, "a disk waits for an OS template that is not described", "set twofold_os", ("ENODEOS",)),
    "bridge-missing": Code(
        EITHER, "a node of an instance lacks a bridge of its networks", "run bootstrap", ("EINSTANCEUNSUITABLENODE",)
    ),
    "no-memory": Code(ERROR, "there is no memory to start a guest", "free some", ("ENODEN1",)),
    "no-node-fits": Code(ERROR, "no node has room for a new instance", "add room", ("EINSTANCEPOLICY",)),
    "no-free-port": Code(ERROR, "all of DRBD's ports are taken", "make twofold_drbd_ports wider", ("ECLUSTERCFG",)),
    "no-free-minor": Code(ERROR, "all of DRBD's minors are taken", "make twofold_drbd_minors wider", ("ECLUSTERCFG",)),
    "minor-taken": Code(
        ERROR, "a DRBD minor of an instance is another's on a node that lost its definition", LOOK, ("ECLUSTERCFG",)
    ),
    "no-free-address": Code(ERROR, "all addresses of a network are taken", "make the network wider", ("ECLUSTERCFG",)),
}
LEFTOVERS = {
    "not-in-inventory": Code(
        WARNING, "an instance is on nodes, but not in the inventory", "put it back", ("ECLUSTERDANGLINGINST",)
    ),
    "orphan": Code(ERROR, "something of a new instance's name exists without a definition", LOOK, ("ENODEORPHANLV",)),
    "orphan-volume": Code(
        WARNING, "a volume of ours belongs to no definition", "look at it, then lvremove", ("ENODEORPHANLV",)
    ),
    "orphan-resource": Code(
        WARNING, "a DRBD resource belongs to no definition", "look at it, then drbdadm down", ("ENODEDRBD",)
    ),
    "orphan-domain": Code(
        WARNING, "a domain of ours belongs to no definition", "look at it, then undefine it", ("ENODEORPHANINSTANCE",)
    ),
    "orphan-seed": Code(WARNING, "cloud-init's data belong to no definition", "run verify -e fix=true", mended=True),
    "foreign-domain": Code(ERROR, "a domain of the instance's name is not ours", LOOK, ("ENODEORPHANINSTANCE",)),
    "unmanaged-domain": Code(INFO, "a domain is not Twofold's; its memory counts", "nothing", ("ENODEORPHANINSTANCE",)),
    "domain-left-over": Code(
        WARNING, "a stale domain is defined on another node", SITE, ("EINSTANCEWRONGNODE",), mended=True
    ),
    "made-twice": Code(
        EITHER,
        "a node that was away, or a disk, is back with an instance that was made anew meanwhile",
        "keep one of them, remove the other by hand",
        ("EINSTANCEWRONGNODE",),
    ),
    "left-over": Code(WARNING, "a node holds something of an instance that lives elsewhere", SITE, ("ENODEORPHANLV",)),
    "interrupted-step": Code(WARNING, "a step was interrupted", SITE, mended=True),
    "step-running": Code(INFO, "a step is at work", "wait"),
    "lock-held": Code(INFO, "a run holds a node's lock", "wait"),
    "lock-expired": Code(INFO, "a lock was left behind and has run out", "run verify -e fix=true", mended=True),
}
CERTIFICATES = {
    "certificate-expires": Code(
        EITHER,
        "a certificate ends within 30 days (warning), within 7 days or has ended (error)",
        "run bootstrap",
        ("ECLUSTERCERT", "ECLUSTERCLIENTCERT"),
    ),
    "certificate-missing": Code(ERROR, "a node lacks a certificate", "run bootstrap", ("ECLUSTERCLIENTCERT",)),
    "certificate-broken": Code(ERROR, "a file is not a certificate", "run bootstrap", ("ECLUSTERCERT",)),
    "certificate-not-yet-valid": Code(ERROR, "a certificate is not valid yet", "set the clocks", ("ECLUSTERCERT",)),
    "certificate-foreign": Code(
        ERROR, "a certificate was not signed by the authority beside it", "run bootstrap", ("ECLUSTERCLIENTCERT",)
    ),
    "authority-differs": Code(ERROR, "nodes trust different authorities", "run bootstrap", ("ECLUSTERCERT",)),
    "node-authority": Code(
        EITHER, "the authority on the control host is not there, ends soon or cannot be used", LOOK, ("ECLUSTERCERT",)
    ),
}
NODES = {
    "node-unknown": Code(
        EITHER, "a node did not answer, or an instance needs it", BACK, ("ENODERPC", "ENODESSH", "EINSTANCEBADNODE")
    ),
    "nobody-answers": Code(
        ERROR, "no node answers at all, so nothing is planned", "look at your own network and ssh first"
    ),
    "node-offline": Code(
        f"{WARNING}, {INFO}", "a node is declared offline (and answers: warning)", "correct twofold_node_state"
    ),
    "node-incomplete": Code(ERROR, "a node could not tell a part of what it holds", LOOK, ("ENODERPC", "ENODEHV")),
    "node-address": Code(
        EITHER,
        "a node does not have its replication address (or has another node's: it is treated as unknown)",
        CORRECT,
        ("ENODENET", "ENODESETUP"),
    ),
    "node-rebooting": Code(
        EITHER,
        "a node is about to be rebooted, or whoever was at that was interrupted; it takes no guest until then",
        "wait, or undrain it",
    ),
    "reboot-unfinished": Code(WARNING, "a node was rebooted, and its guests were not brought home", "undrain it"),
    "node-problem": Code(WARNING, "a node could not read something", LOOK, ("ENODEHV", "ENODESETUP")),
    "node-not-in-inventory": Code(
        ERROR,
        "an instance lives on a node that is not in the inventory",
        "put the node back",
        ("ECLUSTERDANGLINGNODES",),
    ),
    "node-differs": Code(
        WARNING,
        "a node's configuration is not what bootstrap makes",
        "run bootstrap",
        ("ENODEFILECHECK", "ENODESETUP", "ENODEUSERSCRIPTS", "ENODEDRBDHELPER", "ECLUSTERFILECHECK"),
    ),
    "clock-differs": Code(ERROR, "a node's clock is more than 150 s from the others'", "set it by NTP", ("ENODETIME",)),
    "versions-differ": Code(
        WARNING,
        "nodes have different versions of DRBD, libvirt or QEMU",
        "upgrade the others",
        ("ENODEDRBDVERSION", "ENODEVERSION"),
    ),
    "migration-to-older": Code(
        WARNING, "guests cannot move live to their secondary, for its QEMU is older", "upgrade it", ("ENODEVERSION",)
    ),
    "reboot-needed": Code(
        WARNING, "an installed kernel waits for a reboot", "reboot the node when it is empty", ("ENODEVERSION",)
    ),
    "kvm-missing": Code(
        ERROR, "a node has no KVM, and guests on it need it", LOOK, ("ENODEHV", "EINSTANCEUNSUITABLENODE")
    ),
    "volume-group-missing": Code(
        ERROR,
        "a node lacks its volume group",
        "run bootstrap",
        ("ENODELVM", "ENODEFILESTORAGEPATHS", "ENODEFILESTORAGEPATHUNUSABLE"),
    ),
    "volume-group-incomplete": Code(ERROR, "a disk of a volume group is missing", "repair it", ("ENODELVM",)),
    "extent-differs": Code(
        WARNING,
        "volume groups of one name have different extent sizes",
        "make one of them anew",
        ("EGROUPDIFFERENTPVSIZE",),
    ),
    "fence-none": Code(INFO, "a node has no fence device, and others have", "give it one", ("ENODEOOBPATH",)),
    "fence-silent": Code(EITHER, "a fence device does not answer", "correct it", ("ENODEOOBPATH",)),
    "fence-wrong": Code(ERROR, "a fence device says off of a node that answers", "correct it", ("ENODEOOBPATH",)),
    "node-network": Code(
        EITHER, "nodes do not reach each other on a network", "check cables, VLANs and MTU", ("ENODENET",)
    ),
    "node-clock": Code(
        WARNING, "clocks differ by more than twofold_clock_tolerance", "set them by NTP", ("ENODETIME",)
    ),
    "node-kvm": Code(ERROR, "KVM does not work on a node", LOOK, ("ENODEHV",)),
    "node-kernel": Code(ERROR, "the running kernel lacks its modules", "reboot the node", ("ENODESETUP",)),
    "node-release": Code(ERROR, "a node's distribution is not supported", LOOK, ("ENODEVERSION",)),
    "node-version": Code(ERROR, "a package is too old", "upgrade it", ("ENODEVERSION",)),
    "node-name": Code(ERROR, "a name leads to a wrong address, or the host name is wrong", LOOK, ("ENODESETUP",)),
    "node-port": Code(ERROR, "another program listens on a port of the cluster", LOOK, ("ENODESETUP",)),
    "node-disk": Code(ERROR, "the volume group cannot be made or lacks a disk", LOOK, ("ENODELVM",)),
    "node-lvm": Code(ERROR, "LVM has a filter of its own", LOOK, ("ENODELVM",)),
    "node-bridge": Code(ERROR, "a bridge cannot be made", LOOK, ("ENODENET",)),
    "node-duplicate": Code(ERROR, "two nodes have the same machine-id, name or address", LOOK, ("ENODESETUP",)),
    "node-setting": Code(ERROR, "a variable of a node is wrong", CORRECT, ("ECLUSTERCFG",)),
    "node-call": Code(ERROR, "a node could not be inspected", LOOK, ("ENODERPC",)),
}
CAPACITY = {
    "loss-not-absorbed": Code(
        WARNING,
        "after the loss of a node, or of a failure domain, redundant instances would not run again",
        "balance, or add memory",
        ("ENODEN1",),
    ),
    "memory-overcommitted": Code(
        WARNING, "more memory is promised than a node has", "move or stop guests", ("ENODEN1",)
    ),
    "volume-group-full": Code(WARNING, "less than a tenth of a volume group is free", "add a disk, or move instances"),
}
INVENTORY = {
    "unknown-variable": Code(ERROR, "a variable does not exist", CORRECT, ("ECLUSTERCFG",)),
    "unknown-key": Code(ERROR, "a key of a variable does not exist", CORRECT, ("ECLUSTERCFG",)),
    "missing-value": Code(ERROR, "a value is missing", CORRECT, ("ECLUSTERCFG",)),
    "bad-value": Code(ERROR, "a value cannot be used", CORRECT, ("ECLUSTERCFG",)),
    "bad-name": Code(ERROR, "a name cannot be used", CORRECT, ("ECLUSTERCFG",)),
    "undefined": Code(ERROR, "a variable refers to something undefined", CORRECT, ("ECLUSTERCFG",)),
    "vault-closed": Code(
        ERROR, "a variable is in a vault that is not opened", "give the vault's password", ("ECLUSTERCFG",)
    ),
    "cluster-variable-differs": Code(
        ERROR, "a variable of the cluster differs between hosts", CORRECT, ("ECLUSTERCFG",)
    ),
    "cluster-secret": Code(ERROR, "the cluster's secret is missing or short", CORRECT, ("ECLUSTERCFG",)),
    "network": Code(ERROR, "a network is described wrongly", CORRECT, ("ECLUSTERCFG",)),
    "flavour": Code(ERROR, "a flavour is described wrongly", CORRECT, ("ECLUSTERCFG",)),
    "os-template": Code(ERROR, "an OS template is described wrongly", CORRECT, ("ENODEOS",)),
    "unknown-os": Code(ERROR, "there is no such OS template", CORRECT, ("ENODEOS",)),
    "unknown-network": Code(ERROR, "there is no such network", CORRECT, ("ECLUSTERCFG",)),
    "unknown-group": Code(ERROR, "there is no such group of nodes or instances", CORRECT, ("ECLUSTERCFG",)),
    "unknown-tag": Code(ERROR, "no node has the tag", CORRECT, ("ECLUSTERCFG",)),
    "contradiction": Code(ERROR, "two variables of an instance contradict each other", CORRECT, ("ECLUSTERCFG",)),
    "unknown-node": Code(ERROR, "there is no such node", CORRECT, ("EINSTANCEBADNODE",)),
    "duplicate-address": Code(ERROR, "two have, or shall have, the same address", CORRECT, ("ECLUSTERCFG",)),
    "duplicate-mac": Code(ERROR, "a MAC address is given twice", CORRECT, ("ECLUSTERCFG",)),
    "address-outside": Code(ERROR, "an address is not in its network", CORRECT, ("ECLUSTERCFG",)),
    "no-disks": Code(ERROR, "the disk template needs disks, and there are none", CORRECT, ("EINSTANCELAYOUT",)),
    "diskless-with-disks": Code(ERROR, "a diskless instance has disks", CORRECT, ("EINSTANCELAYOUT",)),
    "diskless-with-os": Code(ERROR, "a diskless instance has an OS template", CORRECT, ("EINSTANCELAYOUT",)),
    "same-node": Code(ERROR, "primary and secondary are one node", CORRECT, ("EINSTANCELAYOUT",)),
    "too-many-nodes": Code(ERROR, "more nodes are named than the template uses", CORRECT, ("EINSTANCELAYOUT",)),
    "too-few-nodes": Code(ERROR, "the template needs more nodes than there are", CORRECT, ("EINSTANCELAYOUT",)),
}
INTENTS = {
    "data-kept": Code(
        f"{ERROR}, {INFO}", "data that was given up is kept, and in the way of this", "save it, then drop_kept"
    ),
    "cut-off": Code(
        ERROR, "a node does not answer, but lives: DRBD is connected to it", "restore the management network to it"
    ),
    "disks": Code(INFO, "where the disks of an instance can be used", LOOK),
    "foreign-guest": Code(ERROR, "a node that is to be rebooted runs a guest that is no instance", LOOK),
    "home-without-disk": Code(WARNING, "an instance cannot come home, for its copy has left the node", LOOK),
    "grows-later": Code(
        INFO, "a creation or replacement that was interrupted is ended first; its disks grow after it", SITE
    ),
    "inventory-behind": Code(INFO, "a disk grew beyond what the inventory says", CORRECT),
    "metadata-too-small": Code(ERROR, "DRBD's metadata cannot describe a disk of this size", LOOK),
    "no-copy": Code(EITHER, "no node that answers has a copy of the instance", BACK),
    "no-order": Code(ERROR, "the nodes cannot be rebooted one after another under their guests", LOOK),
    "no-room": Code(ERROR, "a volume group has no room", LOOK),
    "no-second-copy": Code(ERROR, "the disks are on one node alone", LOOK),
    "no-split-brain": Code(INFO, "the copies are not in split brain", "nothing"),
    "node-empty": Code(INFO, "a node holds nothing of any instance and can be taken out", CORRECT),
    "node-not-empty": Code(ERROR, "a node that is to be taken out still holds something of an instance", LOOK),
    "no-survivor": Code(ERROR, "whose data survives a split brain was not said", LOOK),
    "node-alive": Code(ERROR, "a node that is called dead answers, or DRBD is connected to it", LOOK),
    "not-cleared": Code(ERROR, "a node that is to be rebooted has a guest, or is not cleared any more", LOOK),
    "not-confirmed": Code(ERROR, "what was asked for needs an explicit word", LOOK),
    "not-drained": Code(WARNING, "a node that is drained may still get instances", LOOK),
    "not-larger": Code(ERROR, "a disk is as large already", LOOK),
    "moved-in-need": Code(WARNING, "an instance goes where a limit forbids it, for it has to leave its node", LOOK),
    "not-moved": Code(ERROR, "an instance stays where it is", LOOK),
    "stale-copies": Code(INFO, "several surviving copies may lack what was written last", LOOK),
    "not-proven-dead": Code(ERROR, "nothing proves that a node is dead", LOOK),
    "not-settled": Code(ERROR, "an earlier migration left something behind", SITE),
    "nothing-kept": Code(INFO, "no data are kept", "nothing"),
    "nothing-lost": Code(INFO, "no disk is lost", "nothing"),
    "nothing-to-install": Code(ERROR, "there is no OS to install", "set twofold_os"),
    "partly-lost": Code(ERROR, "both nodes lost disks, and of some there is a copy", LOOK),
    "protocol": Code(ERROR, "DRBD's protocol does not allow a live migration", LOOK),
    "replacement-unfinished": Code(ERROR, "another replacement of the copy is not finished", SITE),
    "running": Code(ERROR, "the guest runs, and should not for this", "stop it"),
    "seed-missing": Code(EITHER, "the seed is missing, and cannot be made as it was", LOOK),
    "still-drained": Code(
        f"{ERROR}, {INFO}", "the inventory still says that a node is drained (and it was only rebooted: info)", CORRECT
    ),
    "target-does-not-fit": Code(ERROR, "a node cannot take the instance", LOOK),
    "target-without-disk": Code(ERROR, "a node does not have the instance's disks", LOOK),
    "unknown-disk": Code(ERROR, "there is no such disk", CORRECT),
    "wrong-arguments": Code(ERROR, "an argument is wrong", LOOK),
    "unknown-intent": Code(ERROR, "there is no such intent", LOOK),
    "unknown-instance": Code(ERROR, "there is no such instance", "correct the name"),
    "already-there": Code(INFO, "the instance is where it shall go", "nothing"),
    "not-balanced": Code(INFO, "an instance is left where it is by a balance", LOOK),
    "not-running": Code(ERROR, "only a running instance can be migrated", "start it"),
    "plan-damaged": Code(ERROR, "a saved plan was edited or damaged", "make a new plan"),
    "plan-outdated": Code(ERROR, "something has changed since a plan was saved", "make a new plan"),
    "plan-with-proof": Code(
        ERROR, "a saved plan was made on the proof that a node is dead", "plan and apply in one run"
    ),
    "rolling-unfinished": Code(ERROR, "an earlier rolling reboot is not at its end", LOOK),
}
SUBJECTS: dict[str, dict[str, Code]] = {
    "Replication": REPLICATION,
    "Definitions": DEFINITIONS,
    "Instances": INSTANCES,
    "Left over": LEFTOVERS,
    "Certificates": CERTIFICATES,
    "Nodes": NODES,
    "Capacity": CAPACITY,
    "Inventory": INVENTORY,
    "Other playbooks": INTENTS,
}
ALL: dict[str, Code] = {name: code for codes in SUBJECTS.values() for name, code in codes.items()}
# Ganeti's error types that mean something Twofold does not have, and what is there instead.
NO_COUNTERPART: dict[str, str] = {
    "ENODEHOOKS": "there are no hooks on nodes; plays of your own before and after ours take their place",
    "ENODESHAREDFILESTORAGEPATHUNUSABLE": "there are no disks on shared directories",
    "ENODEGLUSTERSTORAGEPATHUNUSABLE": "there are no disks on Gluster",
}
