"""Jobs on a toy model, for the tests of training."""

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mofa_nb.config import Settings
from mofa_nb.train.job import Job
from mofa_nb.train.loop import Schedule
from mofa_nb.train.stages import STAGES


def script_of(name):
    """A script beside the weights, as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "weights")
        return importlib.import_module(name)


def job_for(stage, model, data, **changes):
    made = Job(
        stage=stage, model=model, data=data, out=model, batch=2, frames=4, size=(64, 64),
        schedule=Schedule(steps=6, lr=5e-3, warmup=1), device="cpu", clips_share=0.0,
        pool=2, chunk=2, renew=0,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def loss_for(job, parts):
    """The loss of a job's stage on opened parts."""
    return STAGES[job.stage].loss(job, parts, Settings.load(job.model / "settings.json"))


def sums(part):
    """The sum of each of a part's tensors."""
    return [float(value.float().sum()) for value in part.state_dict().values()]


def asked(stage, model, data, out, *more):
    """The command line of a short run that logs every step."""
    return [
        stage, "--model", str(model), "--data", str(data), "--out", str(out), "--device", "cpu",
        "--size", "64", "64", "--frames", "4", "--batch", "1", "--log-every", "1", "--log-with",
        *more,
    ]  # fmt: skip


def changed(before, after, atol=1e-3):
    """Names of what differs between two networks."""
    other = after.state_dict()
    return {k for k, v in before.state_dict().items() if not torch.allclose(v, other[k], atol=atol)}


def line(seed=0, dtype=torch.float32):
    """The smallest network."""
    torch.manual_seed(seed)
    return nn.Linear(1, 1).to(dtype)


def schedule(steps, lr=0.05, **settings):
    """At a constant rate."""
    return Schedule(steps=steps, lr=lr, **({"warmup": 1, "decay": "constant"} | settings))


def noisy(net):
    """To learn y = 2 x, with randomness of every kind."""

    def loss_of(turn):
        x = torch.randn(8, 1) + float(np.random.rand())
        return (net(x.to(net.weight.dtype)).float() - 2 * x).square().mean(), {}

    return loss_of
