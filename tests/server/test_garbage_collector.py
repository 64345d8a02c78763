"""A server that is ready collects its garbage again."""

import gc

from server.serving import _calm_garbage_collector


def test_the_collector_is_on_when_the_server_is_ready() -> None:
    thresholds = gc.get_threshold()
    gc.disable()
    try:
        _calm_garbage_collector()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*thresholds)
