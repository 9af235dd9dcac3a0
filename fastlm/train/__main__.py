"""`python -m fastlm.train`: the clock starts before any slow import."""

import time

PROCESS_STARTED = time.perf_counter()

from fastlm import cli
from fastlm.devices.torchrun import left_at_once
from fastlm.train import signals
from fastlm.train.command import main

if __name__ == "__main__":
    signals.exit_on_signals()
    with left_at_once():
        cli.run(lambda: main(started=PROCESS_STARTED))
