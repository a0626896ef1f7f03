"""The verbs of the `shoal` command line, one file a noun; `cli.py` puts them together.

They turn arguments into calls of the API client and answers into tables, JSON or YAML; nothing here decides anything.
"""
