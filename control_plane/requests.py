"""What adaptation and operators ask for, checked against the newest rows and turned into rows.

Adaptation has checked its actions over a snapshot; here they are checked again (permissions, bounds, what has become of
the replica) before they are committed, and each gets an answer. Called by `core.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ..descriptions.kinds.application import Component
from ..descriptions.messages.desired import MechanismSetting
from .component_state import ComponentState, Setting
from .components import Components
from .draft import Draft
from .effects import AnswerAction, AnswerRollout, Happening
from .inputs import MoveWanted, RolloutWanted, ScaleWanted, SettingWanted
from .planner.snapshot import Need
from .reconcile import heads_of
from .rollout import is_running, paused
from .rows import Rows

SETTINGS_MAX = 64
"""Lasting settings that adaptation may keep for one component or node."""


@dataclass
class Requests:
    """The counter at which they are handed in."""

    rows: Rows
    components: Components

    def scale(self, event: ScaleWanted, draft: Draft) -> None:
        """Another number of replicas."""
        key = (event.application, event.component)
        component = self.rows.component(key)
        refused = _refusal(component, "scale", key)
        if component is not None and component.scaling is None:
            refused = refused or "the component has no scaling"
        if component is not None and component.scaling is not None and not refused:
            scaling = component.scaling
            wanted = min(max(event.replicas, scaling.min), scaling.max)
            draft.put(msgspec.structs.replace(self.rows.state_of(key), scale=wanted))
            draft.keys.add(key)
            told = f"{event.component}: {wanted} replicas, {event.reason}"
            draft.tell(Happening("Scaled", told, "Application", event.application, application=event.application))
        draft.answers.append(AnswerAction(draft.id, refused))

    def move(self, event: MoveWanted, draft: Draft) -> None:
        """A replica elsewhere."""
        placement = self.rows.placements.get(event.replica)
        key = (placement.application, placement.component) if placement is not None else ("", "")
        refused = _refusal(self.rows.component(key), "move", key)
        if placement is None:
            refused = f"{event.replica} is gone"
        elif placement not in heads_of(p for p in self.rows.placements_of(key) if p.wanted == "run" and not p.lost):
            refused = refused or f"{event.replica} is being replaced or stopped already"
        if placement is not None and not refused:
            avoid = tuple(sorted({placement.node_name, *event.avoid}))
            need = Need(*key, 1, "move", (placement.id,), avoid, event.node)
            self.components.replicas.moves[placement.id] = need
            draft.keys.add(key)
            told = f"{placement.id} should move: {event.reason}"
            draft.tell(Happening("MoveWanted", told, "Application", key[0], application=key[0]))
        draft.answers.append(AnswerAction(draft.id, refused))

    def set(self, event: SettingWanted, draft: Draft) -> None:
        """A lasting mechanism setting, or its end."""
        key = (event.application, event.component)
        is_component = "." not in event.component
        refused = _refusal(self.rows.component(key), event.verb, key) if is_component else ""
        state = self.rows.state_of(key)
        kept = tuple(one for one in state.settings if not _is_same(one, event))
        if event.arguments and len(kept) >= SETTINGS_MAX:
            refused = refused or f"{SETTINGS_MAX} settings are kept already"
        if not refused:
            added = (_setting(event),) if event.arguments else ()
            draft.put(msgspec.structs.replace(state, settings=(*kept, *added)))
            self._touch_nodes(event, state, draft)
            told = f"{event.mechanism} {event.verb} {event.arguments or 'ends'}: {event.reason}"
            node = self.rows.nodes.get(event.node)
            where = ("Application", event.application) if is_component or node is None else ("Node", event.node)
            draft.tell(Happening("SettingChosen", told, *where, node=event.node))
        draft.answers.append(AnswerAction(draft.id, refused))

    def steer(self, event: RolloutWanted, draft: Draft) -> None:
        """Pause, resume or abort a rollout."""
        rollout = self.rows.rollouts.get(event.rollout)
        refused = ""
        if rollout is None:
            refused = f"there is no rollout {event.rollout!r}"
        elif not is_running(rollout) and event.verb != "resume":
            refused = f"rollout {event.rollout!r} has ended"
        elif event.verb == "abort":
            self.components.rollouts.end(rollout, draft)
        else:
            key = (rollout.spec.application, rollout.spec.component)
            if is_running(rollout):
                draft.put(paused(rollout, is_paused=event.verb == "pause"))
            else:
                draft.put(msgspec.structs.replace(self.rows.state_of(key), halted=0))
                for step in rollout.spec.steps:
                    self.components.replicas.not_before.pop(step.old, None)
            draft.keys.add(key)
        draft.answers.append(AnswerRollout(draft.id, refused))

    def _touch_nodes(self, event: SettingWanted, state: ComponentState, draft: Draft) -> None:
        placements = self.rows.placements_of((state.application, state.component))
        draft.nodes.update(placement.node_uid for placement in placements)
        node = self.rows.nodes.get(event.node)
        if node is not None and node.status is not None and node.status.uid:
            draft.nodes.add(node.status.uid)


def _refusal(component: Component | None, verb: str, key: tuple[str, str]) -> str:
    if component is None:
        return f"there is no component {'.'.join(key)}"
    if "*" in component.permitted_actions or verb in component.permitted_actions:
        return ""
    return f"permittedActions of {'.'.join(key)} does not list {verb!r}"


def _is_same(setting: Setting, event: SettingWanted) -> bool:
    mine = setting.setting
    return (mine.mechanism, mine.verb, mine.target, setting.node) == (
        event.mechanism, event.verb, event.target, event.node
    )  # fmt: skip


def _setting(event: SettingWanted) -> Setting:
    arguments = msgspec.json.decode(event.arguments, type=dict[str, msgspec.Raw])
    return Setting(MechanismSetting(event.mechanism, event.target, event.verb, arguments), event.node)
