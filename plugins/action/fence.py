# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch nodes' power and ask about it; the module of the same name documents it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import Cluster, ClusterAction
from ansible_collections.twofold.cluster.plugins.plugin_utils._programs import programs

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing


class ActionModule(ClusterAction):
    """Talk to fence devices, from the control host."""

    ARGUMENTS = {
        "action": {"type": "str", "choices": ["status", "on", "off", "cycle", "health"], "default": "status"},
        "node": {"type": "str"},
        "intent": {"type": "dict"},
        "force": {"type": "bool", "default": False},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do one of three things: prove what an intent needs, switch one node, or ask about all."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.arguments = {key: value for key, value in self.arguments.items() if value not in (None, "")}
        cluster = self.cluster(task_vars or {})
        if "intent" in self.arguments:
            result.update(self._prove(cluster))
        elif "node" in self.arguments:
            result.update(self._one(cluster, self.arguments["node"]))
        else:
            result.update(self._all(cluster))
        return result

    def _prove(self, cluster: Cluster) -> dict[str, Any]:
        """Ask about, or switch off, the nodes that an intent needs to know dead, and no others."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import planner

        suspects = planner.suspects(cluster.desired, cluster.observed, self.arguments["intent"])
        nodes = [name for name in suspects if name in cluster.desired.nodes and cluster.desired.nodes[name].fence]
        found = self._at_once(self._prove_one, cluster, nodes)
        for name, said in found.items():
            self.show(f"{name}: its fence device {said.method} {said.message}")
        return {
            "changed": any(said.message.startswith("switched") for said in found.values()),
            "fenced": {name: said.to_json() for name, said in found.items()},
        }

    def _prove_one(self, cluster: Cluster, name: str) -> fencing.Said:
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

        fence = fencing.Fence(cluster.desired.nodes[name], programs())
        said = fence.status()
        if said.state == fencing.OFF or self.arguments["action"] != "off":
            return said
        if self._task.check_mode:
            return fencing.Said(fencing.OFF, said.method, f"would switch it off: it {said.message} now")
        said = fence.switch(fencing.OFF)
        return said if said.state != fencing.OFF else fencing.Said(said.state, said.method, "switched it off")

    def _one(self, cluster: Cluster, name: str) -> dict[str, Any]:
        """Switch or ask about one node."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

        if name not in cluster.desired.nodes:
            raise AnsibleActionFail(
                f"There is no node {name!r}. The nodes are {', '.join(sorted(cluster.desired.nodes))}."
            )
        action, fence = self.arguments["action"], fencing.Fence(cluster.desired.nodes[name], programs())
        if action in ("off", "cycle"):
            self._refuse_living(cluster, name, action)
        if action == "health":
            return self._health(name, fence)
        before = fence.status()
        wanted = {"on": fencing.ON, "off": fencing.OFF, "cycle": fencing.ON}.get(action, before.state)
        changed = action == "cycle" or before.state != wanted
        if changed and not self._task.check_mode:
            said = fence.cycle() if action == "cycle" else fence.switch(wanted)
        else:
            said = before
        done = said.state == wanted or self._task.check_mode
        self.show(f"{name}: {said.state} ({said.method}: {said.message})")
        result: dict[str, Any] = {"changed": changed and done, "fenced": {name: said.to_json()}}
        if said.state == fencing.SILENT or not done:
            remedy = "check the device's address, user and password; see docs/playbooks/fence.md"
            result.update(failed=True, msg=f"{name} is not known to be {wanted}: {said.message}. {remedy}.")
        return result

    def _refuse_living(self, cluster: Cluster, name: str, action: str) -> None:
        """Refuse to take the power of a node that answers and runs guests, unless that is asked for."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

        guests = fencing.guests(cluster.observed, name)
        if guests and not self.arguments["force"]:
            raise AnsibleActionFail(
                f"{name} answers and runs {', '.join(guests)}; they would lose their power too. Nothing was done. "
                f"Move them away first, or add -e force=true to {action} it all the same."
            )

    def _health(self, name: str, fence: fencing.Fence) -> dict[str, Any]:
        health = fence.health()
        for one in health:
            self.show(f"{name}: {one['status']}: {one['item']}")
        if not health:
            self.show(f"{name}: none of its fence devices tells health; programs of Ganeti's OOB protocol do.")
        return {"changed": False, "health": health}

    def _all(self, cluster: Cluster) -> dict[str, Any]:
        """Ask every device of every node, and judge what they say."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

        if self.arguments["action"] != "status":
            raise AnsibleActionFail("All nodes at once are only asked for their status. Name one with -e node=NODE.")
        names = [name for name, node in cluster.desired.nodes.items() if node.fence]
        said = self._at_once(
            lambda cluster, name: fencing.Fence(cluster.desired.nodes[name], programs()).statuses(), cluster, names
        )
        findings = fencing.review(cluster.desired, cluster.observed, said)
        for name, answers in said.items():
            self.show(f"{name}: " + ", ".join(f"{answer.state} ({answer.method})" for answer in answers))
        wrong = [finding.text for finding in findings if finding.severity != "info"]
        return {
            "changed": False,
            **({"warnings": wrong} if wrong else {}),
            "fenced": {name: [answer.to_json() for answer in answers] for name, answers in said.items()},
            "findings": [finding.to_json() for finding in findings],
        }

    @staticmethod
    def _at_once(ask: Any, cluster: Cluster, names: list[str]) -> dict[str, Any]:
        """Return what each node's devices say; all are asked at the same time."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            return dict(zip(names, pool.map(lambda name: ask(cluster, name), names), strict=True))
