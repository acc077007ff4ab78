# Copyright: The Twofold developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch nodes' power and ask about it; the module of the same name documents it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible_collections.twofold.cluster.plugins.plugin_utils._cluster import Cluster, ClusterAction
from ansible_collections.twofold.cluster.plugins.plugin_utils._programs import programs

if TYPE_CHECKING:
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import Finding, fencing, planner

NO_DEVICE = (
    "No node has a fence device (twofold_fence): when one dies, its guests start elsewhere only after your word, "
    "-e confirm_dead=NODE. See docs/playbooks/fence.md."
)


class ActionModule(ClusterAction):
    """Talk to fence devices, from the control host."""

    ARGUMENTS = {
        "action": {"type": "str", "choices": ["status", "on", "off", "cycle", "health"], "default": "status"},
        "node": {"type": "raw"},
        "intent": {"type": "dict"},
        "switch_off": {"type": "raw", "default": False},
        "force": {"type": "bool", "default": False},
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do one of three things: prove what an intent needs, switch one node, or ask about all."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.arguments = {key: value for key, value in self.arguments.items() if value not in (None, "")}
        # Who only asks devices takes no power.
        takes = "intent" in self.arguments or self.arguments["action"] in ("off", "cycle")
        cluster = self.cluster(task_vars or {}, asked=takes)
        if "intent" in self.arguments:
            result.update(self._prove(cluster))
        elif "node" in self.arguments:
            result.update(self._one(cluster, _name(self.arguments["node"])))
        else:
            result.update(self._all(cluster))
        return result

    def _prove(self, cluster: Cluster) -> dict[str, Any]:
        """Ask about the nodes that do not answer if an intent needs to know one dead; switch off those that it does."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing, planner

        nodes = cluster.desired.nodes
        suspects = planner.suspects(cluster.desired, cluster.observed, self.arguments["intent"])
        wish = planner.wish(self.arguments.get("switch_off"))
        self._named(cluster, suspects, wish)
        fenced = [name for name in suspects.asked if name in nodes and nodes[name].fence]
        fences = {name: _fence(cluster, name) for name in fenced}
        found = self._at_once(lambda name: fences[name].status(), fenced)
        off = [name for name, said in found.items() if said.state == fencing.OFF]
        chosen = [name for name in suspects.to_switch_off(off, wish) if name in found]
        for name in chosen:
            self._announce(name, fences[name], "off")
        switched = self._at_once(lambda name: self._switch_off(fences[name], found[name]), chosen)
        found |= switched
        on = {name for name, said in found.items() if said.state == fencing.ON}
        in_vain = {name: why for name, why in suspects.in_vain.items() if name in on}
        for name, said in found.items():
            self.show(f"{name}: its fence device {said.text}")
            if name in in_vain and wish is True:
                self.show(f"{name}: its power is left on, for {in_vain[name]}.")
        return {
            "changed": any(said.state == fencing.OFF for said in switched.values()),
            "fenced": {
                name: said.to_json() | ({"in_vain": in_vain[name]} if name in in_vain else {})
                for name, said in found.items()
            },
        }

    def _named(self, cluster: Cluster, suspects: planner.Suspects, wish: bool | list[str]) -> None:
        """Refuse names that are no node's, and say of the others if nothing waits for them."""
        for name in [] if isinstance(wish, bool) else wish:
            self._refuse_unknown(cluster, name)
            if name not in suspects.all:
                self.show(f"{name}: nothing waits for it to be off, so its power is left alone.")

    def _refuse_unknown(self, cluster: Cluster, name: str) -> None:
        """Refuse a name that is no node's, or that of one whose variables are wrong, which is shown."""
        if name in cluster.desired.nodes:
            return
        if name not in cluster.observed:
            nodes = ", ".join(sorted(cluster.observed))
            raise AnsibleActionFail(f"There is no node {name!r}. The nodes are {nodes}. Nothing was switched off.")
        self._show_wrong(cluster)
        raise AnsibleActionFail(
            f"Variables of {name} are wrong, as shown above. Nothing was done. Correct them, then run this again."
        )

    def _show_wrong(self, cluster: Cluster) -> list[Finding]:
        """Show what is wrong with the nodes that are in the inventory and cannot be used for it; return that."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import report

        wrong = {f"node {name}" for name in cluster.observed.keys() - cluster.desired.nodes.keys()}
        found = [finding for finding in cluster.desired.findings if finding.object in wrong]
        if found:
            self.show(report.findings_text(found, self.width, self.color))
        return found

    def _announce(self, name: str, fence: fencing.Fence, action: str) -> None:
        """Say what is about to be done and how long it may take, before anybody thinks that it hangs."""
        what = "cycling its power" if action == "cycle" else f"switching its power {action}"
        if not self._task.check_mode:
            self.show(f"{name}: {what}, up to {fence.longest(action):.0f} s")

    def _switch_off(self, fence: fencing.Fence, said: fencing.Said) -> fencing.Said:
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

        if self._task.check_mode:
            return fencing.Said(fencing.OFF, said.method, f"would switch it off: it {said.message} now")
        said = fence.switch(fencing.OFF)
        return said if said.state != fencing.OFF else fencing.Said(said.state, said.method, "switched it off")

    def _one(self, cluster: Cluster, name: str) -> dict[str, Any]:
        """Switch or ask about one node."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

        self._refuse_unknown(cluster, name)
        action, fence = self.arguments["action"], _fence(cluster, name)
        if not fence.node.fence:
            raise AnsibleActionFail(
                f"{name} has no fence device. Nothing was done. Give it one with twofold_fence, see "
                "docs/playbooks/fence.md; until then only its console or its plug tell that it is off."
            )
        if action in ("off", "cycle"):
            self._refuse_living(cluster, name, action)
        if action == "health":
            return self._health(name, fence)
        if action != "status":
            self._announce(name, fence, action)
        before = fence.status()
        wanted = {"on": fencing.ON, "off": fencing.OFF, "cycle": fencing.ON}.get(action, before.state)
        changed = action == "cycle" or before.state != wanted
        said, done = before, self._task.check_mode or not changed
        if not done:
            said, done = fence.cycle() if action == "cycle" else fence.switched(wanted)
        self.show(f"{name}: {said.state} ({said.method}: {said.message})")
        result: dict[str, Any] = {"changed": changed and done, "fenced": {name: said.to_json()}}
        if said.state == fencing.SILENT or not done:
            remedy = "Check the device's address, user and password; see docs/playbooks/fence.md"
            what = {"cycle": "to have been cycled", "status": "to be on or off"}.get(action, f"to be {wanted}")
            result.update(failed=True, msg=f"{name} is not known {what}: {said.message}. {remedy}.")
        return result

    def _refuse_living(self, cluster: Cluster, name: str, action: str) -> None:
        """Refuse to take the power of a node that guests need, or may need as it lives, unless that is asked for."""
        from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing, planner

        if self.arguments["force"]:
            return
        guests = fencing.guests(cluster.observed, name)
        if guests:
            raise AnsibleActionFail(
                f"{name} answers and runs {', '.join(guests)}; they would lose their power too. Nothing was done. "
                f"Move them away first, or add -e force=true to {action} it all the same."
            )
        fed = fencing.feeds(cluster.observed, name)
        if fed:
            raise AnsibleActionFail(
                f"{name} answers and has the only copy that is up to date of {', '.join(fed)}, which another node is "
                f"connected for. Nothing was done. Run site.yml and wait until both copies are UpToDate, or add "
                f"-e force=true to {action} it all the same."
            )
        witness = planner.witness(cluster.observed, name)
        if witness is not None:
            raise AnsibleActionFail(
                f"{name} does not answer, but lives: {witness}. Its guests would lose their power. Nothing was done. "
                "Restore the management network to it; if its power was cut just now, wait a moment; "
                f"if it hangs for good, add -e force=true to {action} it all the same."
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
        misread = self._show_wrong(cluster)
        names = [name for name, node in cluster.desired.nodes.items() if node.fence]
        if not names and not misread:
            self.show(NO_DEVICE)
        said = self._at_once(lambda name: _fence(cluster, name).statuses(), names)
        findings = fencing.review(cluster.desired, cluster.observed, said)
        for name, answers in said.items():
            self.show(f"{name}: " + ", ".join(f"{answer.state} ({answer.method})" for answer in answers))
        wrong = [finding.text for finding in findings if finding.severity != "info"]
        return {
            "changed": False,
            **({"warnings": wrong} if wrong else {}),
            "fenced": {name: [answer.to_json() for answer in answers] for name, answers in said.items()},
            "findings": [finding.to_json() for finding in [*misread, *findings]],
        }

    @staticmethod
    def _at_once(ask: Callable[[str], Any], names: list[str]) -> dict[str, Any]:
        """Return what each node's devices say; all are asked at the same time."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            return dict(zip(names, pool.map(ask, names), strict=True))


def _fence(cluster: Cluster, name: str) -> fencing.Fence:
    """Return the fence devices of a node."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import fencing

    return fencing.Fence(cluster.desired.nodes[name], programs())


def _name(given: Any) -> str:
    """Return the one node that is named."""
    from ansible_collections.twofold.cluster.plugins.plugin_utils._lib import arguments

    read, wrong = arguments.read({"node": given})
    if wrong or "," in read["node"]:
        raise AnsibleActionFail(
            f"node is {given!r}. Nothing was done: give one name, for power is switched node by node."
        )
    return str(read["node"])
