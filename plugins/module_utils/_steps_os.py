# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on images, on what is written to a new disk, and on seeds."""

from __future__ import annotations

import os
from typing import Callable

from ._errors import OTHER_VERSION, Refused, UsageError
from ._images import known_format
from ._lvm import Volume
from ._names import digest, instance_name, volume_name
from ._node import Node
from ._steps import Args, Done, changed, step, unchanged
from ._steps_volumes import INSTALL, WIPE, ZEROED, pending_tag

SCRIPT_TIMEOUT = 3600.0


def _say(node: Node, name: str, what: str) -> Callable[[int, int], None]:
    def say(done: int, total: int) -> None:
        node.progress.say(name, what, done / total if total else None, bytes=done, total=total)

    return say


@step("image.fetch")
def fetch(node: Node, args: Args) -> Done:
    """The image is in the cache; what is in the cache was verified when it came in."""
    sha256, url = digest(args.text("sha256")), args.optional_text("url")
    known_format(args.text("format"))
    if sha256 in node.images.cached():
        return unchanged(f"image {sha256[:12]} is cached")
    if node.check_mode:
        return changed(f"would fetch image {sha256[:12]}")
    name = f"image-{sha256[:12]}"
    try:
        uploaded = args.optional_text("uploaded")
        if uploaded is not None:
            node.images.adopt(sha256, uploaded, _say(node, name, "checking the uploaded image"))
            return changed(f"took in the uploaded image {sha256[:12]}")
        if url is None:
            raise Refused(f"image {sha256[:12]} was not uploaded to this node", "upload it, or give it a URL")
        node.images.fetch(sha256, url, _say(node, name, f"fetching {url}"))
    finally:
        node.progress.clear(name)
    return changed(f"fetched image {sha256[:12]}")


@step("os.install")
def install(node: Node, args: Args) -> Done:
    """Writes an OS to a disk that waits for one; an instance with data is never installed over."""
    where = args.mapping("volume")
    group, name = volume_name(str(where.get("volume_group", ""))), volume_name(str(where.get("name", "")))
    volume = node.volumes.find(group, name)
    if volume is None:
        raise Refused(f"there is no volume {group}/{name}", "create the volumes first")
    if INSTALL not in volume.pending():
        return unchanged(f"{name} waits for no OS")
    if WIPE in volume.pending():
        raise Refused(f"{volume.path} has not been zeroed yet", "create the volumes first")
    kind = args.text("kind")
    if kind not in ("image", "script"):
        raise UsageError(f"an OS is installed from an image or a script, not from {kind!r}", OTHER_VERSION)
    instance = _instance_of(volume)
    _refuse_served(node, volume, instance)
    if node.check_mode:
        return changed(f"would install {name} from its {kind}")
    if kind == "image":
        _from_image(node, args, volume, instance)
    else:
        _from_script(node, args, volume, instance)
    node.progress.clear(instance)
    node.volumes.retag([volume], [], [pending_tag(INSTALL)])
    return changed(f"installed {name} from its {kind}")


def _instance_of(volume: Volume) -> str:
    start = "twofold.instance="
    for tag in volume.tags:
        if tag.startswith(start):
            return instance_name(tag[len(start) :])
    raise Refused(f"volume {volume.path} belongs to no instance", "look at its tags with 'lvs -o +tags'")


def _refuse_served(node: Node, volume: Volume, instance: str) -> None:
    """A guest that somebody started by hand meanwhile has the disk in use, and what is on it may be wanted again."""
    found = node.hypervisor.domain(instance)
    if found is not None and found.active:
        keep = f"'lvchange --deltag {pending_tag(INSTALL)} {volume.path}' keeps what it has"
        message = f"{instance} is {found.state} on this node, and its first disk {volume.path} waits for an OS"
        raise Refused(message, f"shut it down, then run this again and the OS is written; or {keep}")


def _from_image(node: Node, args: Args, volume: Volume, instance: str) -> None:
    sha256, image_format = digest(args.text("sha256")), known_format(args.text("format"))
    device = args.text("device")
    if sha256 not in node.images.cached():
        raise Refused(f"image {sha256[:12]} is not in the cache of this node", "fetch it first")
    path = node.images.path(sha256)
    size, room = node.images.virtual_size(path, image_format), node.devices.size(device)
    if size > room:
        message = f"{instance}: the image needs {size} bytes, {device} has {room}"
        raise Refused(message, "make the disk larger; the instance can be removed and created again")
    zeroed = ZEROED in volume.tags
    if zeroed:
        # From now on it is not zero any more; an interrupted writing is repeated with the holes.
        node.volumes.retag([volume], [], [ZEROED])
    node.progress.say(instance, f"writing the image to {volume.name}", None, bytes=0, total=size)
    node.images.write(path, image_format, device, zeroed)


def _from_script(node: Node, args: Args, volume: Volume, instance: str) -> None:
    environment = args.values.get("environment") or {}
    variables = {str(name): str(value) for name, value in environment.items()}
    if ZEROED in volume.tags:
        node.volumes.retag([volume], [], [ZEROED])
    node.progress.say(instance, "running the OS script", None)
    timeout = args.number("timeout", SCRIPT_TIMEOUT)
    node.installer.run(instance, args.text("device"), args.text("script"), variables, timeout)


@step("seed.write")
def write_seed(node: Node, args: Args) -> Done:
    name, wanted = instance_name(args.text("name")), digest(args.text("digest"))
    if node.seeds.digest(name) == wanted:
        return unchanged(f"seed of {name} is there")
    files = {os.path.basename(str(key)): str(text) for key, text in args.mapping("files").items()}
    if not node.check_mode:
        node.seeds.write(name, wanted, files)
    return changed(f"wrote the seed of {name}")


@step("seed.remove")
def remove_seed(node: Node, args: Args) -> Done:
    name = instance_name(args.text("name"))
    if node.seeds.digest(name) is None:
        return unchanged(f"{name} has no seed")
    if not node.check_mode:
        node.seeds.remove(name)
    return changed(f"removed the seed of {name}")
