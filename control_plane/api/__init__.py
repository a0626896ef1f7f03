"""The northbound API: one frozen route table makes the router, the OpenAPI document, the client and the role matrix.

`routes.py` is the table; `server.py` serves it over aiohttp; `client.py` calls it; `services.py` says what the rest of
the control plane has to offer. Handlers commit to the store and read from it; they decide nothing about placement.
"""
