"""The same cores under virtual time: a whole slice with its network, broker, disks and faults in one thread, by seed.

`kernel.py` is time, `network.py`, `broker.py` and `link.py` the wire, `disk.py` and `store.py` what survives a crash,
`agent.py` and `control.py` the second drivers of the cores, `invariants/` what must always hold. Nothing imports `sim`.
"""
