"""Training: a configuration and prepared data become a model, its log and its loss curve."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.train.finishing import Summary as Summary
    from fastlm.train.run import new_run as new_run
    from fastlm.train.run import train as train

__getattr__ = lazy_names(__name__, {"Summary": "finishing", "new_run": "run", "train": "run"})
