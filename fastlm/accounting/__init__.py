"""Parameters, FLOPs and memory from a configuration alone."""

from typing import TYPE_CHECKING

from fastlm.lazy import lazy_names

if TYPE_CHECKING:
    from fastlm.accounting.counts import ADAMW_FLOPS_PER_PARAMETER as ADAMW_FLOPS_PER_PARAMETER
    from fastlm.accounting.counts import GPT2 as GPT2
    from fastlm.accounting.counts import adamw_flops as adamw_flops
    from fastlm.accounting.counts import count_parameters as count_parameters
    from fastlm.accounting.counts import forward_flops as forward_flops
    from fastlm.accounting.counts import forward_flops_by_part as forward_flops_by_part
    from fastlm.accounting.counts import n_value_embeddings as n_value_embeddings
    from fastlm.accounting.counts import parameters_by_part as parameters_by_part
    from fastlm.accounting.counts import training_flops_per_token as training_flops_per_token
    from fastlm.accounting.memory import StepMemory as StepMemory
    from fastlm.accounting.memory import largest_batch as largest_batch
    from fastlm.accounting.memory import saved_for_backward as saved_for_backward
    from fastlm.accounting.memory import step_memory as step_memory
    from fastlm.accounting.memory import training_memory as training_memory

__getattr__ = lazy_names(
    __name__,
    {
        "ADAMW_FLOPS_PER_PARAMETER": "counts",
        "GPT2": "counts",
        "adamw_flops": "counts",
        "count_parameters": "counts",
        "forward_flops": "counts",
        "forward_flops_by_part": "counts",
        "n_value_embeddings": "counts",
        "parameters_by_part": "counts",
        "training_flops_per_token": "counts",
        "StepMemory": "memory",
        "largest_batch": "memory",
        "saved_for_backward": "memory",
        "step_memory": "memory",
        "training_memory": "memory",
    },
)
