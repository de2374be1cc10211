"""What changes over a run: DropBlock's ramp, progressive learning; and distillation, folds, weights to start from."""

import itertools
import shutil

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxvision import config as config_lib
from jaxvision.create import create_model
from jaxvision.data import sources
from jaxvision.errors import UserError
from jaxvision.models.drop_block import drop_block
from jaxvision.models.registry import build_module, model_spec
from jaxvision.optim.losses import TeacherConfig, softmax_cross_entropy
from jaxvision.train import inputs, progressive
from jaxvision.train.distill import load_teacher
from tools.parity.reference import trained_like


def test_dropped_squares_and_scale_are_timms(monkeypatch):
    """timm's function with our centres; on maps smaller than the square, too."""
    from timm.layers import drop

    rng = np.random.default_rng(0)
    for height, width, size in ((14, 10, 3), (7, 7, 3), (2, 2, 3), (1, 1, 3), (14, 14, 5)):
        x = rng.standard_normal((64, height, width, 4), np.float32)
        key, rate = jax.random.key(height), 0.3
        probabilities, real = [], torch.Tensor.bernoulli_

        def draw(tensor, p, key=key, probabilities=probabilities):
            probabilities.append(p)
            n, _, h, w = tensor.shape
            centres = jax.random.bernoulli(key, p, (n, h, w, 1)).astype(jnp.float32)
            return tensor.copy_(torch.from_numpy(np.array(centres).transpose(0, 3, 1, 2)))

        monkeypatch.setattr(torch.Tensor, "bernoulli_", draw)
        expected = drop.drop_block_2d(torch.from_numpy(x.transpose(0, 3, 1, 2)), rate, size).numpy()
        monkeypatch.setattr(torch.Tensor, "bernoulli_", real)
        found = np.asarray(drop_block(jnp.asarray(x), rate, key, size))
        np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), rtol=1e-5)
        assert len(probabilities) == 1 and 0.1 < (found == 0).mean() < 0.7


@pytest.mark.slow
def test_dropblock_is_in_the_last_two_stages_of_resnest_and_follows_its_rate():
    module = build_module("resnest14d", num_classes=5)
    state = trained_like("resnest14d", num_classes=5).state_dict()
    variables = create_model("resnest14d", num_classes=5, weights=state).variables
    x = jax.random.normal(jax.random.key(1), (4, 64, 64, 3))

    def maps(rate):
        return module.apply(
            variables, x, train=True, output="features", drop_block=rate, mutable=["batch_stats"],
            rngs={"drop_path": jax.random.key(2)},
        )[0]  # fmt: skip

    zero, some = jax.jit(maps)(0.0), jax.jit(maps)(0.3)
    plain = jax.jit(maps)(None)
    for a, b in zip(zero, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    changed = [bool(np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-2) for a, b in zip(zero, some, strict=True)]
    assert changed == [False, False, False, True, True]  # the first is the stem


def test_stages_are_equal_parts_with_their_values():
    c = config_lib.base_config()
    c.model.image_size = 300
    c.progressive.image_size = (171, 214, 257, 300)
    c.progressive.magnitude = (5.0, 6.67, 8.33, 10.0)
    c.progressive.mix = (0.0, 0.1, 0.2, 0.3)
    parts = progressive.stages(config_lib.resolve(c), 1003)
    assert [p.start for p in parts] == [0, 250, 501, 752] and parts[-1].stop == 1003
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    assert [p.config.model.image_size for p in parts] == [171, 214, 257, 300]
    assert [p.config.augment.randaugment_magnitude for p in parts] == [5.0, 6.67, 8.33, 10.0]
    assert [(p.config.augment.mixup, p.config.augment.cutmix) for p in parts] == [(v, v) for v in (0, 0.1, 0.2, 0.3)]
    assert {inputs.eval_image_size(p.config) for p in parts} == {300} and c.model.image_size == 300
    assert len(progressive.stages(config_lib.Config(), 10)) == 1

    c.progressive.mix = (0.0, 1.0)
    c.data.fold = "6/5"
    with pytest.raises(UserError) as error:
        config_lib.resolve(c)
    for part in ("same number of values, got image_size: 4, magnitude: 4, mix: 2", '"k/n" with'):
        assert part in str(error.value)
    c.progressive.mix = (0.0, 0.1, 0.2, -1.0)
    with pytest.raises(
        UserError, match=r"progressive.mix = \(0.0, 0.1, 0.2, -1.0\): each number must be between 0 and 1000$"
    ):
        config_lib.resolve(c)


def test_folds_part_the_training_set():
    rng = np.random.default_rng(0)
    source = sources.ArraySource(rng.integers(0, 255, (23, 8, 8, 3), np.uint8), np.arange(23) % 3)
    held = [sources.only_fold(source, k, 5) for k in range(1, 6)]
    assert sorted(np.concatenate([part.ids for part in held])) == list(range(23))
    for k, part in enumerate(held, 1):
        rest = sources.without_fold(source, k, 5)
        assert not set(rest.ids) & set(part.ids) and len(rest) + len(part) == 23 and rest.num_classes == 3
        assert rest.read(0)[1] == source.read(int(rest.ids[0]))[1] and rest.where(0) == source.where(int(rest.ids[0]))
    with pytest.raises(UserError, match="too few for 12 parts"):
        sources.only_fold(source, 1, 12)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_distillation_in_the_step_is_deits(kind, tmp_path):
    """A distilled student and a teacher with other normalisation, against DeiT's formula in torch on timm's models."""
    reference = trained_like("resnet10t", num_classes=7).eval()
    torch.save(reference.state_dict(), tmp_path / "teacher.pth")
    teacher = TeacherConfig(
        name="resnet10t", weights=str(tmp_path / "teacher.pth"), kind=kind, alpha=0.3, temperature=3.0
    )
    c = config_lib.Config(teacher=teacher)
    spec = model_spec("vit_tiny_patch16_224")  # mean and deviation 0.5
    assert spec.mean != model_spec("resnet10t").mean
    loaded = load_teacher(c, spec, 7, jnp.float32)

    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 1, (5, 64, 64, 3)).astype(np.float32)
    images = (pixels - 0.5) / 0.5
    logits = rng.standard_normal((5, 7), np.float32) * 3
    targets = np.eye(7, dtype=np.float32)[[0, 1, 2, 3, 4]] * 0.9 + 0.1 / 7
    base = softmax_cross_entropy(jnp.asarray(logits), jnp.asarray(targets))
    found = loaded.loss(base, jnp.asarray(logits), jnp.asarray(images), loaded.variables).mean()

    own = model_spec("resnet10t")
    seen = (pixels - np.float32(own.mean)) / np.float32(own.std)
    with torch.no_grad():
        taught = reference(torch.from_numpy(seen.transpose(0, 3, 1, 2)))
    student = torch.from_numpy(logits)
    if kind == "hard":
        other = torch.nn.functional.cross_entropy(student, taught.argmax(1))
    else:
        t = c.teacher.temperature
        log_p, log_q = (torch.log_softmax(x / t, 1) for x in (student, taught))
        other = torch.nn.functional.kl_div(log_p, log_q, reduction="sum", log_target=True) * t * t / student.numel()
    expected = 0.7 * float(np.mean(base)) + 0.3 * float(other)
    np.testing.assert_allclose(found, expected, rtol=2e-5)

    with pytest.raises(UserError, match="has 7 classes, the data 9"):
        load_teacher(c, spec, 9, jnp.float32)
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    c = config_lib.Config(teacher=TeacherConfig(name="resnet10t", weights=str(tmp_path)))
    with pytest.raises(
        UserError, match=r"was trained for other classes \(only in these weights: ant; only in the data"
    ):
        load_teacher(c, spec, 2, jnp.float32, ("bee", "cat"))


def test_a_distilled_vits_heads_learn_from_labels_and_teacher():
    module = build_module("deit_tiny_distilled_patch16_224", num_classes=3, image_size=32)
    variables = create_model(
        "deit_tiny_distilled_patch16_224", num_classes=3, image_size=32, key=jax.random.key(0)
    ).variables
    x = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    of_labels, of_teacher = module.apply(variables, x, output="heads")
    np.testing.assert_allclose((of_labels + of_teacher) / 2, module.apply(variables, x), rtol=1e-5, atol=1e-6)
    assert np.abs(of_labels - of_teacher).max() > 1e-3


@pytest.mark.program
def test_everything_on_trains_resumes_and_ends_alike(tmp_path, digits_dir):
    """Progressive sizes, a teacher from a run's workdir, a fold, weights to start from, frozen and decayed rates."""
    first = cli.arguments(tmp_path / "teacher", digits_dir, steps=4)
    code, output = cli.run(first, quick=True)
    assert code == 0, output
    flags = {
        "data__fold": "2/4", "progressive__image_size": "(32,40)", "progressive__magnitude": "(1.0,2.0)",
        "augment__randaugment_layers": 1, "teacher__name": "resnet10t", "teacher__weights": str(tmp_path / "teacher"),
        "model__weights": str(tmp_path / "teacher"), "optimizer__layer_decay": 0.8,
        "optimizer__freeze": r"conv1\..*", "checkpoint__every_steps": 3, "eval__every_epochs": 100.0, "log_every": 1,
    }  # fmt: skip
    code, output = cli.run(cli.arguments(tmp_path / "whole", digits_dir, steps=8, **flags), quick=True)
    assert code == 0, output
    assert "steps 0 to 4 at 32 px" in output and "steps 4 to 8 at 40 px" in output
    assert "270 training and 90 evaluation images" in output
    # The same run cut inside its second part.
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    kept = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").glob("step_*"))
    assert kept == ["step_6", "step_8"]
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step_8")
    code, output = cli.run(cli.arguments(tmp_path / "cut", digits_dir, steps=8, **flags), quick=True)
    assert code == 0, output
    assert "steps 0 to 4" not in output and "steps 4 to 8 at 40 px" in output
    assert cli.records(tmp_path / "cut") == cli.records(tmp_path / "whole")
    assert cli.state_table(tmp_path / "cut", 8) == cli.state_table(tmp_path / "whole", 8)
