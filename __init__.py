"""Shoal: an edge-to-cloud agent mesh.

Each slice of the continuum has its own control plane. It reads YAML descriptions, runs policy plugins that decide
placement, and agents on cloud, edge and far-edge nodes carry the decisions out. Start at `README.md`.
"""

__version__ = "0.1.0"
