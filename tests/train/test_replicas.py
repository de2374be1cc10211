"""Groups of a batch: the same on any number of devices, as on the devices of the published run."""

import dataclasses
import functools

import cli
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error

from jaxvision import config as config_lib
from jaxvision.augment.config import AugmentConfig
from jaxvision.augment.mix import Mix
from jaxvision.config import Config, base_config, resolve
from jaxvision.data.config import DataConfig
from jaxvision.data.plan import Plan
from jaxvision.data.sources import SyntheticSource
from jaxvision.errors import UserError
from jaxvision.main import load_config
from jaxvision.models.layers import BatchNorm
from jaxvision.optim.losses import LossConfig
from jaxvision.optim.optimizers import OptimizerConfig, make_optimizer
from jaxvision.train import build, inputs, replicas, sharding
from jaxvision.train.state import create_state
from jaxvision.train.step import make_train_step

DEVICES = (1, 2, 8)
MIXED = AugmentConfig(mixup=0.2, cutmix=1.0, mix_pairing="roll")
# Batches of 32 as on 8 devices.
TORCHVISION = Config(
    batch_size=32, replicas=8, batch_norm="per_device", augment=MIXED, data=DataConfig(repeats=4), log_every=1,
    loss=LossConfig(label_smoothing=0.1),
)  # fmt: skip


def with_fields(config=TORCHVISION, **changes):
    return dataclasses.replace(config, **changes)


def flags(text):
    """A config of overrides "field=value"; the digits, which nothing opens here."""
    c = base_config()
    for part in text.split():
        name, _, value = part.partition("=")
        section, _, leaf = f"config.{name}".rpartition(".")
        owner = functools.reduce(lambda found, key: found[key], section.split(".")[1:], c)
        owner[leaf] = type(owner[leaf])(eval(value))
    return c


# ---------------------------------------------------------------------- which images belong together


@pytest.mark.parametrize(("given", "devices", "share"), [(0, 1, 0.75), (0, 2, 0.5), (0, 4, 0.0), (2, 1, 0.5)])
def test_share_of_images_mixed_with_a_copy_of_themselves(given, devices, share):
    """As measured in torchvision's recipe; with its 8 GPUs stated no copy meets another on any number of devices."""
    torchvision = resolve(load_config(f"{cli.ROOT}/configs/resnet50_tv2.py", []))
    for count in (1, 2, 4, 8):
        assert replicas.same_image_share(torchvision, count) == 0
    config = with_fields(torchvision, replicas=given)
    assert replicas.same_image_share(config, devices) == share
    notes = [note for note in replicas.group_notes(config, devices) if "repeats" in note]
    assert len(notes) == (share > 0)
    assert all(f"{share:.0%} of the images are mixed with a copy of themselves" in note for note in notes)


def test_the_note_on_copies_is_absent_where_they_are_apart():
    assert not any("repeats" in note for note in replicas.group_notes(TORCHVISION, 1))
    reverse = with_fields(augment=AugmentConfig(mixup=0.2), replicas=1, batch_norm="global")
    (note,) = replicas.group_notes(reverse, 1)
    assert note.startswith("config.data.repeats = 4 on 1 device: copies of an image are in the same part of the batch")


def torchs_partners(ids, groups):
    """Of each GPU's own batch the rolled one."""
    return np.concatenate([np.roll(own, 1) for own in np.split(ids, groups)])


def test_partners_and_lambdas_are_those_of_the_published_devices():
    """Ids stand for images: each device count has the batch of 8 torch processes, rolled in each by itself."""
    order = Plan(48, 48, seed=3, train=True).ids(0)
    sampled = np.repeat(order, 4)
    expected = np.concatenate([sampled[gpu::8][:4] for gpu in range(8)])
    seen = []
    for devices in DEVICES:
        plan = Plan(48, 32, seed=3, train=True, repeats=4, deal=replicas.deal_count(TORCHVISION, devices))
        ids = plan.ids(0)
        np.testing.assert_array_equal(ids, expected)
        mesh = sharding_mesh(devices)
        cut = sharding.batch_sharded(mesh)
        mix = Mix(mixup=0.2, pairing="roll", groups=replicas.group_count(TORCHVISION, devices))
        images = np.broadcast_to(ids[:, None, None, None], (32, 4, 4, 1)).astype(np.float32)
        mixed = jax.jit(mix, in_shardings=(None, cut, cut))(jax.random.key(0), images, np.eye(48)[ids])
        seen.append([np.asarray(part) for part in mixed])
        for row, target in enumerate(seen[-1][1]):
            assert set(np.flatnonzero(target)) <= {ids[row], torchs_partners(ids, 8)[row]}
    for other in seen[1:]:
        for ours, first in zip(other, seen[0], strict=True):  # but for the last bits of logarithms and sums
            np.testing.assert_allclose(ours, first, rtol=1e-6)
    shares = seen[0][1].max(1).reshape(8, 4)
    assert (shares == shares[:, :1]).all() and len(np.unique(shares[:, 0])) > 2  # one lambda per published device


@pytest.mark.parametrize(("accumulate", "replicas_"), [(1, 8), (2, 8), (4, 8), (8, 8), (2, 0), (4, 0)])
def test_microbatches_are_whole_groups_and_join_again(accumulate, replicas_):
    config = with_fields(accumulate=accumulate, replicas=replicas_)
    x = np.arange(64).reshape(32, 2)
    parts = replicas.split_microbatches(config, x)
    assert parts.shape == (accumulate, 32 // accumulate, 2)
    np.testing.assert_array_equal(replicas.join_microbatches(config, parts), x)
    if replicas_:
        groups = parts.reshape(8, 4, 2)
        expected = {tuple(own.ravel()) for own in np.split(x, 8)}
        assert {tuple(own.ravel()) for own in groups} == expected
        assert replicas.group_count(config, 1) == 8 // accumulate
    else:
        np.testing.assert_array_equal(parts[1], x[1::accumulate])


# ---------------------------------------------------------------------- a small network on 1, 2 and 8 devices


class Small(nn.Module):
    """A linear layer, batch normalisation, and a classifier."""

    groups: int
    num_classes: int = 5

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Dense(6, use_bias=False, name="dense")(x)
        x = BatchNorm(groups=self.groups, name="bn")(x, activation=nn.relu, train=train)
        return nn.Dense(self.num_classes, name="fc")(x.mean((1, 2)))


RULES = ((r".*:[0-9]d", 1.0),)


def sharding_mesh(devices):
    return jax.sharding.Mesh(np.array(jax.devices()[:devices]), sharding.AXIS)


def start(config, devices, *, mixes=True):
    """State and jitted step of the network with the groups of ``config``."""
    count = replicas.group_count(config, devices)
    module = Small(count if config.batch_norm == "per_device" else 1)
    variables = nn.meta.unbox(jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((32, 4, 4, 3))))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: rng.uniform(-1, 1, leaf.shape).astype(np.float32), variables)
    optimizer = make_optimizer(OptimizerConfig(name="sgd", decay_rules=RULES), variables["params"])
    a = config.augment
    mix = Mix(mixup=a.mixup, cutmix=a.cutmix, pairing=a.mix_pairing, groups=count) if mixes else None
    step = make_train_step(config, module, optimizer, lambda step: 0.1, mix=mix)
    mesh = sharding_mesh(devices)
    full, cut = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    state = sharding.replicate(mesh, create_state(variables, optimizer))
    return state, jax.jit(step, in_shardings=(full, cut, cut), out_shardings=full)


def data():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((32, 4, 4, 3), np.float32) * np.exp(rng.standard_normal((32, 1, 1, 1), np.float32))
    return images, rng.integers(0, 5, 32).astype(np.int32)


def after(config, devices, **options):
    state, step = start(config, devices, **options)
    for _ in range(2):
        state, _ = step(state, *data())
    return jax.tree.map(np.asarray, {"params": state.params, "stats": state.batch_stats})


def differs(a, b):
    return max(relative_error(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_step_is_the_same_on_any_number_of_devices():
    one = after(TORCHVISION, 1)
    for devices in DEVICES[1:]:
        assert differs(after(TORCHVISION, devices), one) < 1e-5
    own = with_fields(replicas=0)  # what a run without the number does
    assert differs(after(own, 2), one) > 1e-3 and differs(after(own, 8), one) < 1e-5


def test_more_devices_than_replicas_share_a_group():
    two = with_fields(replicas=2)
    assert differs(after(two, 8), after(two, 1)) < 1e-5


def test_accumulation_does_not_change_the_groups():
    """Without mixing, which draws for each microbatch, whole groups give the gradient of the whole batch."""
    plain = with_fields(augment=AugmentConfig())
    whole = after(plain, 1, mixes=False)["params"]
    for accumulate, devices in ((4, 1), (8, 1), (4, 2)):
        parts = after(with_fields(plain, accumulate=accumulate), devices, mixes=False)["params"]
        assert differs(parts, whole) < 1e-5
    other = after(with_fields(plain, accumulate=4, replicas=0), 1, mixes=False)["params"]
    assert differs(other, whole) > 1e-3


def communication(config, devices):
    state, step = start(config, devices)
    text = step.lower(state, *data()).compile().as_text()
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
    return {kind: text.count(f" {kind}(") + text.count(f" {kind}-start(") for kind in kinds}


def test_groups_stay_on_their_device_where_devices_divide_replicas():
    grouped = communication(TORCHVISION, 8)
    assert grouped["all-reduce"] > 0  # the gradients'
    assert sum(grouped.values()) == grouped["all-reduce"]
    assert communication(TORCHVISION, 2) == grouped
    assert communication(with_fields(accumulate=4), 2)["collective-permute"] == 0
    assert communication(with_fields(batch_norm="global"), 2)["all-reduce"] > grouped["all-reduce"]


# ---------------------------------------------------------------------- what cannot be


def refused(config):
    with pytest.raises(UserError) as error:
        resolve(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("batch_size=36 replicas=8 batch_norm='per_device'", "config.batch_size = 36 is not divisible by "
         "config.replicas = 8: for config.batch_norm the batch has 8 groups"),
        ("batch_size=36 replicas=8 data.repeats=3", "for config.data.repeats the batch has 8 groups"),
        ("batch_size=64 replicas=8 accumulate=16 augment.mixup=0.2", "config.accumulate = 16 does not divide "
         "config.replicas = 8: a microbatch has to hold whole groups of 8 images (config.augment.mix_groups)"),
        ("batch_size=8 replicas=8 augment.mixup=0.2", "a group has 1 image, and nothing to mix it with"),
        ("batch_size=24 replicas=8 augment.mix_halves=True progressive.mix=(0.0,0.1)", "a group of 3 images has no "
         "halves of equal size"),
    ],
)  # fmt: skip
def test_configs_whose_groups_cannot_be(fields, expected):
    message = refused(flags(fields))
    assert expected in message and "config.replicas" in message and "\n" not in message


@pytest.mark.parametrize("fields", ["batch_size=36 replicas=8", "batch_size=36 replicas=8 accumulate=4"])
def test_replicas_do_not_matter_where_nothing_is_split(fields):
    config = resolve(flags(fields))
    replicas.check_devices(config, 6)
    assert replicas.group_notes(config, 6) == []


def test_devices_that_cannot_share_the_groups():
    for devices in (1, 2, 4, 8, 16, 32):
        replicas.check_devices(TORCHVISION, devices)
    with pytest.raises(
        UserError, match=r"config\.replicas = 8: .* into 8 groups, which 6 devices cannot share equally"
    ):
        replicas.check_devices(TORCHVISION, 6)
    replicas.check_devices(with_fields(accumulate=4), 2)
    with pytest.raises(
        UserError, match=r"8 devices x 4 microbatches .* multiple of 32, .* lower config\.accumulate to 1$"
    ):
        replicas.check_devices(with_fields(accumulate=4), 8)
    replicas.check_devices(with_fields(replicas=0, accumulate=4), 8 // 4)
    with pytest.raises(UserError, match="a group has 1 image"):
        replicas.check_devices(with_fields(replicas=0), 32)


def test_the_parts_of_a_run_have_the_groups():
    """On the eight devices of the tests: what is dealt, mixed and normalised."""
    fields = {"batch_size": 32, "batch_norm": "per_device", "augment": MIXED, "data": DataConfig(repeats=4)}
    fields["model"] = config_lib.ModelConfig(name="resnet10t", image_size=32)
    source = SyntheticSource(64, 5, 32, seed=0)
    for stated, expected in ((4, 4), (0, jax.device_count())):
        config = Config(replicas=stated, **fields)
        assert build.make_mix(config).groups == expected
        assert build.build_network(config, source).module.bn_groups == expected
        assert inputs.train_loader(config, source, lambda: False).plan.deal == expected
    assert inputs.train_loader(with_fields(config, data=DataConfig()), source, lambda: False).plan.deal == 1
    with pytest.raises(UserError, match="which 8 devices cannot share equally"):
        build.start_devices(Config(replicas=3, **fields | {"batch_size": 48}))


def test_small_statistics_are_told():
    (groups, small) = replicas.group_notes(with_fields(data=DataConfig()), 1)
    assert groups == (
        "config.batch_norm and config.augment.mix_groups: 8 groups of 4 images, as on the 8 devices of config.replicas"
    )
    assert small.startswith("batch norm's statistics are of 4 images each: raise config.batch_size")


def test_an_older_config_has_the_devices_in_use(tmp_path):
    older = config_lib.json.loads(Config(batch_size=32).to_json())
    del older["replicas"]
    (tmp_path / "config.json").write_text(config_lib.json.dumps(older))
    config = resolve(load_config(str(tmp_path / "config.json"), []))
    assert config.replicas == 0 and replicas.group_count(config, 4) == 4
    assert build.make_mix(with_fields(config, augment=MIXED)).groups == jax.device_count()
