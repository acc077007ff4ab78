# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node, given to its Python: what a request says is done through the product's own adapter for libvirt.

The request is the first argument: `calls` by domain, and the names to `look` at. The answer is JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

sys.path.insert(0, "/usr/local/lib/twofold")
node_library = importlib.import_module("twofold_node._node")
libvirt_adapter = importlib.import_module("twofold_node._libvirt")
migration = importlib.import_module("twofold_node._migration")
errors = importlib.import_module("twofold_node._errors")

hypervisor = node_library.this_node().hypervisor
Request = dict[str, Any]
# What another node says of a guest of which there is no half; it may be defined there.
NO_HALF = (None, *libvirt_adapter.OFF)


def kill(name: str) -> None:
    """kill -9 of its QEMU, if there is one."""
    with suppress(OSError, ValueError):
        with open(f"/run/libvirt/qemu/{name}.pid", encoding="ascii") as file:
            pid = int(file.read())
        os.kill(pid, signal.SIGKILL)


def lose(uri: str, name: str) -> None:
    """The other half of a migration goes; libvirt may say of a domain that is going already that there is none."""
    libvirt = importlib.import_module("libvirt")
    try:
        libvirt_adapter.connect(uri).lookupByName(name).destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def migrate(name: str, wanted: Request, meanwhile: str | None) -> str | None:
    """The error, or None. Something may happen to it as soon as its other half is there, or it is left at its end."""
    done: list[str] = []

    def say(_stats: Request) -> str | None:
        if meanwhile in (None, "left") or (not done and hypervisor.elsewhere(wanted["uri"], name) in NO_HALF):
            return None
        if meanwhile == "dies" and not done:
            kill(name)
        elif meanwhile == "lost" and not done:
            lose(wanted["uri"], name)
        done.append(meanwhile)
        return "called off" if meanwhile == "aborted" else None

    outcome = hypervisor.migrate(migration.Migration(**wanted), say)
    if outcome.error is None and meanwhile is None:
        hypervisor.go_on_at(wanted["uri"], name)
    if meanwhile not in (None, "left") and not done and outcome.error is None:
        raise SystemExit(f"the migration of {name} ended before anything could happen to it: {outcome}")
    error: str | None = outcome.error
    return error


def call(name: str, method: str, args: list[Any]) -> str | None:
    """Do it; None, or why not."""
    try:
        if method == "migrate":
            return migrate(name, *args)
        if method == "kill":
            kill(name)
        elif method == "define":
            hypervisor.define(*args)
        else:
            getattr(hypervisor, method)(name, *args)
    except errors.TwofoldError as error:
        return str(error)
    return None


def look(name: str) -> Request | None:
    """A domain, and why it is off."""
    found = hypervisor.domain(name)
    if found is None:
        return None
    why = hypervisor.why_off(name) if not found.active else None
    return {**found._asdict(), "why": why}


def answer(request: Request) -> Request:
    """Everything that was asked for, in this order."""
    said = {name: call(name, *one) for name, one in request.get("calls", {}).items()}
    # libvirt renames files and does not wait until that is on the disk: a cut of power could take it back.
    os.sync()
    return {"said": said, "states": {name: look(name) for name in request.get("look", ())}}


sys.stdout.write(json.dumps(answer(json.loads(sys.argv[1]))))
