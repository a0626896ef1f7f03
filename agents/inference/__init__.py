"""A node's data path: `gateway/` takes requests in, `worker/` answers them, `plugins/` know the model formats.

The gateway process parses HTTP, queues and forwards; it imports no numpy and no inference library. One zygote per
runtime forks one worker per replica; a worker parses the tensors, runs the model and writes the answer. `frames.py` is
what gateway and worker say to each other, `spawning.py` what gateway and zygote do; `docs/inference.md` tells it all.
"""
