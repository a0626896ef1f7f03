"""What must hold after every step of every run: one small function for each invariant, told of every fact.

`ledger.py` is what they remember and how they are registered; `ordering.py`, `durability.py` and `availability.py` hold
them by theme. I1 to I18 are named as in the protocol's failure model; `docs/simulation.md` lists them. I18 and I24 are
statements about two runs and live in `../twins.py`.
"""

from __future__ import annotations

from . import availability, durability, ordering
from .ledger import CHECKS, Check, Ledger, Violation

__all__ = ["CHECKS", "Check", "Ledger", "Violation", "availability", "durability", "ordering"]
