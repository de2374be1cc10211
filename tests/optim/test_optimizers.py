"""Optimizers, schedules and losses against timm, torch and TensorFlow's formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import relative_error, timm
from timm import loss as timm_loss
from timm import optim as timm_optim
from timm import scheduler as timm_scheduler

from jaxvision.errors import UserError
from jaxvision.optim import losses, optimizers, schedules
from jaxvision.optim.groups import rate_multiples

RULES = ((r".*:[2-9]d", 1.0), (r".*:[01]d", 0.0))
ALL = ((r".*", 1.0),)
WD = 0.05


def make_optimizer(params, **fields):
    return optimizers.make_optimizer(optimizers.OptimizerConfig(**fields), params)


def torch_adamw(groups):
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8)


CASES = {
    "sgd": ({"name": "sgd", "nesterov": False}, lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.9)),
    "sgd nesterov": (
        {"name": "sgd", "nesterov": True},
        lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.9, nesterov=True),
    ),
    "adamw": ({"name": "adamw"}, torch_adamw),
    "rmsprop_tf": (
        {"name": "rmsprop_tf", "eps": 1e-3},
        lambda g: timm_optim.RMSpropTF(g, lr=1.0, alpha=0.9, eps=1e-3, momentum=0.9),
    ),
    "lamb": ({"name": "lamb", "eps": 1e-6}, lambda g: timm_optim.Lamb(g, lr=1.0)),
    "lars": (
        {"name": "lars", "eps": 1e-8, "trust_coefficient": 0.001, "nesterov": False},
        lambda g: timm_optim.Lars(g, lr=1.0, momentum=0.9, trust_coeff=0.001, eps=1e-8),
    ),
    "lars nesterov": (
        {"name": "lars", "eps": 1e-8, "nesterov": True},
        lambda g: timm_optim.Lars(g, lr=1.0, momentum=0.9, nesterov=True, trust_coeff=0.001, eps=1e-8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rules", [RULES, ALL], ids=["kernels", "all"])
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_equal_the_reference(case, rules):
    arguments, make = CASES[case]
    rng = np.random.default_rng(0)
    params = {
        "a": {"weight": rng.standard_normal((4, 3, 3, 2), np.float32), "bias": rng.standard_normal(4, np.float32)},
        "b": {"weight": rng.standard_normal((5, 4), np.float32)},
        "zero": {"weight": np.zeros((3, 3), np.float32)},
    }
    start = [np.array(leaf) for leaf in jax.tree.leaves(params)]
    optimizer = make_optimizer(params, weight_decay=WD, decay_rules=rules, **arguments)
    leaves = [torch.nn.Parameter(torch.from_numpy(np.array(leaf))) for leaf in jax.tree.leaves(params)]
    decays = [WD if rules is ALL or leaf.ndim > 1 else 0.0 for leaf in leaves]
    reference = make([{"params": [p], "weight_decay": d} for p, d in zip(leaves, decays, strict=True)])
    schedule = make_schedule("cosine", 0.1, total_steps=20, warmup_steps=5, start=0.001, end=0.001)
    state = optimizer.init(params)
    update = jax.jit(lambda g, s, p, rate: optimizer.update(g, s, p, learning_rate=rate))
    for step in range(20):
        # Large and small gradients: LAMB's clipping at 1 must be met on both sides.
        size = 10 if step % 3 else 0.05
        grads = jax.tree.map(lambda p, size=size: rng.standard_normal(p.shape, np.float32) * size, params)
        if step < 4:
            grads["zero"]["weight"] *= 0
        rate = float(schedule(step))
        updates, state = update(grads, state, params, rate)
        params = jax.tree.map(jnp.add, params, updates)
        for group, leaf, grad in zip(reference.param_groups, leaves, jax.tree.leaves(grads), strict=True):
            group["lr"] = rate
            leaf.grad = torch.from_numpy(np.array(grad))
        reference.step()
    for ours, theirs, before in zip(jax.tree.leaves(params), leaves, start, strict=True):
        # The error of the way gone, not of the weights' size.
        assert relative_error(ours - before, theirs.detach().numpy() - before) < 1e-5


def test_rmsprop_is_tensorflows_formula():
    rng = np.random.default_rng(1)
    p = rng.standard_normal(6).astype(np.float64)
    square, buffer, value = np.ones(6), np.zeros(6), p.copy()
    with jax.enable_x64(True):
        params = {"w": jnp.asarray(p)}
        optimizer = make_optimizer(params, name="rmsprop_tf", eps=1e-3, weight_decay=1e-2, decay_rules=ALL)
        state = optimizer.init(params)
        for step in range(10):
            g, rate = rng.standard_normal(6), 0.1 / (1 + step)
            updates, state = optimizer.update({"w": jnp.asarray(g)}, state, params, learning_rate=rate)
            params = jax.tree.map(jnp.add, params, updates)
            g = g + 1e-2 * value
            square = 0.9 * square + 0.1 * g * g
            buffer = 0.9 * buffer + rate * g / np.sqrt(square + 1e-3)
            value = value - buffer
        np.testing.assert_allclose(params["w"], value, rtol=1e-12)


def test_clipping_and_rates_per_parameter():
    rng = np.random.default_rng(0)
    params = {
        "a": {"weight": rng.standard_normal((4, 3, 3, 2), np.float32) * 0.01},
        "fc": {"weight": np.ones((2, 3), np.float32)},
        "frozen": {"bias": np.ones(3, np.float32)},
    }
    grads = jax.tree.map(lambda p: rng.standard_normal(p.shape, np.float32), params)
    common = {"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "decay_rules": ALL}
    rates = ((r"a\..*", 0.5), (r"fc\..*", 1.0), (r"frozen\..*", 0.0))

    def updated(**arguments):
        optimizer = make_optimizer(params, **common, **arguments)
        return optimizer.update(grads, optimizer.init(params), params, learning_rate=1.0)[0]

    tensors = [torch.nn.Parameter(torch.from_numpy(np.array(p))) for p in jax.tree.leaves(params)]
    for tensor, grad in zip(tensors, jax.tree.leaves(grads), strict=True):
        tensor.grad = torch.from_numpy(np.array(grad))
    torch.nn.utils.clip_grad_norm_(tensors, 0.7)
    for ours, tensor in zip(jax.tree.leaves(updated(clip_norm=0.7)), tensors, strict=True):
        assert relative_error(-ours, tensor.grad.numpy()) < 1e-6

    for tensor, grad in zip(tensors, jax.tree.leaves(grads), strict=True):
        tensor.grad = torch.from_numpy(np.array(grad))
    timm.utils.agc.adaptive_clip_grad([tensors[0], tensors[2]], clip_factor=0.02)
    rules = ((r"fc\..*", 0.0), (r"(a|frozen)\..*", 1.0))
    for ours, tensor in zip(jax.tree.leaves(updated(clip_adaptive=0.02, clip_rules=rules)), tensors, strict=True):
        assert relative_error(-ours, tensor.grad.numpy()) < 1e-6

    scaled = updated(rate_rules=rates)
    np.testing.assert_allclose(scaled["a"]["weight"], -0.5 * grads["a"]["weight"], rtol=1e-6)
    assert not np.any(scaled["frozen"]["bias"])
    with pytest.raises(UserError, match=r"exactly one learning-rate rule, 1 do not"):
        rate_multiples(params, rates[:2])
    # What is frozen counts in no norm, as a parameter without gradient in torch.
    clipped = updated(freeze=r"frozen.*", clip_norm=0.7)
    norm = np.sqrt(sum(np.sum(np.square(grads[k]["weight"])) for k in ("a", "fc")))
    np.testing.assert_allclose(clipped["fc"]["weight"], -grads["fc"]["weight"] * 0.7 / (norm + 1e-6), rtol=1e-5)
    assert not np.any(clipped["frozen"]["bias"])
    for freeze, message in (("x.*", "no parameter"), (".*", "every parameter"), ("(", "not a regular expression")):
        with pytest.raises(UserError, match=message):
            rate_multiples(params, ALL, freeze=freeze)


def test_adamw_keeps_its_first_moment_in_bfloat16_on_request():
    params = {"w": jnp.ones((3, 3))}
    optimizer = make_optimizer(params, name="adamw", first_moment="bfloat16", weight_decay=0.0, decay_rules=ALL)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(optimizer.init(params)) if leaf.ndim}
    assert dtypes == {jnp.dtype("bfloat16"), jnp.dtype("float32")}


def timm_values(name, epochs, steps_per_epoch, **arguments):
    """timm's scheduler as its train script drives it: set before each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = {"cosine": timm_scheduler.CosineLRScheduler, "step": timm_scheduler.StepLRScheduler}[name](
        optimizer, **arguments
    )
    values = []
    for epoch in range(epochs):
        scheduler.step(epoch)
        values += [optimizer.param_groups[0]["lr"]] * steps_per_epoch
    return values


def make_schedule(name, peak, *, total_steps, warmup_steps=0, steps_per_epoch=1, start=0.0, end=0.0, **fields):
    """A schedule whose lengths are in epochs of ``steps_per_epoch``, which are steps where that is 1."""
    config = schedules.ScheduleConfig(name=name, start_learning_rate=start, end_learning_rate=end, **fields)
    return schedules.make_schedule(
        config, peak, total_steps=total_steps, warmup_steps=warmup_steps, steps_per_epoch=steps_per_epoch
    )


def ours(count, *args, **kwargs):
    return np.asarray(jax.vmap(make_schedule(*args, **kwargs))(jnp.arange(count)))


def test_every_value_of_timms_schedules():
    expected = timm_values("cosine", 30, 7, t_initial=30, lr_min=1e-3, warmup_t=5, warmup_lr_init=1e-4)
    epochs = {"steps_per_epoch": 7, "per_epoch": True, "total_steps": 210, "warmup_steps": 35}
    arguments = epochs | {"warmup": "under", "start": 1e-4, "end": 1e-3}
    np.testing.assert_allclose(ours(210, "cosine", 0.4, **arguments), expected, rtol=2e-5)
    expected = timm_values(
        "cosine", 30, 7, t_initial=25, lr_min=1e-3, warmup_t=5, warmup_lr_init=1e-4, warmup_prefix=True
    )
    arguments["warmup"] = "after"
    np.testing.assert_allclose(ours(210, "cosine", 0.4, **arguments), expected, rtol=2e-5)
    expected = timm_values(
        "step", 30, 7, decay_t=2.4, decay_rate=0.97, warmup_t=5, warmup_lr_init=1e-6, warmup_prefix=False
    )
    arguments = epochs | {"warmup": "under", "start": 1e-6, "decay_epochs": 2.4}
    found = ours(210, "exponential", 0.4, **arguments)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    # Swin steps per iteration, with the prefix.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    swin = timm_scheduler.CosineLRScheduler(
        optimizer,
        t_initial=100 - 20,
        lr_min=1e-2,
        warmup_lr_init=1e-3,
        warmup_t=20,
        t_in_epochs=False,
        warmup_prefix=True,
    )
    expected = []
    for step in range(100):
        swin.step_update(step)
        expected.append(optimizer.param_groups[0]["lr"])
    found = ours(100, "cosine", 0.4, total_steps=100, warmup_steps=20, start=1e-3, end=1e-2)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_every_value_of_convnexts_torchvisions_and_tensorflows_schedules():
    warmup = np.linspace(0, 4e-3, 20)
    rest = [1e-6 + 0.5 * (4e-3 - 1e-6) * (1 + np.cos(np.pi * i / 80)) for i in range(80)]
    found = ours(100, "cosine", 4e-3, total_steps=100, warmup_steps=20, warmup="linspace", end=1e-6)
    np.testing.assert_allclose(found, np.concatenate([warmup, rest]), rtol=2e-5, atol=1e-9)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25, eta_min=0.0)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers=[linear, cosine], milestones=[5])
    expected = []
    for _ in range(30):
        expected += [optimizer.param_groups[0]["lr"]] * 3
        optimizer.step()
        both.step()
    found = ours(90, "cosine", 0.5, total_steps=90, warmup_steps=15, start=0.005, steps_per_epoch=3, per_epoch=True)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-8)

    # tensorflow/tpu's EfficientNet: a staircase from step 0 under a linear warm-up.
    expected = [0.256 * s / 50 if s < 50 else 0.256 * 0.97 ** (s // 24) for s in range(300)]
    arguments = {"total_steps": 300, "warmup_steps": 50, "warmup": "under", "decay_epochs": 24}
    np.testing.assert_allclose(ours(300, "exponential", 0.256, **arguments), expected, rtol=2e-5)
    expected = [0.1 * 0.1 ** ((s >= 30) + (s >= 60)) for s in range(90)]
    found = ours(90, "step", 0.1, total_steps=90, boundaries=(30, 60), decay_rate=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((8, 5), np.float32) * 4, np.arange(8) % 5
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), label_smoothing=smoothing, reduction="none"
    )
    targets = losses.smoothed_one_hot(labels, 5, smoothing)
    np.testing.assert_allclose(losses.softmax_cross_entropy(logits, targets), expected.numpy(), rtol=3e-6, atol=1e-6)
    soft = rng.dirichlet(np.ones(5), 8).astype(np.float32)
    expected = timm_loss.SoftTargetCrossEntropy()(torch.from_numpy(logits), torch.from_numpy(soft))
    assert abs(losses.softmax_cross_entropy(logits, soft).mean() - float(expected)) < 1e-5


@pytest.mark.parametrize("sum_classes", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.0, 0.2])
def test_binary_cross_entropy_equals_timm(threshold, sum_classes):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((8, 5), np.float32) * 30, np.arange(8) % 5
    theirs = timm_loss.BinaryCrossEntropy(0.1, threshold, sum_classes=sum_classes)
    targets = losses.smoothed_one_hot(labels, 5, 0.1)
    ours = losses.binary_cross_entropy(logits, targets, threshold=threshold, sum_classes=sum_classes).mean()
    np.testing.assert_allclose(ours, float(theirs(torch.from_numpy(logits), torch.from_numpy(labels))), rtol=1e-5)
    mixed = 0.3 * targets + 0.7 * targets[::-1]
    ours = losses.binary_cross_entropy(logits, mixed, threshold=threshold, sum_classes=sum_classes).mean()
    expected = theirs(torch.from_numpy(logits), torch.from_numpy(np.array(mixed)))
    np.testing.assert_allclose(ours, float(expected), rtol=1e-5)


def test_distillation_is_deits():
    rng = np.random.default_rng(0)
    student, teacher = (rng.standard_normal((8, 5), np.float32) * 3 for _ in range(2))
    s, t = torch.from_numpy(student), torch.from_numpy(teacher)
    hard = torch.nn.functional.cross_entropy(s, t.argmax(1))
    found = losses.distillation(losses.TeacherConfig(kind="hard"), student, teacher).mean()
    np.testing.assert_allclose(found, float(hard), rtol=1e-5)
    config = losses.TeacherConfig(kind="soft", temperature=3.0)
    log_p, log_q = (torch.log_softmax(x / 3.0, 1) for x in (s, t))
    soft = torch.nn.functional.kl_div(log_p, log_q, reduction="sum", log_target=True) * 9.0 / s.numel()
    found = losses.distillation(config, student, teacher).mean()
    np.testing.assert_allclose(found, float(soft), rtol=1e-5)
    gradient = jax.grad(lambda t: losses.distillation(config, student, t).sum())(teacher)
    assert not np.any(gradient)
