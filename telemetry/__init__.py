"""What is seen: metrics, windows, logs and the MQTT link. Import the module that you need; this file imports nothing.

`link`, `reader`, `host`, `receiver` and `logs` run on agents and stay free of numpy, pydantic, aiohttp and
prometheus_client; `windows`, `prometheus` and `otlp` belong to the control plane.
"""
