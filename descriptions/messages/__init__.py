"""What travels between control plane and agents: msgspec structs, sent as UTF-8 JSON (telemetry: msgpack columns).

`desired.py` goes down, `reported.py` goes up, `lease.py` is the talk about being alive, `joining.py` is HTTP.
Receivers ignore unknown fields; `codec.py` caps sizes and turns every malformed payload into `ProtocolError`.
"""
