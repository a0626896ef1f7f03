"""What should be: policies filter and score nodes and adapt what runs, as pure decisions over a read-only view.

`policy.py` is the contract, `view.py` what a policy sees, `actions.py` what an adaptation policy wants done; one file
a built-in. `registry.py` finds policies by name: in the map below, by entry point, or enabled by the operator.
"""

from __future__ import annotations

IN_TREE: dict[str, str] = {
    name: f"shoal.policies.{name}:{name.capitalize()}"
    for name in ("balanced", "binpack", "cheapest", "greenest", "nearest", "onnx", "spread", "static")
}
"""Name → `module:Class` of the built-ins; imported only when used. They run in the planner's own process."""
