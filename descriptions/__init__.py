"""What people write and what travels: kinds, units, loading, schemas, mesh messages, options, signing. Pure data.

Imports nothing, so that the agent can take the messages and the units without pydantic. Everyone imports the module
that holds the noun (`descriptions.units`, `descriptions.kinds.application`, …); nothing is re-exported here.
"""
