"""One call of an entry point: verified, run, compiled, forked, interrupted, and brought to its end."""
