"""Decides where replicas go: filter and score over a columnar node table, with a record that explains each decision."""
