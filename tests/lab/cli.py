# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: tests/lab/lab."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence

from . import guest, image, inventory, mirror
from .command import become, become_root
from .core import Lab
from .errors import LabError
from .machine import Shape
from .paths import default_name
from .recipe import RELEASES
from .topology import NETWORKS

Handler = Callable[[argparse.Namespace], int]


def build(options: argparse.Namespace) -> int:
    become_root()
    print(image.build(options.release, options.bare).directory)
    return 0


def guest_image(options: argparse.Namespace) -> int:
    become_root()
    print(guest.build())
    return 0


def up(options: argparse.Namespace) -> int:
    names = ("nodes", "release", "bare", "outsider", "memory", "cpus", "confined")
    Lab(options.name).up(**{name: getattr(options, name) for name in names})
    return 0


def down(options: argparse.Namespace) -> int:
    Lab(options.name).down()
    return 0


def status(options: argparse.Namespace) -> int:
    become_root()
    lab = Lab(options.name)
    found = lab.state()
    if not found:
        print(f"lab {lab.name}: down")
        return 1
    print(f"lab {lab.name}: {found.image_key}, {found.shape.accel}, ssh -F {lab.ssh_config}")
    for emulator in lab.emulators():
        process = emulator.process()
        machine = emulator.machine
        power = "off" if not process else "frozen" if process.frozen() else "on"
        cpu = f"{process.cpu_seconds():7.1f} CPU s  pid {process.pid}" if process else ""
        print(f"{machine.name:10} {power:7} {machine.management:14} {machine.replication:16} {cpu}")
    return 0


def ssh(options: argparse.Namespace) -> int:
    lab = Lab(options.name)
    argv = ["ssh", "-F", str(lab.ssh_config)]
    if not lab.ssh_config.exists():
        lab.require_state()
    argv += ["-t"] if not options.command and sys.stdin.isatty() else []
    words = options.command
    # One word is a line for the remote shell; several are an argv.
    argv += [options.node, "--", *(words if len(words) < 2 else [shlex.join(words)])]
    become(argv)


def power(options: argparse.Namespace) -> int:
    lab = Lab(options.name)
    {"off": lab.power_off, "on": lab.power_on, "cycle": lab.power_cycle}[options.action](options.node)
    return 0


def link(options: argparse.Namespace) -> int:
    Lab(options.name).link(options.node, options.network, options.action == "join")
    return 0


def freeze(options: argparse.Namespace) -> int:
    Lab(options.name).freeze(options.node)
    return 0


def thaw(options: argparse.Namespace) -> int:
    Lab(options.name).thaw(options.node)
    return 0


def print_inventory(options: argparse.Namespace) -> int:
    print(inventory.text(Lab(options.name)), end="")
    return 0


def packages(options: argparse.Namespace) -> int:
    become_root()
    lab = Lab(options.name)
    mirror.start(lab, lab.require_state().release)
    print(f"lab {lab.name}: packages at {image.MIRROR_URL}{lab.require_state().release}/")
    return 0


def drop(options: argparse.Namespace) -> int:
    Lab(options.name).drop(options.pattern)
    return 0


def save(options: argparse.Namespace) -> int:
    Lab(options.name).save(options.snapshot)
    return 0


def restore(options: argparse.Namespace) -> int:
    Lab(options.name).restore(options.snapshot)
    return 0


def console(options: argparse.Namespace) -> int:
    become_root()
    emulator = Lab(options.name).emulator(options.node)
    emulator.require_process()
    print(f"{emulator}: Enter shows the prompt, Ctrl-] leaves", file=sys.stderr)
    become(["socat", "STDIO,raw,echo=0,escape=0x1d", f"UNIX-CONNECT:{emulator.path('console')}"])


def proxy(options: argparse.Namespace) -> int:
    lab = Lab(options.name)
    argv = lab.namespace_argv(["nc", "--", options.host, options.port])
    become(argv)


def call(options: argparse.Namespace) -> int:
    """How Lab calls its own methods through sudo."""
    args, kwargs = json.loads(options.arguments)
    getattr(Lab(options.name), options.method)(*args, **kwargs)
    return 0


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    main_parser = argparse.ArgumentParser(prog="lab", description="Real emulated nodes for tests; see README.md.")
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=default_name(), help="which lab (default: $TWOFOLD_LAB or 'default')")
    imaged = argparse.ArgumentParser(add_help=False)
    imaged.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    imaged.add_argument("--bare", action="store_true", help="nodes with kernel, systemd, ssh and python3 alone")

    def add(name: str, handler: Handler, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, parents=list(parents))
        found.set_defaults(handler=handler)
        return found

    add("build", build, "build the image of the nodes", imaged)
    add("guest-image", guest_image, "build the guest images for tests")
    _add_up(add("up", up, "start the lab, or use it as it is", named, imaged))
    add("down", down, "stop the lab and remove all it has on this host", named)
    add("status", status, "what runs", named)
    found = add("ssh", ssh, "log in to a machine or guest, or run a command there", named)
    found.add_argument("node", help="node1, outsider, or the address of a guest")
    found.add_argument("command", nargs=argparse.REMAINDER)
    found = add("power", power, "cut or give power", named)
    found.add_argument("action", choices=("off", "on", "cycle"))
    found.add_argument("node")
    found = add("link", link, "cut or join one network of a node", named)
    found.add_argument("action", choices=("cut", "join"))
    found.add_argument("node")
    found.add_argument("network", choices=[item.name for item in NETWORKS])
    for name, handler, text in (("save", save, "save the whole lab"), ("restore", restore, "back to a saved lab")):
        add(name, handler, text, named).add_argument("snapshot")
    for name, handler, text in (
        ("console", console, "the serial port of a machine, with a root shell"),
        ("freeze", freeze, "stop a machine without its noticing"),
        ("thaw", thaw, "let a frozen machine run on"),
    ):
        add(name, handler, text, named).add_argument("node")
    add("inventory", print_inventory, "print an Ansible inventory of the nodes", named)
    add("mirror", packages, "serve the downloaded packages to the nodes, as 'up --bare' does", named)
    add("drop", drop, "remove saved labs", named).add_argument("pattern", help="name or shell pattern")
    found = add("proxy", proxy, "connect standard input and output inside the lab's network", named)
    found.add_argument("host")
    found.add_argument("port")
    found = commands.add_parser("call", parents=[named])
    found.add_argument("method")
    found.add_argument("arguments")
    found.set_defaults(handler=call)
    return main_parser


def _add_up(found: argparse.ArgumentParser) -> None:
    shape = Shape()
    found.add_argument("--nodes", type=int, default=3)
    found.add_argument("--outsider", action="store_true", help="one more machine that is no member of the cluster")
    found.add_argument("--memory", type=int, default=shape.memory_mib, metavar="MIB")
    found.add_argument("--cpus", type=int, default=shape.cpus)
    found.add_argument("--confined", action="store_true", help="boot with AppArmor, as Debian does by default")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors are one message on standard error."""
    options = parser().parse_args(argv)
    try:
        handler: Handler = options.handler
        return handler(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
