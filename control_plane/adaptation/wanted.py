"""Turns an action of adaptation into the event by which the control plane's core is asked to commit it.

For the drivers (`control_plane/run.py`, `sim/`); the event carries the action's id, so whatever the core makes of it,
a commit or a refusal, can be told back as `ActionCommitted` or `ActionRejected`.
"""

from __future__ import annotations

import json

from ...policies.actions import Move, Scale
from ..inputs import MoveWanted, ScaleWanted, SettingWanted
from .events import Act


def wanted(act: Act) -> ScaleWanted | MoveWanted | SettingWanted:
    """The event for the core."""
    action, reason = act.action, act.record.reason
    match action:
        case Scale():
            return ScaleWanted(act.id, action.application, action.component, action.replicas, reason)
        case Move():
            return MoveWanted(act.id, action.replica, action.node, reason)
        case _:
            return SettingWanted(
                act.id,
                act.record.application,
                act.record.component,
                action.mechanism,
                action.verb,
                json.dumps(dict(action.arguments), sort_keys=True),
                reason,
                target=action.target,
                node=action.node,
            )
