"""python -m fastlm.train: the clock and the signals come before anything slow is imported."""

import time

PROCESS_STARTED = time.perf_counter()

from fastlm.train import signals

if __name__ == "__main__":
    signals.exit_on_signals()

from fastlm import cli
from fastlm.devices.torchrun import left_at_once
from fastlm.train.command import main

if __name__ == "__main__":
    with left_at_once():
        cli.run(lambda: main(started=PROCESS_STARTED))
