# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node as steps see it: narrow interfaces, behind which is the machine, a simulation or a recording."""

from __future__ import annotations

import os

from ._clock import Clock, SystemClock
from ._devices import Devices, SystemDevices
from ._drbd import PREFIX, Drbd, Replication
from ._files import Files, SystemFiles
from ._host import Host, SystemHost
from ._images import Images, SystemImages
from ._installer import Installer, SystemInstaller
from ._journal import FileJournal, Journal
from ._libvirt import URI, Hypervisor, Libvirt
from ._lock import FileLock, Lock
from ._lvm import Lvm, Volumes
from ._progress import FileProgress, Progress
from ._runner import SystemRunner
from ._seed import Seeds, SystemSeeds


class Node:
    """Everything a step may use. A plain class: it is made at every call and has to start fast."""

    def __init__(
        self,
        *,
        volumes: Volumes,
        devices: Devices,
        replication: Replication,
        hypervisor: Hypervisor,
        files: Files,
        images: Images,
        seeds: Seeds,
        installer: Installer,
        journal: Journal,
        lock: Lock,
        progress: Progress,
        host: Host,
        clock: Clock,
        check_mode: bool = False,
    ) -> None:
        self.volumes = volumes
        self.devices = devices
        self.replication = replication
        self.hypervisor = hypervisor
        self.files = files
        self.images = images
        self.seeds = seeds
        self.installer = installer
        self.journal = journal
        self.lock = lock
        self.progress = progress
        self.host = host
        self.clock = clock
        self.check_mode = check_mode


def this_node(check_mode: bool = False, uri: str = URI, resource_prefix: str = PREFIX) -> Node:
    """The machine that this runs on."""
    # Folders of ours have to let qemu's user pass, whatever the operator's umask is.
    os.umask(0o022)
    runner = SystemRunner(check_mode)
    files, clock = SystemFiles(), SystemClock()
    return Node(
        volumes=Lvm(runner),
        devices=SystemDevices(runner),
        replication=Drbd(runner, files, prefix=resource_prefix),
        hypervisor=Libvirt(clock, uri),
        files=files,
        images=SystemImages(runner),
        seeds=SystemSeeds(runner),
        installer=SystemInstaller(runner),
        journal=FileJournal(files),
        lock=FileLock(files, clock),
        progress=FileProgress(files, clock),
        host=SystemHost(runner, files),
        clock=clock,
        check_mode=check_mode,
    )
