"""The processes behind a gateway: a zygote per runtime, forked workers that each hold one model."""
