# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node, given to its Python: what a request says is done through the product's own adapter for DRBD.

The request is the first argument: `make` resources, `calls` of the adapter or writes (`when_cut`: as soon as the link
is, which is waited for while there is that file), `look` at the states, `end` some resources. The answer is JSON.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

sys.path.insert(0, "/usr/local/lib/twofold")
node_library = importlib.import_module("twofold_node._node")
drbd = importlib.import_module("twofold_node._drbd")
errors = importlib.import_module("twofold_node._errors")

# The kernel asks drbdadm before it begins a resync, so that has to know the resource.
PREFIX = "honesty-"
BLOCK = 4096
GROUP = "twofold"

node = node_library.this_node()
replication = drbd.Drbd(node.replication.runner, node.files, prefix=PREFIX)
Request = dict[str, Any]


def make(one: Request) -> None:
    """A resource on volumes of zeros, brought up."""
    for volume in (one["data"], one["meta"]):
        node.volumes.create(GROUP, volume, one["size"], ["honesty"])
        node.devices.wait(f"/dev/{GROUP}/{volume}")
        node.devices.zero(f"/dev/{GROUP}/{volume}", lambda _done, _all: None)
    replication.write(one["name"], drbd.Configuration(one["text"], one["secret"]))
    replication.create_metadata(one["name"], 0)
    replication.adjust(one["name"], dry=False)


def block() -> mmap.mmap:
    """Memory that direct reads and writes can use."""
    return mmap.mmap(-1, BLOCK)


def write(device: str, record: int) -> None:
    """One record to its block."""
    memory = block()
    memory.write(str(record).encode().ljust(BLOCK, b"."))
    handle = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        os.pwritev(handle, [memory], record * BLOCK)
        os.fsync(handle)
    finally:
        os.close(handle)


def fail(minor: int) -> None:
    """What the kernel does with a disk that answers with an error: nobody is asked."""
    subprocess.run(["drbdsetup", "detach", str(minor), "--force"], check=True)


OWN: dict[str, Callable[..., None]] = {"write": write, "fail": fail}


def records(path: str, last: int) -> list[int]:
    """The records that are on a disk."""
    found, memory = [], block()
    handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        for record in range(1, last + 1):
            os.preadv(handle, [memory], record * BLOCK)
            if memory[:BLOCK] == str(record).encode().ljust(BLOCK, b"."):
                found.append(record)
    finally:
        os.close(handle)
    return found


def wait_until_cut(ready: str) -> None:
    """Everything is loaded by now, so that DRBD has not missed its peer yet when this is over."""
    with open(ready, "w", encoding="ascii"):
        pass
    while carrier():
        time.sleep(0.01)
    os.unlink(ready)


def carrier() -> bool:
    """Whether the cable of the replication link is plugged in."""
    with open("/sys/class/net/eth1/carrier", encoding="ascii") as file:
        return file.read().strip() == "1"


def call(name: str, calls: list[list[Any]]) -> str | None:
    """Do it; None, or why not."""
    try:
        for method, args in calls:
            state = replication.state(name) if method == "disconnect" else None
            if method in OWN:
                OWN[method](*args)
            elif state is None or state.connection != "StandAlone":
                getattr(replication, method)(name, *args)
    except (errors.TwofoldError, OSError) as error:
        return str(error)
    return None


def at_once(calls: Request) -> Request:
    """First what nobody is asked about; what waits for the peer does not hold up the others."""
    first = {name: one for name, one in calls.items() if one[0][0] == "fail"}
    said = {name: call(name, one) for name, one in first.items()}
    others = {name: one for name, one in calls.items() if name not in said}
    with ThreadPoolExecutor(len(others) or 1) as pool:
        return said | dict(zip(others, pool.map(call, others, others.values()), strict=True))


def end(one: Request, last: int) -> Request:
    """What is left of a resource on this node, which is taken down."""
    name = one["name"]
    if replication.state(name) is not None:
        replication.down(name)
    generations = replication.generations(name, 0)
    return {"records": records(f"/dev/{GROUP}/{one['data']}", last), "generations": generations}


def answer(request: Request) -> Request:
    """Everything that was asked for, in this order."""
    for one in request.get("make", ()):
        make(one)
    calls = request.get("calls", {})
    if "when_cut" in request:
        wait_until_cut(request["when_cut"])
        said = at_once(calls)
    else:
        said = {name: call(name, one) for name, one in calls.items()}
    states = {name: state._asdict() for name, state in replication.states().items()} if request.get("look") else {}
    for state in states.values():
        state["volumes"] = [volume._asdict() for volume in state["volumes"]]
    ends = {one["name"]: end(one, request["last"]) for one in request.get("end", ())}
    return {"said": said, "states": states, "ends": ends}


sys.stdout.write(json.dumps(answer(json.loads(sys.argv[1]))))
