"""Optimizer, schedule and average of the weights of a run: the original's or, with --recipe, today's."""

from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab.flags import Run
from lab.record import END, GAMMA, START, STEP_SIZE, phases_of

EVERY = 5  # steps from one update of the average to the next; the last step of an epoch always has one


class Learner(NamedTuple):
    """A network, and what changes it in every step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    average: AveragedModel | None

    @property
    def validated(self) -> nn.Module:
        """The network that is validated, and kept if it is the best."""
        return self.average.module if self.average else self.model

    @property
    def rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]


def learner_for(model: nn.Module, run: Run, steps: int) -> Learner:
    """All that trains ``model``, in so many ``steps`` an epoch, as the settings of the run say."""
    optimizer = optimizer_for(model, run)
    return Learner(model, optimizer, schedule_for(optimizer, run, steps), average_for(model, run))


def optimizer_for(model: nn.Module, run: Run) -> torch.optim.Optimizer:
    """Adam (lab report, training configuration), or what the recipe names.

    AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019). SGD has Nesterov's momentum, 0.9. Only
    matrices and kernels decay, as is usual; biases, and the scales and shifts of batch norm, do not. (In Adam, where
    weight decay is an L2 penalty, and 0 but for benchmarks/l2_penalty.py, all do: that is the default of PyTorch.)
    """
    if run.optimizer == "Adam":
        return torch.optim.Adam(model.parameters(), lr=run.lr, weight_decay=run.weight_decay, fused=True)
    kernels = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": run.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if run.optimizer == "AdamW":
        return torch.optim.AdamW(groups, lr=run.lr, fused=True)
    return torch.optim.SGD(groups, lr=run.lr, momentum=0.9, nesterov=True, fused=True)


def schedule_for(optimizer: torch.optim.Optimizer, run: Run, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule, to be called after every one of the ``steps`` of an epoch.

    StepLR (lab report, training configuration), or one cycle: the rate rises in a line, then falls in a line to almost
    nothing. Smith and Topin, "Super-Convergence" (2019).
    """
    if not run.warmup:
        return torch.optim.lr_scheduler.StepLR(optimizer, STEP_SIZE * steps, gamma=1.0 if run.constant_lr else GAMMA)
    total, top = phases_of(run.settings, steps)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=run.lr,
        total_steps=total,
        pct_start=(top + 1) / total,
        anneal_strategy="linear",
        cycle_momentum=False,
        div_factor=1 / START,
        final_div_factor=START / END,
    )


def average_for(model: nn.Module, run: Run) -> AveragedModel | None:
    """An exponential moving average of weights and batch-norm statistics, to be updated every :data:`EVERY` steps.

    In each step it keeps the share ``run.average`` of itself, at first less, so that it soon forgets the first weights.
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992). None: the run has no average.
    """
    if not run.average:
        return None

    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], _: torch.Tensor) -> None:
        updates = average.n_averaged.item()  # which is on the CPU; the argument is a copy on the weights' device
        decay = min(run.average**EVERY, (1 + updates) / (10 + updates))
        get_ema_multi_avg_fn(decay)(averages, weights, updates)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average
