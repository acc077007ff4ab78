# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether KVM really works on this host: found out by starting a kernel, once for each boot of the host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .image import Image
from .kernel import PROBE_MARKER
from .paths import boot_id, cache_dir, write_atomically

PROBE_SECONDS = 15


def choose(image: Image) -> str:
    """'kvm' if a stock kernel starts with it and nested virtualization is there, else 'tcg'."""
    forced = os.environ.get("TWOFOLD_LAB_ACCEL")
    if forced in ("kvm", "tcg"):
        return forced
    cache = cache_dir() / "accel.json"
    known = _load(cache)
    if known.get("boot") != boot_id():
        known = {"boot": boot_id(), "accel": "kvm" if _kvm_works(image) else "tcg"}
        write_atomically(cache, json.dumps(known))
    return known["accel"]


def _load(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _kvm_works(image: Image) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-serial", "stdio"]
    argv += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", "console=ttyS0 labprobe"]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return PROBE_MARKER.encode() in done.stdout
