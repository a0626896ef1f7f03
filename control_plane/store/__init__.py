"""The control plane's durable memory: what was committed, in order, and who may commit next.

`Store` (store.py) is the door: `await store.write(fn)` runs `fn(tx)` in the one writer thread and returns once the rows
are on disk; `await store.read(fn)` runs over a consistent snapshot; `store.watch(...)` follows commits. Model contents
lie next to the database by digest (blobs.py). This package is the only place that imports SQLAlchemy or Alembic, and
it knows nothing of kinds: documents are bytes.
"""
