# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: bare nodes, two instances, one of them migrated live while it serves; everything as a user would do it.

Run it as ``./demo``. Only the nodes are special: emulated machines of ``tests/lab``. What happens to them is done by
``ansible-playbook`` with the collection's playbooks and the inventory under ``inventories/lab/``.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.lab.core import Lab
from tests.lab.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = "inventories/lab"
REPLICATED = "web1"
PLAIN = "tool1"
SECONDS_TO_BOOT = 300.0

console = Console(highlight=False)


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass
class Stages:
    """The stages that were done, with their seconds."""

    done: list[tuple[str, float]] = field(default_factory=list)

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do ``work`` under a heading and keep its time."""
        console.print(f"\n[bold]== {name}[/bold]")
        start = time.monotonic()
        work()
        self.done.append((name, time.monotonic() - start))
        console.print(f"[dim]   {self.done[-1][1]:.0f} s[/dim]")


def command(*argv: str, output: list[str] | None = None) -> None:
    """Run a command and show what it prints; keep the lines in ``output`` too."""
    console.print(f"[cyan]$ {' '.join(argv)}[/cyan]", soft_wrap=True)
    sys.stdout.flush()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            if output is not None:
                output.append(line)
    status = process.wait()
    if status:
        raise DemoError(f"{argv[0]} ended with exit status {status}; what it printed above says why.")


def playbook(name: str, *arguments: str, output: list[str] | None = None) -> None:
    """Run one of the collection's playbooks on the lab's inventory."""
    command("ansible-playbook", "-i", INVENTORY, f"twofold.cluster.{name}", *arguments, output=output)


def ssh(instance: str, *argv: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs ``argv`` in an instance, over ssh."""
    return ["ssh", "-F", str(Lab().ssh_config), *options, f"root@{address(instance)}", *argv]


@functools.cache
def host_variables(instance: str) -> dict[str, object]:
    """Return the inventory's variables of a host."""
    argv = ["ansible-inventory", "-i", INVENTORY, "--host", instance]
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    variables: dict[str, object] = json.loads(done.stdout)
    return variables


def address(instance: str) -> str:
    """Return the address of an instance's first NIC, as the inventory has it."""
    nics = host_variables(instance)["twofold_nics"]
    assert isinstance(nics, list)
    return str(nics[0]["address"])


def ask(instance: str, *argv: str) -> str | None:
    """Return what a command in an instance prints, or None if the instance does not answer."""
    try:
        done = subprocess.run(ssh(instance, *argv), cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def wait_for(instance: str) -> None:
    """Wait until an instance answers over ssh."""
    start = time.monotonic()
    while ask(instance, "true") is None:
        if time.monotonic() - start > SECONDS_TO_BOOT:
            raise DemoError(
                f"{instance} does not answer over ssh at {address(instance)}. Look at its console: "
                f"tests/lab/lab ssh node1 virsh console {instance}"
            )
        time.sleep(1)
    console.print(f"   {instance} answers at {address(instance)} after {time.monotonic() - start:.0f} s")


def wait_for_all() -> None:
    """Wait until both instances answer over ssh."""
    for name in (REPLICATED, PLAIN):
        wait_for(name)


class Writer:
    """A program in an instance that makes numbered records durable and says each number only then."""

    def __init__(self, instance: str) -> None:
        # A connection of its own: on a shared one the program would go on after us, and write beside the next one.
        argv = ssh(instance, "counter", options=["-o", "ControlPath=none"])
        self._process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.acknowledged: list[int] = []
        self.longest_gap = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        last = None
        for line in self._process.stdout:
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - last) if last is not None else 0.0
            last = now
            self.acknowledged.append(int(line.split()[0]))

    def wait_past(self, number: int) -> None:
        """Wait until a number greater than ``number`` was acknowledged."""
        start = time.monotonic()
        while not self.acknowledged or self.acknowledged[-1] <= number:
            if self._process.poll() is not None or time.monotonic() - start > 60:
                raise DemoError("The counter in the instance has stopped.")
            time.sleep(0.1)

    def stop(self) -> list[int]:
        """Stop and return all numbers that were acknowledged."""
        self._process.terminate()
        self._process.wait()
        self._thread.join(timeout=10)
        return self.acknowledged


def recorded(instance: str) -> int:
    """Return how many records stand on an instance's disk; they are numbered from 1 and none may be missing."""
    text = ask(instance, "counter", "--check")
    if text is None:
        raise DemoError(f"{instance}: a record is missing on its disk.")
    return int(text.split()[0])


def migrate_live() -> None:
    """Migrate the replicated instance while it serves and prove that nothing was lost."""
    boot = ask(REPLICATED, "cat", "/proc/sys/kernel/random/boot_id")
    writer = Writer(REPLICATED)
    writer.wait_past(0)
    before = writer.acknowledged[-1]
    playbook("migrate", "-e", f"instance={REPLICATED}")
    writer.wait_past(writer.acknowledged[-1] + 3)
    acknowledged = writer.stop()
    on_disk = recorded(REPLICATED)
    if boot is None or ask(REPLICATED, "cat", "/proc/sys/kernel/random/boot_id") != boot:
        raise DemoError(f"{REPLICATED} was restarted: its boot id has changed.")
    if on_disk < acknowledged[-1]:
        raise DemoError(f"{REPLICATED} acknowledged record {acknowledged[-1]}, but {on_disk} is the last on its disk.")
    if acknowledged != list(range(acknowledged[0], acknowledged[-1] + 1)):
        raise DemoError(f"{REPLICATED} did not count on without a gap.")
    console.print(f"   boot id {boot}, the same before and after: not restarted")
    console.print(
        f"   {len(acknowledged)} records acknowledged over one ssh connection ({before} before the migration, "
        f"then on to {acknowledged[-1]}), none lost, longest silence {writer.longest_gap:.1f} s"
    )


def converge_again() -> None:
    """Run site.yml once more: nothing may change."""
    output: list[str] = []
    playbook("site", output=output)
    changes = [line for line in output if re.search(r"changed=[1-9]", line)]
    if changes:
        raise DemoError("The second run changed something: " + "; ".join(changes))
    console.print("   nothing has changed, on no node")


def summary(stages: Stages) -> None:
    """Show what exists and how to look around."""
    table = Table(title="How long it took", title_justify="left", show_footer=True)
    table.add_column("stage", footer="all")
    table.add_column("seconds", justify="right", footer=f"{sum(seconds for _ignored, seconds in stages.done):.0f}")
    for name, seconds in stages.done:
        table.add_row(name, f"{seconds:.0f}")
    console.print()
    console.print(table)
    config = ssh(REPLICATED)[2]
    console.print("\nLook around:")
    for text, argv in (
        ("the cluster", f"ansible-playbook -i {INVENTORY} twofold.cluster.status"),
        ("a node", "tests/lab/lab ssh node1"),
        ("an instance", f"ssh -F {config} root@{address(REPLICATED)}"),
        ("a migration", f"ansible-playbook -i {INVENTORY} twofold.cluster.migrate -e instance={REPLICATED}"),
        ("a power cut", "tests/lab/lab power off node3"),
        ("the end", "./demo --down"),
    ):
        console.print(f"  {text:<13} {argv}", soft_wrap=True)
    console.print("  (ansible-playbook is in .venv/bin: source .venv/bin/activate)")


def up() -> None:
    """Run the whole demo."""
    stages = Stages()
    stages.run("Build the images (once; they stay in the cache)", lambda: command("tests/lab/lab", "build"))
    stages.run("Build the guest image (once)", lambda: command("tests/lab/lab", "guest-image"))
    stages.run("Boot three nodes", lambda: command("tests/lab/lab", "up"))
    stages.run("Bootstrap the nodes and create two instances", lambda: playbook("site"))
    stages.run("Wait until the guests answer", wait_for_all)
    stages.run(
        "Configure them as hosts of the same inventory",
        lambda: command("ansible-playbook", "-i", INVENTORY, "examples/configure-instances.yml"),
    )
    stages.run(f"Migrate {REPLICATED} live while it writes", migrate_live)
    stages.run("Run the same playbook again: nothing changes", converge_again)
    stages.run("Look", lambda: playbook("status"))
    summary(stages)


def main() -> int:
    """Run the demo or take it away."""
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__.splitlines()[0])
    parser.add_argument("--down", action="store_true", help="take the lab away")
    try:
        if parser.parse_args().down:
            command("tests/lab/lab", "down")
        else:
            up()
    except (DemoError, LabError) as error:
        console.print(f"\n[bold red]The demo stopped:[/bold red] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted. ./demo goes on from here, ./demo --down takes everything away.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
