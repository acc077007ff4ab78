# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's image is made of. The image's cache key is a hash of all of this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabError
from .kernel import NODE_INIT, NODE_MODULES
from .paths import digest, file_digest

# Raise it when code that shapes the image changes in a way that the fields below do not show.
VERSION = 1
RELEASES = ("trixie", "bookworm")
ROOT_SIZE_GIB = 6
ROOTFS = Path(__file__).with_name("rootfs")

BARE_PACKAGES = (
    "linux-image-amd64", "systemd", "systemd-sysv", "udev", "kmod", "openssh-server", "python3",
)  # fmt: skip
NORMAL_PACKAGES = (
    *BARE_PACKAGES,
    "apparmor", "ca-certificates", "dbus", "dosfstools", "drbd-utils", "e2fsprogs", "fdisk", "gdisk", "iproute2",
    "iputils-ping", "libvirt-clients", "libvirt-daemon-system", "lvm2", "mmdebstrap", "nftables", "openssl", "procps",
    "python3-apt", "python3-libvirt", "qemu-system-x86", "qemu-utils", "thin-provisioning-tools", "util-linux",
    "xorriso",
)  # fmt: skip
PATH_EXCLUDES = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
# Drivers for hardware that an emulated node never has.
PRUNED_MODULES = (
    "sound", "net/bluetooth", "net/mac80211", "net/wireless", "net/nfc", "net/can",
    *(
        f"drivers/{name}"
        for name in (
            "accel", "ata", "bluetooth", "comedi", "edac", "firewire", "gpu", "hid", "hwmon", "i2c", "iio",
            "infiniband", "input", "isdn", "leds", "media", "memstick", "message", "mfd", "misc", "mmc", "mtd",
            "net/can", "net/ethernet", "net/usb", "net/wireless", "net/wwan", "nfc", "pcmcia", "platform", "power",
            "soundwire", "staging", "thunderbolt", "usb", "video",
        )
    ),
)  # fmt: skip
# What costs boot time and serves nobody in a lab. libvirtd stays socket-activated.
MASKED_UNITS = (
    "apt-daily-upgrade.timer", "apt-daily.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "fstrim.timer", "logrotate.timer", "man-db.timer", "systemd-tmpfiles-clean.timer",
    "getty.target", "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-logind.service",
    "user@.service", "user-runtime-dir@.service", "systemd-user-sessions.service",
    "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
    "kmod-static-nodes.service", "modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@drm.service",
    "modprobe@efi_pstore.service", "modprobe@fuse.service", "modprobe@loop.service",
    "dev-mqueue.mount", "run-lock.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
    "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "tmp.mount",
    "ldconfig.service", "machines.target", "sshd-keygen.service", "systemd-binfmt.service",
    "systemd-boot-random-seed.service", "systemd-firstboot.service", "systemd-hibernate-clear.service",
    "systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "systemd-journal-flush.service",
    "systemd-machine-id-commit.service", "systemd-networkd-wait-online.service", "systemd-pstore.service",
    "systemd-random-seed.service", "systemd-rfkill.socket", "systemd-sysusers.service", "systemd-timesyncd.service",
    "systemd-tmpfiles-setup-dev-early.service", "systemd-udev-load-credentials.service", "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service", "systemd-update-utmp.service",
)  # fmt: skip
# Each generator is one more program to start; the lab needs the one that reads /etc/fstab.
KEPT_GENERATORS = ("systemd-fstab-generator",)
DISABLED_UNITS = ("libvirtd.service", "libvirt-guests.service", "virtlogd.service")
ENABLED_UNITS = ("twofold-lab.service", "twofold-lab-ready.service", "twofold-lab-console.service", "ssh.service")
HOST_KEY_NUMBERS = (*range(11, 20), 99)


@dataclass(frozen=True)
class Recipe:
    """One kind of node image."""

    release: str
    bare: bool
    public_key: str

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise LabError(f"release {self.release!r}: the lab knows {', '.join(RELEASES)}")

    @property
    def packages(self) -> tuple[str, ...]:
        return BARE_PACKAGES if self.bare else NORMAL_PACKAGES

    @property
    def label(self) -> str:
        return f"{self.release}-bare" if self.bare else self.release

    def document(self) -> dict[str, Any]:
        """Everything that decides what the image contains."""
        return {
            "version": VERSION,
            "release": self.release,
            "bare": self.bare,
            "public_key": self.public_key,
            "packages": self.packages,
            "size": ROOT_SIZE_GIB,
            "excludes": PATH_EXCLUDES,
            "pruned": PRUNED_MODULES,
            "units": [MASKED_UNITS, DISABLED_UNITS, ENABLED_UNITS, KEPT_GENERATORS],
            "initramfs": [NODE_INIT, NODE_MODULES],
            "files": tree_digest(ROOTFS),
        }

    @property
    def key(self) -> str:
        return f"{self.label}-{digest(self.document())}"


def tree_digest(root: Path) -> dict[str, str]:
    """Hash of every file below root, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): file_digest(path) for path in files}
