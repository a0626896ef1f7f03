"""The node's conditions, as Kubernetes has them: what an operator should know before looking at logs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.messages.reported import NodeCondition

MESSAGE_CHARS_MAX = 512


@dataclass(frozen=True)
class Vitals:
    """What the conditions are made of; texts are empty when all is well."""

    disk_pressure: str = ""
    outbox_pressure: str = ""
    gateway_needed: bool = False
    gateway_up: bool = False
    setting_problems: tuple[str, ...] = ()
    draining: bool = False
    damaged: str = ""
    """What was put aside because it could not be trusted."""


def conditions(vitals: Vitals) -> tuple[NodeCondition, ...]:
    """Sorted by type; `GatewayReady` only where a gateway is needed or runs."""
    found = [
        _problem("DiskPressure", "DiskShort", vitals.disk_pressure),
        _problem("OutboxPressure", "OutboxFull", vitals.outbox_pressure),
        _problem("StateDamaged", "PutAside", vitals.damaged),
        _truth("Draining", vitals.draining, "DrainRequested" if vitals.draining else ""),
    ]
    if vitals.gateway_needed or vitals.gateway_up:
        found.append(_truth("GatewayReady", vitals.gateway_up, "" if vitals.gateway_up else "GatewayDown"))
    told = "; ".join(vitals.setting_problems)
    found.append(_truth("SettingsApplied", not told, "SettingFailed" if told else "", told))
    return tuple(sorted(found, key=lambda condition: condition.type))


def _problem(kind: str, reason: str, told: str) -> NodeCondition:
    return _truth(kind, bool(told), reason if told else "", told)


def _truth(kind: str, holds: bool, reason: str, told: str = "") -> NodeCondition:
    return NodeCondition(kind, "True" if holds else "False", reason, told[:MESSAGE_CHARS_MAX])
