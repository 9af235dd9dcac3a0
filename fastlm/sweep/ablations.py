"""Named changes to a recipe: one part put in, taken out or replaced.

Each is a list of flags of fastlm.train.
"""

ABLATIONS: dict[str, tuple[str, ...]] = {
    # The four ablations of the CS336 handout.
    "no-norm": ("--model.norm", "none"),
    "post-norm": ("--model.norm", "post"),
    "nope": ("--model.position", "none"),
    "silu-ffn": ("--model.ffn", "silu", "--model.d-ff", "auto"),
    # Parts of the leaderboard recipe, to put into a recipe without them.
    "relu2-ffn": ("--model.ffn", "relu2", "--model.d-ff", "auto"),
    "no-norm-gain": ("--model.no-norm-gain",),
    "embedding-norm": ("--model.embedding-norm",),
    "qk-norm": ("--model.qk-norm",),
    "zero-init": ("--model.zero-init",),
    "residual-scalars": ("--model.residual-scalars",),
    "x0-scalars": ("--model.x0-scalars",),
    "value-embeddings": ("--model.value-embeddings",),
    "attention-gate": ("--model.attention-gate",),
    "softcap": ("--model.logit-softcap", "15"),
    "tied-at-first": ("--model.no-tie-weights", "--optim.tie-until", "0.667"),
    "normuon": (
        "--optim.name",
        "normuon",
        "--optim.orthogonalization",
        "polar-express",
        "--optim.muon-lr",
        "0.014",
    ),
    "cautious-decay": (
        "--optim.cautious-weight-decay",
        "--optim.weight-decay-schedule",
        "linear",
    ),
    # The same parts, to take out of the leaderboard recipe.
    "swiglu-ffn": ("--model.ffn", "swiglu", "--model.d-ff", "auto"),
    "norm-gain": ("--model.norm-gain",),
    "no-embedding-norm": ("--model.no-embedding-norm",),
    "no-qk-norm": ("--model.no-qk-norm",),
    "no-zero-init": ("--model.no-zero-init",),
    "no-residual-scalars": ("--model.no-residual-scalars",),
    "no-x0-scalars": ("--model.no-x0-scalars",),
    "no-value-embeddings": ("--model.no-value-embeddings",),
    "no-attention-gate": ("--model.no-attention-gate",),
    "no-softcap": ("--model.logit-softcap", "None"),
    "tied": ("--model.tie-weights", "--optim.tie-until", "0"),
    "untied": ("--model.no-tie-weights", "--optim.tie-until", "0"),
    "muon": ("--optim.name", "muon"),
    # AdamW has no cautious weight decay, and wants the rate of the baseline.
    "adamw": ("--optim.name", "adamw", "--optim.no-cautious-weight-decay", "--optim.lr", "3e-3"),
    "no-cautious-decay": (
        "--optim.no-cautious-weight-decay",
        "--optim.weight-decay-schedule",
        "constant",
    ),
    "with-replacement": ("--data.sampling", "random"),
    # Parts that no recipe has.
    "unet-skip": ("--model.unet-skip",),
    "backout": ("--model.backout",),
    "ngrams": ("--model.ngram-rows", "65536"),
    "tail-averaging": ("--optim.average-tail", "0.15"),
}

BASE = "base"
"""the unchanged recipe, with which ablations are compared"""
