"""The garbage collection of processes that run for long."""

import gc


def tune_garbage_collection() -> None:
    """Freeze long-lived objects, and look for cycles less often: records, batches and requests form
    few, yet the default scans them all every few hundred mails."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
