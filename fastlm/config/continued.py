"""Which settings of a run may change when it is resumed, and which may not."""

from fastlm.config import TrainConfig
from fastlm.config.dotted import leaves

FIXED = (
    "model",
    "optim",
    "data.sampling",
    "data.vocab_size",
    "batch_size",
    "batch_ramp",
    "batch_ramp_lr",
    "init_from",
    "seed",
)
"""Settings that a run keeps, by their dotted names; a section stands for all that is in it.

All others may change: the ends of the run, how often it validates, saves and logs, and how it is
computed. The data may move, but must be the same: fastlm.checkpoint compares their hashes.
"""


def check_continues(then: TrainConfig, now: TrainConfig, where: str) -> None:
    """Check that a run with one configuration can go on with another.

    Args:
        where: what has the earlier configuration, for the message.
    Raises:
        ValueError: if a setting of FIXED differs; the message names those that do.
    """
    before, asked = leaves(then), leaves(now)
    changed = [
        name
        for name in before
        if before[name] != asked[name] and any(f"{name}.".startswith(f"{f}.") for f in FIXED)
    ]
    if changed:
        had, wanted = (
            " and ".join(_shown(values[n]) for n in changed) for values in (before, asked)
        )
        raise ValueError(
            f"a run cannot change its {' and '.join(changed)} on the way: {where} has {had}, asked "
            f"for {wanted}; leave {'it' if len(changed) == 1 else 'them'} out, or start a new run "
            "with another --out"
        )


def _shown(value: object) -> str:
    return repr(value) if value == "" else str(value)
