"""Who may do what: the roles, and the sets of them that routes name.

A token has one role. The sets are the only place where rights are combined; `docs/api.md` shows the resulting matrix.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a token's holder is trusted with."""

    VIEWER = "viewer"
    """Reads everything but logs, secrets and the audit trail."""
    OPERATOR = "operator"
    """Also steers what runs: cordon, drain, rollouts, logs."""
    DEPLOYER = "deployer"
    """Also describes applications and models."""
    NODE_ADMIN = "node-admin"
    """Also describes nodes and lets them join."""
    SLICE_ADMIN = "slice-admin"
    """Everything in this slice."""
    AGENT = "agent"
    """One node: fetches what that node needs, nothing else."""


PEOPLE = frozenset({Role.VIEWER, Role.OPERATOR, Role.DEPLOYER, Role.NODE_ADMIN, Role.SLICE_ADMIN})
STEERING = frozenset({Role.OPERATOR, Role.SLICE_ADMIN})
NODE_STEERING = frozenset({Role.OPERATOR, Role.NODE_ADMIN, Role.SLICE_ADMIN})
LOG_READERS = frozenset({Role.OPERATOR, Role.DEPLOYER, Role.NODE_ADMIN, Role.SLICE_ADMIN})
DEPLOYING = frozenset({Role.DEPLOYER, Role.SLICE_ADMIN})
NODE_KEEPING = frozenset({Role.NODE_ADMIN, Role.SLICE_ADMIN})
ADMINS = frozenset({Role.SLICE_ADMIN})
CONTENT_READERS = PEOPLE - {Role.VIEWER} | {Role.AGENT}
EVERYBODY: frozenset[Role] = frozenset()
"""No token is asked for."""
