# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the node-side library from action plugins.

An ordinary module call imports ``ansible.module_utils.basic`` on the node, which costs more than everything that we do
there. Here the node-side library travels once, is kept on the node by its content, and each call starts it with the
request on standard input. Nothing has to be installed, nothing stays valid when the library changes, and the modules of
the same names remain for every other use. Private to the collection.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.twofold.cluster.plugins.module_utils import _json
from ansible_collections.twofold.cluster.plugins.plugin_utils import _inventory

# Owned by the user that runs there (root, or whom become names), so nobody else can put code into it.
CACHE = "/var/cache/twofold"
MARK = "TWOFOLD-ANSWER "
MISSING = 97
LOOK = "Look at what answers there in its place, and at the node's Python."
# A node that loses its power does not close its connections. One that is kept open for the next task (ControlPersist)
# would let a call wait until TCP gives up, a quarter of an hour later; so ssh asks, and gives up after three silences.
KEEPALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
SSH_OPTIONS = ("ssh_args", "ssh_common_args", "ssh_extra_args")

# Starts a cached library; exits with MISSING if the node does not have it (yet), or if it is broken.
_START = """\
import json, os, sys
path = os.path.join({cache!r}, {digest!r})
if not os.path.isdir(path) or os.stat(path).st_uid != os.geteuid():
    sys.exit({missing})
sys.path.insert(0, path)
try:
    from twofold_node._entry import main
    from twofold_node._errors import TwofoldError
except Exception as error:
    print(type(error).__name__ + ': ' + str(error), file=sys.stderr)
    sys.exit({missing})
request = json.load(sys.stdin)
try:
    answer = {{'answer': main(request['operation'], request['arguments'])}}
except TwofoldError as error:
    answer = {{'error': {{'message': error.message, 'remedy': error.remedy}}}}
print({mark!r} + json.dumps(answer))
"""

# Unpacks a library from standard input beside the others of this user and drops old ones. It gets its name when it is
# on the disk: a power cut would leave empty files under a name that says what they contain. One that is there and whole
# stays, for calls may be at work with it.
_INSTALL = """\
import base64, io, os, shutil, sys, tempfile, zipfile
cache, digest = {cache!r}, {digest!r}

def sync(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)

def read(path):
    with open(path, 'rb') as file:
        return file.read()

def whole(path):
    try:
        mine = os.stat(path).st_uid == os.geteuid()
        return mine and all(read(os.path.join(path, name)) == package.read(name) for name in package.namelist())
    except OSError:
        return False

os.makedirs(cache, mode=0o700, exist_ok=True)
if os.stat(cache).st_uid != os.geteuid():
    sys.exit(cache + ' belongs to another user; remove it')
os.chmod(cache, 0o700)
package = zipfile.ZipFile(io.BytesIO(base64.b64decode(sys.stdin.buffer.read())))
path, work = os.path.join(cache, digest), tempfile.mkdtemp(dir=cache)
new = os.path.join(work, 'new')
if whole(path):
    shutil.rmtree(os.path.join(path, 'twofold_node', '__pycache__'), ignore_errors=True)
else:
    package.extractall(new)
    for folder, folders, files in os.walk(new):
        for name in files:
            sync(os.path.join(folder, name))
        sync(folder)
    if os.path.lexists(path):
        os.rename(path, os.path.join(work, 'broken'))
    try:
        os.rename(new, path)
    except OSError:
        if not whole(path):
            raise
    sync(cache)
shutil.rmtree(work, ignore_errors=True)
old = sorted((os.path.join(cache, n) for n in os.listdir(cache)), key=os.path.getmtime)[:-3]
for path in old:
    shutil.rmtree(path, ignore_errors=True)
"""


@functools.cache
def node_library() -> tuple[str, bytes]:
    """Return the digest and the zip archive of the node-side library, the same bytes for the same sources."""
    sources = Path(__file__).resolve().parent.parent / "module_utils"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(zipfile.ZipInfo("twofold_node/__init__.py"), "")
        for path in sorted(sources.glob("_*.py")):
            if path.name == "__init__.py":
                continue
            entry = zipfile.ZipInfo(f"twofold_node/{path.name}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(entry, path.read_bytes())
    data = archive.getvalue()
    return hashlib.sha256(data).hexdigest()[:32], data


class NotUnderstood(AnsibleActionFail):
    """What a node answered is no answer; it may have done what it was asked to."""


class NodeAction(ActionBase):
    """An action plugin that calls the node-side library on its host."""

    _supports_check_mode = True
    _supports_diff = True

    def call_node(self, operation: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run ``operation`` of the node-side library on this host and return its answer.

        :raises AnsibleActionFail: the node could not run it, or it refused; the message says what to do.
        :raises NotUnderstood: what it answered is damaged; it may have run it.
        :raises AnsibleConnectionFailure: the node does not answer.
        """
        self._keep_alive()
        digest, archive = node_library()
        request = json.dumps({"operation": operation, "arguments": arguments}).encode()
        start = _START.format(cache=CACHE, digest=digest, missing=MISSING, mark=MARK)
        result = self._python(start, request, task_vars)
        if result["rc"] == MISSING:
            install = _INSTALL.format(cache=CACHE, digest=digest)
            installed = self._python(install, base64.b64encode(archive), task_vars)
            if installed["rc"] != 0:
                raise AnsibleActionFail(f"The node-side library cannot be put into {CACHE}: {_complaint(installed)}")
            result = self._python(start, request, task_vars)
        return _answer(result)

    def _keep_alive(self) -> None:
        """Have ssh notice a node that is gone, unless the operator has said how it is to."""
        connection = self._connection
        if getattr(connection, "transport", None) != "ssh":
            return
        given = {name: str(connection.get_option(name) or "") for name in SSH_OPTIONS}
        if not any("serveralive" in options.lower() for options in given.values()):
            connection.set_option("ssh_extra_args", f"{given['ssh_extra_args']} {KEEPALIVE}".strip())

    def _python(self, program: str, data: bytes, task_vars: dict[str, Any]) -> dict[str, Any]:
        given = _inventory.templated("ansible_python_interpreter", task_vars, self._templar)
        interpreter = given or "/usr/bin/python3"
        if str(interpreter).startswith("auto"):
            interpreter = task_vars.get("ansible_facts", {}).get("discovered_interpreter_python", "/usr/bin/python3")
        command = f"{shlex.quote(str(interpreter))} -I -c {shlex.quote(program)}"
        return self._low_level_execute_command(command, sudoable=True, in_data=data)


def shaped(answer: dict[str, Any], expected: str) -> dict[str, Any]:
    """Return what the shape of that name asks for in a node's answer.

    :raises NotUnderstood: the answer has another shape.
    """
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import shape

    wanted = getattr(shape, expected)
    wrong = shape.problem(answer, wanted, "answer")
    if wrong:
        raise NotUnderstood(f"The node's answer is damaged: {wrong}. {LOOK}")
    return dict(shape.named(answer, wanted))


def _complaint(result: dict[str, Any]) -> str:
    lines = (result.get("stderr") or result.get("stdout") or "").strip().splitlines()
    return lines[-1] if lines else f"exit status {result['rc']}"


def _understood(text: str) -> dict[str, Any]:
    """Return the answer of a text; raise if it is an error, or none of ours."""
    try:
        said = _json.read(text)
        if "error" in said:
            remedy = said["error"].get("remedy")
            raise AnsibleActionFail(said["error"]["message"] + (f" ({remedy})" if remedy else ""))
        return dict(said["answer"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotUnderstood(
            f"The node's answer cannot be understood: {type(error).__name__}: {error}. {LOOK}"
        ) from error


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    """Return the answer in a call's output; raise if there is none or if it is an error."""
    for line in reversed(result["stdout"].splitlines()):
        if line.startswith(MARK):
            return _understood(line[len(MARK) :])
    raise AnsibleActionFail(
        f"The node gave no answer: {_complaint(result)}. It needs Python 3.9 or later as ansible_python_interpreter, "
        "and the connection's user must be root or use become."
    )
