# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: emulated machines in a network namespace of their own."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from . import accel, image, mirror, network, snapshot, ssh, state, topology
from .command import Completed, check_sudo, elevated, failure, is_root, locked, run
from .elevate import privileged
from .errors import LabError
from .machine import Emulator, Shape, make_disks
from .paths import RUNTIME_ROOT, check_name, check_snapshot, default_name, lab_dir, runtime_dir
from .progress import Progress
from .state import State
from .topology import Machine

Result = TypeVar("Result")
# Generous, for a busy host: tests wait for events, never for times.
BOOT_SECONDS = 300.0
COMMAND_SECONDS = 300.0


class Lab:
    """One lab by name. Every method may be called by root, or by a user who has sudo."""

    def __init__(self, name: str | None = None, quiet: bool = False) -> None:
        self.name = check_name(name or default_name())
        self.quiet = quiet
        self.runtime = runtime_dir(self.name)
        self.directory = lab_dir(self.name)
        self.disks = self.directory / "disks"

    # What is there

    @property
    def ssh_config(self) -> Path:
        """For 'ssh -F', and for ansible_ssh_common_args."""
        return self.directory / "ssh_config"

    def state(self) -> State | None:
        """What the lab is made of, or None if it is down."""
        return state.load(self.name)

    def require_state(self) -> State:
        found = self.state()
        if not found:
            raise LabError(f"lab {self.name}: is down; start it with 'lab up --name {self.name}'")
        return found

    def is_up(self) -> bool:
        """Whether the lab is up with every machine started; a machine may have lost its power since."""
        found = self.state()
        return bool(found and found.ready and network.exists(self.name))

    @property
    def nodes(self) -> list[str]:
        """Names of the cluster's nodes."""
        return [machine.name for machine in self.machines() if machine.name != topology.OUTSIDER]

    def machines(self) -> list[Machine]:
        return self.require_state().machines

    def emulator(self, name: str) -> Emulator:
        for machine in self.machines():
            if machine.name == name:
                return self._emulator(machine)
        known = ", ".join(machine.name for machine in self.machines())
        raise LabError(f"machine {name!r}: lab {self.name} has {known}")

    def _emulator(self, machine: Machine) -> Emulator:
        return Emulator(self.name, machine, self.runtime, self.disks)

    def emulators(self) -> list[Emulator]:
        return [self._emulator(machine) for machine in self.machines()]

    # Up and down

    @privileged
    def up(
        self,
        *,
        nodes: int = 3,
        release: str = "trixie",
        bare: bool = False,
        outsider: bool = False,
        memory: int = Shape.memory_mib,
        cpus: int = Shape.cpus,
        confined: bool = False,
    ) -> None:
        """Start the lab and wait until every machine answers by ssh; memory in MiB. Reused if it is already up."""
        progress = Progress(f"lab {self.name}", self.quiet)
        with self._locked():
            if bare:  # bare nodes install from what the normal image was made of
                image.build(release, False, self.quiet)
            built = image.build(release, bare, self.quiet)
            shape = Shape(memory, cpus, accel.choose(built), confined)
            wanted = State(nodes, outsider, release, bare, built.key, str(built.directory), shape)
            if self._reuse(wanted):
                progress.say("is up already")
                return
            self._clean()
            self._start(wanted, progress)

    def _reuse(self, wanted: State) -> bool:
        """Whether the lab that is up is the wanted one; what has no power gets it."""
        found = self.state()
        if not found or not found.ready or not network.exists(self.name):
            return False
        if found.configuration() != wanted.configuration():
            raise LabError(
                f"lab {self.name}: is up with another configuration ({_difference(found, wanted)});"
                f" run 'lab down --name {self.name}' first"
            )
        off = [emulator for emulator in self.emulators() if not emulator.process()]
        for emulator in off:
            emulator.start(found.image, found.shape)
        for emulator in off:
            self.wait_ssh(emulator.machine.name)
        return True

    def _start(self, wanted: State, progress: Progress) -> None:
        self.prepare(wanted)
        for machine in wanted.machines:
            make_disks(self.disks, machine, wanted.image)
            self._emulator(machine).start(wanted.image, wanted.shape)
        progress.say(f"{len(wanted.machines)} machines started ({wanted.shape.accel}), kernels boot")
        self.finish(wanted, progress)

    def prepare(self, wanted: State) -> None:
        """Everything but the machines: state, network, ssh configuration."""
        self.runtime.mkdir(parents=True, exist_ok=True)
        state.save(self.name, wanted)
        network.create(self.name, wanted.machines)
        ssh.write(self.name, self.directory, wanted.machines, image.ssh_key(), self.runtime / "ssh")
        if wanted.bare:
            mirror.start(self, wanted.release)

    def replace(self, wanted: State) -> None:
        """Stop what runs and prepare for other machines."""
        self._clean()
        self.prepare(wanted)

    def finish(self, wanted: State, progress: Progress) -> None:
        """Wait for every machine and remember that the lab is ready."""
        with ThreadPoolExecutor() as pool:
            for machine in pool.map(self._wait_boot, wanted.machines):
                progress.say(f"{machine.name} answers")
        wanted.ready = True
        state.save(self.name, wanted)

    def _wait_boot(self, machine: Machine) -> Machine:
        emulator = self._emulator(machine)

        def ready() -> bool:
            emulator.require_process()
            return emulator.said_ready()

        try:
            self.wait(ready, BOOT_SECONDS, "the system is up")
        except LabError as error:
            raise LabError(f"{emulator}: did not boot ({error}). Its serial port:\n  {emulator.last_words()}") from None
        self.wait_ssh(machine.name)
        return machine

    @privileged
    def down(self) -> None:
        """Stop every machine and remove all that the lab has on this host; disks are thrown away."""
        with self._locked():
            self._clean()

    def _clean(self) -> None:
        self._close_connections()
        for pid_file in self.runtime.glob("*.pid"):
            Emulator(self.name, Machine(pid_file.stem, 0), self.runtime, self.disks).kill()
        self._end_proxies()
        network.remove(self.name)
        shutil.rmtree(self.runtime, ignore_errors=True)
        shutil.rmtree(self.disks, ignore_errors=True)
        self.ssh_config.unlink(missing_ok=True)

    def _close_connections(self) -> None:
        for path in (self.runtime / "ssh").glob("*"):
            run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "lab"], check=False, timeout=10)

    def _end_proxies(self) -> None:
        """End what our ssh_config left behind in the namespace (ssh masters of ansible persist for a minute)."""
        for pid in network.process_ids(self.name):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"nc", b"--"]:
                run(["kill", str(pid)], check=False)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        check_sudo()
        with locked(RUNTIME_ROOT / f"{self.name}.lock", f"lab {self.name}: another command works on it; waiting"):
            yield

    # Faults

    @privileged
    def power_off(self, node: str) -> None:
        """A power cut: SIGKILL to the node's QEMU. What the node had not flushed is lost."""
        self.emulator(node).kill()

    @privileged
    def power_on(self, node: str, wait: bool = True) -> None:
        """Start a node again on the same disks, and wait until it answers by ssh."""
        found = self.require_state()
        emulator = self.emulator(node)
        emulator.start(found.image, found.shape)
        if wait:
            self._wait_boot(emulator.machine)

    @privileged
    def power_cycle(self, node: str, wait: bool = True) -> None:
        """A power cut and a start."""
        self.power_off(node)
        self.power_on(node, wait)

    @privileged
    def renew(self, node: str) -> None:
        """New hardware under the same name: everything that was on the node's disks is lost, the image boots."""
        found = self.require_state()
        emulator = self.emulator(node)
        emulator.kill()
        make_disks(self.disks, emulator.machine, found.image)
        self.power_on(node)

    @privileged
    def link(self, node: str, network_name: str, up: bool) -> None:
        """Cut (up=False) or join one NIC: management, replication or guest."""
        self.emulator(node).set_link(topology.network(network_name), up)

    @privileged
    def freeze(self, node: str) -> None:
        """Stop a node without its noticing, as a long pause of its machine does."""
        self.emulator(node).freeze()

    @privileged
    def thaw(self, node: str) -> None:
        self.emulator(node).thaw()

    @privileged
    def throttle(self, node: str, disk: str, bytes_per_second: int = 0, iops: int = 0) -> None:
        """Slow one disk (vda, vdb, vdc) of a node; 0 means no limit."""
        self.emulator(node).throttle(disk, bytes_per_second, iops)

    def powered(self, node: str) -> bool:
        return self.emulator(node).process() is not None

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds of the host used by each machine's QEMU since it was started."""
        used: dict[str, float] = {}
        for emulator in self.emulators():
            process = emulator.process()
            if process:
                used[emulator.machine.name] = process.cpu_seconds()
        return used

    # Talking to machines

    def ssh_argv(self, node: str) -> list[str]:
        return ["ssh", "-F", str(self.ssh_config), node, "--"]

    def run(
        self,
        node: str,
        command: str | Sequence[str],
        check: bool = True,
        timeout: float = COMMAND_SECONDS,
        stdin: str | None = None,
    ) -> Completed:
        """Run a command (a shell line, or argv) on a machine or guest by ssh; timeout in seconds."""
        line = command if isinstance(command, str) else shlex.join(command)
        label = f"{node} of lab {self.name}: {line.splitlines()[0][:120] if line else ''}"
        if not self.ssh_config.exists():
            self.require_state()
        # Without input of its own ssh would read the caller's.
        done = run([*self.ssh_argv(node), line], check=False, timeout=timeout, stdin=stdin or "", what=label)
        if check and done.returncode != 0:
            raise LabError(failure(label, done))
        return done

    def run_all(self, command: str | Sequence[str], timeout: float = COMMAND_SECONDS) -> dict[str, Completed]:
        """The same command on every powered machine, at once."""
        names = [emulator.machine.name for emulator in self.emulators() if emulator.process()]
        with ThreadPoolExecutor() as pool:
            results = pool.map(lambda name: self.run(name, command, timeout=timeout), names)
            return dict(zip(names, results, strict=True))

    def put(self, node: str, path: str, content: str, mode: str = "0644") -> None:
        """Write a file on a machine."""
        target = shlex.quote(path)
        self.run(node, f'mkdir -p "$(dirname {target})" && cat > {target} && chmod {mode} {target}', stdin=content)

    def wait_ssh(self, node: str, timeout: float = BOOT_SECONDS) -> None:
        """Wait until a machine or guest runs a command by ssh."""
        self.wait(lambda: self._answers(node), timeout, f"{node} of lab {self.name} answers by ssh", every=0.3)

    def _answers(self, node: str) -> bool:
        try:
            return self.run(node, "true", check=False, timeout=30).returncode == 0
        except LabError:
            return False

    def wait(
        self, predicate: Callable[[], Result], timeout: float = COMMAND_SECONDS, what: str = "", every: float = 0.2
    ) -> Result:
        """Ask until the answer is true, and return it; timeout and every in seconds."""
        end = time.monotonic() + timeout
        while True:
            answer = predicate()
            if answer:
                return answer
            if time.monotonic() > end:
                raise LabError(f"not reached within {timeout:g} s: {what or 'the awaited state'}")
            time.sleep(every)

    def in_namespace(self, argv: Sequence[str], check: bool = True, timeout: float | None = None) -> Completed:
        """Run a program of the host in the lab's network namespace."""
        return run(self.namespace_argv(argv), check=check, timeout=timeout)

    def namespace_argv(self, argv: Sequence[str]) -> list[str]:
        """argv of in_namespace, for callers that start the process themselves."""
        self.require_state()
        inside = network.inside(self.name, argv)
        return inside if is_root() else elevated(inside)

    # Snapshots

    @privileged
    def save(self, name: str) -> None:
        """Save the whole running lab under a name; it runs on afterwards."""
        with self._locked():
            snapshot.save(self, check_snapshot(name))

    @privileged
    def restore(self, name: str) -> None:
        """Replace the lab, which may be down, by a saved one. Machines that were on answer by ssh afterwards."""
        with self._locked():
            snapshot.restore(self, check_snapshot(name))

    @privileged
    def drop(self, pattern: str) -> None:
        """Remove the snapshots of this lab whose names match a shell pattern."""
        with self._locked():
            snapshot.drop(self, pattern)

    def has_snapshot(self, name: str) -> bool:
        """Whether a snapshot of this name fits this lab."""
        return snapshot.find(self, name) is not None


def _difference(found: State, wanted: State) -> str:
    have, want = found.configuration(), wanted.configuration()
    return ", ".join(f"{key}: {have[key]}, wanted {want[key]}" for key in have if have[key] != want[key])
