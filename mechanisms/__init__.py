"""How the world is changed: one plugin a file, found by name, enabled by the node's operator, never by a description.

`mechanism.py` is the contract that plugin authors read, `runner.py` the extension for those that run replicas,
`registry.py` finds both. This file imports nothing.
"""
