"""The base class of all optimizers: torch.optim.Optimizer without the import of torch._dynamo."""

import inspect

from torch.optim import Optimizer


class LightOptimizer(Optimizer):
    """torch.optim.Optimizer, some of whose methods have a wrapper that is left out here.

    The wrapper keeps Dynamo from tracing the method, and imports Dynamo for that when the method is
    first called. This takes two seconds, which only --compile needs; and Dynamo traces models and
    updates, never these methods.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
