"""The list of stages and the program that runs it: order, random numbers, and a stage from outside the package."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from photos import photos_and_noise

from jaxvision.augment import (
    STAGES,
    AugmentConfig,
    NetworkInput,
    Stage,
    color,
    image_ops,
    make_augment,
    make_normalise,
    pillow_ops,
)
from jaxvision.augment.program import normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MANY = AugmentConfig(color_jitter=0.3, lighting=0.1, erase_prob=0.5)


def program(config=MANY, seed=1):
    return jax.jit(make_augment(config, seed=seed, mean=MEAN, std=STD, dtype=jnp.float32))


def test_it_depends_on_the_step_and_not_on_devices():
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    augment = make_augment(AugmentConfig(randaugment_layers=2), seed=1, mean=MEAN, std=STD, dtype=jnp.float32)
    one = jax.jit(augment)(images, 5)
    sharding = NamedSharding(Mesh(np.array(jax.devices()), "data"), PartitionSpec("data"))
    eight = jax.jit(augment, out_shardings=sharding)(jax.device_put(images, sharding), 5)
    np.testing.assert_array_equal(one, eight)
    assert np.abs(np.asarray(one) - np.asarray(jax.jit(augment)(images, 6))).max() > 0


def test_everything_at_once_is_deterministic_and_finite():
    config = AugmentConfig(
        randaugment_layers=1, randaugment_magnitude=5.0, policy="3a", color_jitter=0.3, lighting=0.1, erase_prob=0.5
    )
    first, again = (np.asarray(program(config)(photos_and_noise(), 3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all() and len(np.unique(first)) > 1000


def test_the_packages_own_stages_split_one_draw_in_order():
    """What published runs were trained with: a change of these numbers changes every run."""

    @functools.partial(jax.jit, static_argnames="flip")
    def expected(images, step, flip):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), step), 0)
        u = jax.random.uniform(key, (len(images), 1 + 4 + 3))
        if flip:
            images = image_ops.flip(images, u[:, 0] < 0.5)
        images = color.color_jitter(images, u[:, 1:5], 0.3)
        return image_ops.normalise(color.lighting(images, u[:, 5:], 0.1), MEAN, STD, jnp.float32)

    images = photos_and_noise()
    for flip in (True, False):
        config = AugmentConfig(flip=flip, color_jitter=0.3, lighting=0.1)
        np.testing.assert_array_equal(program(config)(images, 7), expected(images, 7, flip=flip))


def test_nothing_chosen_is_normalisation():
    images = photos_and_noise()
    found = program(AugmentConfig(flip=False))(images, 0)
    np.testing.assert_array_equal(found, jax.jit(make_normalise(mean=MEAN, std=STD))(images))


def grayscale(config: AugmentConfig, network: NetworkInput) -> Stage:
    """Half of the images in gray."""

    def apply(images, uniforms):
        gray = pillow_ops.luma(images)[..., None].astype(images.dtype)
        return jnp.where((uniforms[:, 0] < 0.5)[:, None, None, None], gray, images)

    return Stage(1, apply)


@pytest.fixture
def stages():
    """The list of stages, which gets its rows back after the test."""
    before = list(STAGES)
    yield STAGES
    STAGES[:] = before


def test_a_stage_from_outside_is_applied_and_leaves_the_others_numbers(stages):
    images = np.concatenate([photos_and_noise()] * 3)
    config = AugmentConfig(color_jitter=0.3, erase_prob=0.5)
    without = np.asarray(program(config)(images, 3))
    stages.insert(stages.index(normalise), grayscale)
    found = np.asarray(program(config)(images, 3))
    same = (found == without).all((1, 2, 3))
    assert 4 <= same.sum() <= 14  # half of 18 images; the others are gray but for the noise of erased boxes
    pixels = found * np.array(STD) + np.array(MEAN)
    gray = np.ptp(pixels, axis=-1) < 1e-3
    np.testing.assert_array_equal(gray[~same].mean((1, 2)) > 0.6, True)
    np.testing.assert_array_equal(found[~same][~gray[~same]], without[~same][~gray[~same]])  # the same boxes and noise


def stamp(name):
    """A stage that writes its two uniforms into the first pixel of each image."""

    def make(config, network):
        return Stage(2, lambda images, uniforms: images.at[:, 0, 0, :2].set(uniforms))

    make.__name__ = name
    return make


def test_stages_from_outside_have_numbers_of_their_own(stages):
    images = photos_and_noise()
    config = AugmentConfig(color_jitter=0.3)
    without = np.asarray(program(config)(images, 3))
    written = {}
    for names in (["first"], ["second"], ["second", "first"]):
        stages[:] = [make for make in stages if make.__name__ not in ("first", "second")]
        stages += [stamp(name) for name in names]
        found = np.asarray(program(config)(images, 3))
        np.testing.assert_array_equal(found[:, 1:], without[:, 1:])
        written[tuple(names)] = found[:, 0, 0, :2]
    np.testing.assert_array_equal(written["first",], written["second", "first"])  # whatever other stages there are
    both = np.concatenate([written["first",], written["second",]])
    assert len(np.unique(both)) == both.size and both.min() >= 0 and both.max() < 1
    assert not np.isin(written["first",], np.asarray(program(config)(images, 4))[:, 0, 0, :2]).any()  # new each step


def test_two_stages_of_one_name_are_refused(stages):
    stages += [stamp("twice"), stamp("twice")]
    with pytest.raises(ValueError, match="twice"):
        program()
