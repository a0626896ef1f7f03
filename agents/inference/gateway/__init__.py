"""The gateway process: takes requests in, queues them, hands them to workers or other nodes, and answers.

`__main__.py` starts it. `http/` speaks HTTP, `routes.py` and `admin.py` say what a request means, `serving.py` carries
out what the pure cores `replica.py` and `pool.py` decide, `worker_link.py` and `zygote_link.py` hold the processes,
`remote.py` the other nodes. It loads no numpy and no inference library.
"""
