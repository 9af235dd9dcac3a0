"""Named changes to a recipe: one part of the network taken away or replaced.

Each is what the command line of fastlm.train would say.
"""

ABLATIONS: dict[str, tuple[str, ...]] = {
    # The CS336 handout's four.
    "no-norm": ("--model.norm", "none"),
    "post-norm": ("--model.norm", "post"),
    "nope": ("--model.position", "none"),
    "silu-ffn": ("--model.ffn", "silu", "--model.d-ff", "auto"),
    # Other parts in place of the recipe's, or beside them.
    "swiglu-ffn": ("--model.ffn", "swiglu", "--model.d-ff", "auto"),
    "relu2-ffn": ("--model.ffn", "relu2", "--model.d-ff", "auto"),
    "untied": ("--model.no-tie-weights", "--optim.tie-until", "0"),
    "tied": ("--model.tie-weights", "--optim.tie-until", "0"),
    "qk-norm": ("--model.qk-norm",),
    "zero-init": ("--model.zero-init",),
    "unet-skip": ("--model.unet-skip",),
    "backout": ("--model.backout",),
    "ngrams": ("--model.ngram-rows", "65536"),
    # Parts that the leaderboard's recipe has.
    "no-qk-norm": ("--model.no-qk-norm",),
    "no-norm-gain": ("--model.no-norm-gain",),
    "no-embedding-norm": ("--model.no-embedding-norm",),
    "no-zero-init": ("--model.no-zero-init",),
    "no-residual-scalars": ("--model.no-residual-scalars",),
    "no-x0-scalars": ("--model.no-x0-scalars",),
    "no-value-embeddings": ("--model.no-value-embeddings",),
    "no-attention-gate": ("--model.no-attention-gate",),
    "no-softcap": ("--model.logit-softcap", "None"),
    "with-replacement": ("--data.sampling", "random"),
}

BASE = "base"
"""the recipe as it is, which ablations are compared with"""
