"""A training that is stopped, for tests of how it goes on."""

import pytest

from attention.training import Trainer


def stop_after_an_epoch(train, monkeypatch):
    """Call `train` for one more epoch, and stop it as a keyboard interrupt does."""
    save = Trainer.save

    def save_and_stop(self, path):
        save(self, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train()
