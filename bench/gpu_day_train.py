"""fastlm.train for gpu_day, with the data made first where there are none.

python bench/gpu_day_train.py [--make-data] FLAGS OF fastlm.train
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from fastlm import cli  # noqa: E402
from fastlm.train import command  # noqa: E402


def main(words: list[str]) -> None:
    """Make the folder after --data if --make-data is the first word; then train."""
    started = time.perf_counter()
    if words[:1] == ["--make-data"]:
        words = words[1:]
        folder = Path(words[words.index("--data") + 1])
        if not folder.exists():
            from random_data import make_random_data

            place = words.index("--data")
            make_random_data(folder, command.configuration(words[:place] + words[place + 2 :]))
            print(f"made tokens: {folder}", flush=True)
    command.main(words, started=started)


if __name__ == "__main__":
    cli.run(lambda: main(sys.argv[1:]))
