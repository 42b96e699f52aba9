"""What changes a network in every step: optimizer, learning rate and average of the weights."""

from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab.schedule import rate_of
from lab.settings import Settings

EVERY = 5  # steps from one update of the average to the next; the last step of an epoch always has one


class Learner(NamedTuple):
    """A network that is trained, and what trains it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    settings: Settings
    steps: int  # in an epoch

    @property
    def validated(self) -> nn.Module:
        """The network that is validated, and kept if it is the best."""
        return self.average.module if self.average else self.model

    def set_rate(self, step: int) -> None:
        """Set the learning rate of a step, counted from 0 over the whole run."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_of(self.settings, step, self.steps)


def learner_for(model: nn.Module, settings: Settings, steps: int) -> Learner:
    """All that trains ``model``, in so many ``steps`` an epoch."""
    return Learner(model, optimizer_for(model, settings), average_for(model, settings.average), settings, steps)


def optimizer_for(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Adam (lab report, training configuration), or another. In Adam and SGD, weight decay is an L2 penalty.

    In AdamW it is not: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
    """
    kernels = [weight for weight in model.parameters() if weight.ndim > 1 or settings.decayed == "all"]
    others = [weight for weight in model.parameters() if weight.ndim <= 1 and settings.decayed != "all"]
    groups = {"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}
    how = {"momentum": 0.9, "nesterov": True} if settings.optimizer == "SGD" else {}
    how |= {"lr": settings.lr, "fused": True}
    return getattr(torch.optim, settings.optimizer)([group for group in groups if group["params"]], **how)


def average_for(model: nn.Module, share: float) -> AveragedModel | None:
    """An exponential moving average of weights and batch-norm statistics, to be updated every :data:`EVERY` steps.

    In each step it keeps this ``share`` of itself, at first less, so that it soon forgets the first weights. Polyak and
    Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992). None: the share is 0.
    """
    if not share:
        return None

    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], _: torch.Tensor) -> None:
        updates = average.n_averaged.item()  # which is on the CPU; the argument is a copy on the weights' device
        decay = min(share**EVERY, (1 + updates) / (10 + updates))
        get_ema_multi_avg_fn(decay)(averages, weights, updates)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average
