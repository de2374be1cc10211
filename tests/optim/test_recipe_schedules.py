"""The learning rate of every epoch of a recipe, against timm's scheduler driven as the recipe's source drives it."""

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import timm as _timm  # noqa: F401  (makes timm importable)
from timm.scheduler import CosineLRScheduler

from jaxvision import config as config_lib
from jaxvision.errors import UserError
from jaxvision.main import load_config
from jaxvision.train import build

ROUNDING = 1e-7  # of float32 in 1 + cos, which is near 0 at the end


def recipe_rates(recipe, batches):
    """The rate of each epoch of a config's run, with so many steps to an epoch."""
    c = config_lib.resolve(load_config(f"{cli.ROOT}/configs/{recipe}", []))
    run = build.lengths(c, batches * c.batch_size)
    assert run.total == c.epochs * batches
    rates = np.asarray(jax.vmap(build.run_schedule(c, run))(jnp.arange(run.total))).reshape(-1, batches)
    assert (rates == rates[:, :1]).all()  # it changes between epochs only
    return rates[:, 0]


class Source:
    """timm's cosine over an optimizer of one parameter."""

    def __init__(self, peak, **arguments):
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
        self.scheduler = CosineLRScheduler(self.optimizer, **arguments)

    @property
    def rate(self):
        return self.optimizer.param_groups[0]["lr"]


def deit_rates(epochs, peak, end):
    """main.py of facebookresearch/deit: an epoch is trained, then the scheduler is set by that epoch's number."""
    source = Source(peak, t_initial=epochs, lr_min=end, warmup_t=5, warmup_lr_init=1e-6)
    rates = []
    for epoch in range(epochs):
        rates.append(source.rate)
        source.scheduler.step(epoch)
    assert rates[0] == rates[1] == 1e-6
    return rates


def timm_rates(epochs, peak, *, start, end, cooldown=0):
    """timm's train.py: after an epoch the scheduler is set by the next one's number; the cooldown is appended."""
    source = Source(peak, t_initial=epochs, lr_min=end, warmup_t=5, warmup_lr_init=start, cycle_limit=1)
    rates = []
    for epoch in range(source.scheduler.get_cycle_length() + cooldown):
        rates.append(source.rate)
        source.scheduler.step(epoch + 1)
    return rates


@pytest.mark.parametrize(("recipe", "epochs", "peak"), [("deit_s.py:ti", 300, 1e-3), ("deit3_s.py", 800, 4e-3)])
def test_deits_schedule_is_one_epoch_late(recipe, epochs, peak):
    np.testing.assert_allclose(recipe_rates(recipe, 3), deit_rates(epochs, peak, 1e-5), rtol=2e-5, atol=ROUNDING * peak)


def test_timms_script_of_march_2020_appends_ten_epochs_at_the_lowest_rate():
    expected = timm_rates(240, 0.6, start=1e-4, end=1e-5, cooldown=10)
    assert len(expected) == 250 and expected[-10:] == [1e-5] * 10
    np.testing.assert_allclose(recipe_rates("seresnext50.py", 2), expected, rtol=2e-5, atol=ROUNDING * 0.6)


@pytest.mark.parametrize(
    ("recipe", "epochs", "peak"),
    [("resnet50_a1.py", 600, 5e-3), ("resnet50_a2.py", 300, 5e-3), ("resnet50_a3.py", 100, 8e-3)],
)
def test_strikes_back_starts_at_timms_default_of_its_release(recipe, epochs, peak):
    np.testing.assert_allclose(
        recipe_rates(recipe, 2), timm_rates(epochs, peak, start=1e-4, end=1e-6), rtol=2e-5, atol=ROUNDING * peak
    )


def test_a_cooldown_longer_than_the_run_is_refused():
    c = config_lib.base_config()
    c.epochs, c.schedule.cooldown_epochs = 12.0, 9.0
    with pytest.raises(
        UserError, match=r"warmup_epochs and cooldown_epochs are 14 together, more than config\.epochs = 12"
    ):
        config_lib.resolve(c)
