"""HTTP/1.1 on a bare httptools protocol: `connection.py` serves clients, `upstream.py` calls other nodes."""
