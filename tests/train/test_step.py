"""The train step's parts against torch, timm and optax's maths; guards, accumulation, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import relative_error, timm

import jaxvision
from jaxvision.config import Config
from jaxvision.models.registry import build_module
from jaxvision.models.resnet import ResNet
from jaxvision.models.variables import init_variables
from jaxvision.optim import optimizers
from jaxvision.optim.ema import EmaConfig, ema_rate, ema_update
from jaxvision.optim.losses import LossConfig, smoothed_one_hot, softmax_cross_entropy
from jaxvision.train import sharding
from jaxvision.train.metrics import EVAL_METRICS, TRAIN_METRICS, add_sums, batch_sums, compute, zero_sums
from jaxvision.train.state import create_state, flatten, unflatten
from jaxvision.train.step import make_eval_step, make_train_step

RULES = ((r".*:[2-9]d", 1.0), (r".*:[01]d", 0.0))
SGD = optimizers.OptimizerConfig(name="sgd", weight_decay=1e-3, decay_rules=RULES)  # momentum 0.9, Nesterov
NAME = "resnet10t"


def setup(*, devices=1, distill=None, **options):
    module_options = {k: options.pop(k) for k in ("bn_groups", "drop_rate", "drop_path_rate") if k in options}
    module = ResNet((1, 1, 0, 0), num_classes=5, bottleneck=False, stem="deep", **module_options)
    variables = init_variables(module, jax.random.key(0))
    optimizer = optimizers.make_optimizer(SGD, variables["params"])
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), "data")
    config = Config(**{"log_every": 1, "loss": LossConfig(label_smoothing=0.1), **options})
    step = make_train_step(config, module, optimizer, lambda s: 0.05, distill=distill)
    state = sharding.replicate(mesh, create_state(variables, optimizer))
    full, cut = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    return module, state, jax.jit(step, in_shardings=(full, cut, cut), out_shardings=full)


def data(n=16, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, size, size, 3), np.float32), rng.integers(0, 5, n).astype(np.int32)


def test_rules_must_match_exactly_once():
    params = {"fc": {"weight": np.zeros((2, 2)), "bias": np.zeros(2)}}
    tree = optimizers.match_rules(params, ((r"fc\.weight:2d", 2.0), (r".*:1d", 3.0)))
    assert tree == {"fc": {"weight": 2.0, "bias": 3.0}}
    with pytest.raises(
        ValueError, match=r"2 do not(.|\n)*fc.bias:1d: matched by no rule(.|\n)*fc.weight:2d: matched by \["
    ):
        optimizers.match_rules(params, ((r"fc\.w.*", 1.0), (r".*:2d", 1.0)))
    with pytest.raises(ValueError, match="no regular expression"):
        optimizers.match_rules(params, (("(", 1.0),))


def test_ema_follows_tensorflow_and_timm():
    value, average = {"w": np.float32([1, 2])}, {"w": np.float32([0, 0])}
    expected = average["w"].astype(np.float64)
    for step in range(50):
        value = {"w": value["w"] + 1}
        rate = ema_rate(EmaConfig(decay=0.9, warmup=True), jnp.int32(step))
        average = ema_update(average, value, rate)
        d = min(0.9, (2 + step) / (11 + step))  # TensorFlow counts the first update before it averages
        expected = d * expected + (1 - d) * value["w"]
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5)

    net, constant = torch.nn.Linear(2, 2), EmaConfig(decay=0.9, warmup=False)
    theirs = timm.utils.ModelEmaV3(net, decay=0.9)
    ours = {"w": net.weight.detach().numpy().copy()}
    for step in range(5):
        with torch.no_grad():
            net.weight += 1
        theirs.update(net)
        ours = ema_update(ours, {"w": net.weight.detach().numpy()}, ema_rate(constant, jnp.int32(step)))
    np.testing.assert_allclose(ours["w"], theirs.module.weight.detach().numpy(), rtol=1e-5)


@pytest.mark.slow
def test_ten_whole_steps_equal_timm_in_float64():
    """Loss, parameters, EMA and BN statistics after 10 steps: timm's model with torch's loss and optimizer."""
    with jax.enable_x64(True):
        reference = timm.create_model(NAME, num_classes=5).double().train()
        model = jaxvision.create_model(NAME, num_classes=5, weights=reference.state_dict(), dtype=jnp.float64)
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), model.variables)
        optimizer = optimizers.make_optimizer(SGD, variables["params"])
        config = Config(log_every=1, loss=LossConfig(label_smoothing=0.1), ema=EmaConfig(decay=0.8, warmup=False))
        step = jax.jit(make_train_step(config, model.module, optimizer, lambda s: 0.05))
        state = create_state(variables, optimizer)
        decayed = [p for p in reference.parameters() if p.ndim > 1]
        plain = [p for p in reference.parameters() if p.ndim == 1]
        groups = [{"params": decayed, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}]
        theirs = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
        average = timm.utils.ModelEmaV3(reference, decay=0.8)
        for i in range(10):
            x, y = data(seed=i)
            x = x.astype(np.float64)
            loss = torch.nn.functional.cross_entropy(
                reference(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())),
                torch.from_numpy(y).long(),
                label_smoothing=0.1,
            )
            theirs.zero_grad()
            loss.backward()
            theirs.step()
            average.update(reference)
            state, report = step(state, x, y)
            value = float(report["metrics"]["loss"]["total"]) / 16
            assert abs(value - loss.item()) < 1e-4 * loss.item(), i
        for weights, module in (
            ({"params": state.params, "batch_stats": state.batch_stats}, reference),
            ({"params": state.ema_params, "batch_stats": state.ema_batch_stats}, average.module),
        ):
            ours = jaxvision.to_torch(model.with_variables(weights))
            for key, tensor in module.state_dict().items():
                if not key.endswith("num_batches_tracked"):
                    assert relative_error(ours[key], tensor.numpy()) < 1e-4, key


def test_a_bad_step_changes_nothing_but_counters():
    _, state, step = setup(max_bad_steps=2, log_every=100)
    x, y = data()
    state, _ = step(state, x, y)
    poisoned = x.copy()
    poisoned[3, 0, 0, 0] = np.nan
    after, report = step(state, poisoned, y)
    before, now = flatten(state), flatten(after)
    changed = [name for name in before if not np.array_equal(before[name], now[name])]
    assert sorted(changed) == ["bad_in_row", "bad_total", "step"]
    assert int(report["bad_in_row"]) == 1 and int(after.step) == 2
    # A good step resets the row; two bad ones in a row stay visible for the loop.
    good, _ = step(after, x, y)
    assert int(good.bad_in_row) == 0 and int(good.bad_total) == 1
    for _ in range(2):
        good, _ = step(good, poisoned, y)
    good, report = step(good, x, y)
    assert int(report["bad_in_row"]) == 2
    # Infinite statistics with a finite loss are caught too.
    huge = x * np.float32(1e25)
    after, report = step(state, huge, y)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, after.batch_stats, after.ema_params)))


def test_a_gradient_of_nan_behind_a_finite_loss_changes_nothing():
    def distill(losses, logits, images, teacher):
        # The square root of zero: its value is 0, its derivative infinite, and times zero it is no number.
        return losses + jnp.sqrt(jnp.abs(logits - jax.lax.stop_gradient(logits))).sum(1)

    _, state, step = setup(distill=distill)
    after, _ = step(state, *data())
    assert int(after.bad_total) == 1
    for old, new in zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(old, new)


def test_metrics_restart_at_each_log_interval_and_ignore_bad_steps():
    _, state, step = setup(log_every=3)
    x, y = data()
    counts = []
    for i in range(5):
        state, report = step(state, np.full_like(x, np.nan) if i == 1 else x, y)
        counts.append(int(report["metrics"]["loss"]["count"]))
    assert counts == [16, 16, 32, 16, 32]


def reductions(step, state, x, y):
    text = step.lower(state, x, y).compile().as_text()
    return text.count(" all-reduce(") + text.count(" all-reduce-start(")


@pytest.mark.slow
def test_eight_devices_equal_one_and_per_device_groups_do_not_mix():
    x, y = data(32)
    _, one, step1 = setup(devices=1)
    _, eight, global8 = setup(devices=8)
    for _ in range(3):
        one, r1 = step1(one, x, y)
        eight, r8 = global8(eight, x, y)
    assert abs(float(r1["metrics"]["loss"]["total"]) - float(r8["metrics"]["loss"]["total"])) < 1e-3
    assert relative_error(eight.params["fc"]["weight"], one.params["fc"]["weight"]) < 2e-3
    # Per-device statistics are the same on one device in eight groups.
    _, one, step1 = setup(devices=1, bn_groups=8)
    _, eight, step8 = setup(devices=8, bn_groups=8)
    one, r1 = step1(one, x, y)
    eight, r8 = step8(eight, x, y)
    assert abs(float(r1["metrics"]["loss"]["total"]) - float(r8["metrics"]["loss"]["total"])) < 1e-3
    # ... and cost fewer collectives than global ones.
    assert reductions(step8, eight, x, y) < reductions(global8, eight, x, y)


@pytest.mark.slow
def test_accumulation_equals_the_mean_of_its_parts():
    x, y = data(16)
    _, state, step = setup(accumulate=2, loss=LossConfig())
    new, report = step(state, x, y)
    module, same, _ = setup()
    stats, grads = same.batch_stats, []
    for part in (0, 1):

        def loss(params, stats=stats, part=part):
            logits, updated = module.apply({"params": params, "batch_stats": stats}, x[part::2], train=True,
                                           mutable=["batch_stats"])  # fmt: skip
            losses = softmax_cross_entropy(logits, smoothed_one_hot(y[part::2], 5))
            return losses.mean(), updated["batch_stats"]

        grad, stats = jax.jit(jax.grad(loss, has_aux=True))(same.params)
        grads.append(grad)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *grads)
    expected = jax.tree.map(lambda p, g: p - 0.05 * 1.9 * (g + (1e-3 * p if p.ndim > 1 else 0)), same.params, mean)
    for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(expected), strict=True):
        assert relative_error(a, b) < 1e-4
    assert relative_error(new.batch_stats["bn1"]["running_var"], stats["bn1"]["running_var"]) < 1e-5
    assert int(report["metrics"]["loss"]["count"]) == 16


def test_dropout_keys_change_with_step_and_seed():
    x, y = data()
    _, state, step = setup(drop_rate=0.5, drop_path_rate=0.5)
    _, same, again = setup(drop_rate=0.5, drop_path_rate=0.5)
    _, _, other = setup(drop_rate=0.5, drop_path_rate=0.5, seed=1)

    def loss(step, state):
        return float(step(state, x, y)[1]["metrics"]["loss"]["total"])

    assert loss(step, state) == loss(again, same)
    assert loss(step, state) != loss(other, same)
    assert loss(step, state) != loss(step, state.replace(step=state.step + 1))


def test_evaluation_counts_and_masks():
    module = build_module(NAME, num_classes=7)
    variables = init_variables(module, jax.random.key(0))
    program = jax.jit(make_eval_step(module))
    x, y = data(10)
    mask = np.arange(10) < 7
    sums = program(variables["params"], variables["batch_stats"], x, y, mask, zero_sums(EVAL_METRICS))
    logits = np.asarray(module.apply(variables, x))
    order = np.argsort(-logits, 1)
    result = compute(EVAL_METRICS, jax.device_get(sums))
    assert int(sums["top1"]["count"]) == 7
    assert result["top1"] == pytest.approx(100 * (order[:7, 0] == y[:7]).mean())
    assert abs(result["top5"] - 100 * np.mean([y[i] in order[i, :5] for i in range(7)])) < 1e-4


def test_metrics_without_clu_are_the_same(monkeypatch):
    from jaxvision.train import metrics

    values = {"loss": jnp.array([1.0, 2.0, jnp.nan, 4.0]), "accuracy": jnp.array([1.0, 0.0, 1.0, 1.0])}
    mask = jnp.array([True, True, False, True])
    with_clu = batch_sums(values, mask)
    merged = add_sums(with_clu, with_clu)
    expected = compute(TRAIN_METRICS, jax.device_get(merged))
    monkeypatch.setattr(metrics, "clu_metrics", None)
    without = batch_sums(values, mask)
    assert jax.tree.map(lambda a: (a.dtype, float(a)), without) == jax.tree.map(lambda a: (a.dtype, float(a)), with_clu)
    assert compute(TRAIN_METRICS, jax.device_get(add_sums(without, without))) == pytest.approx(expected)
    assert expected == pytest.approx({"loss": 7 / 3, "accuracy": 200 / 3})


def test_state_flattens_and_back():
    _, state, _ = setup()
    # No two arrays alike: a fresh average equals its parameters.
    leaves, tree = jax.tree.flatten(state)
    state = jax.tree.unflatten(tree, [np.asarray(leaf) + leaf.dtype.type(i) for i, leaf in enumerate(leaves)])
    flat = flatten(state)
    assert len(flat) == len(leaves)
    assert "params.layer1.0.conv1.weight" in flat and "ema_batch_stats.bn1.running_mean" in flat
    back = unflatten(state, flat)
    assert jax.tree.structure(back) == tree
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
