"""Every family against timm: equal results for equal weights, and the same distribution of initial weights."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import nchw, random_images, relative_error, shallow, timm, trained_like

import jaxvision
from jaxvision.errors import UserError
from jaxvision.models.registry import build_module, lookup
from jaxvision.models.variables import classifier_names, flat_shapes, init_variables
from jaxvision.ops import activations
from jaxvision.ops.backend import lower_for
from jaxvision.optim.groups import layer_ids
from tools.parity import compare_models as parity

# What every run of the tests compares; the other names with the zoo.
QUICK = ("resnet18", "convnext_atto", "vit_tiny_patch16_224")


def zoo(name):
    return pytest.param(name, marks=pytest.mark.zoo)


# The smallest model of each family, by the class of its network.
SMALLEST = {
    lookup(name)[0]: name for name in sorted(jaxvision.list_models(), key=lambda n: -jaxvision.model_spec(n).params_m)
}


def with_every_family(names):
    """The names, and the smallest model of each family that has none among them and that timm has: new families."""
    covered = {lookup(name)[0] for name in names}
    return [*names, *(name for cls, name in SMALLEST.items() if cls not in covered and timm.is_model(name))]


# One per family and variant switch, and whether gradients are compared here: those of batch-normalised networks are in
# test_batch_norm.py, in float64; `make parity` compares all of every name.
SWITCHES = {
    "resnet18": True,  # basic block
    "resnet26t": False,  # bottleneck, tiered stem, average pool in the shortcut
    "resnet50s": False,  # deep stem
    "resnet50_gn": False,  # group normalisation
    "resnetrs50": False,  # RS: convolutional stem pool, SE
    "seresnext26d_32x4d": False,  # groups, SE
    "resnest14d": False,  # radix 2, pool behind
    "resnest50d_4s2x40d": False,  # radix 4, groups, pool first
    "resnest50d_1s4x24d": False,  # radix 1: a sigmoid
    "efficientnet_b0": False,
    "efficientnet_b0_gn": False,
    "tf_efficientnet_b0": False,  # SAME padding, BN epsilon 1e-3
    "tf_efficientnetv2_b0": False,  # fused blocks
    "tf_efficientnet_lite0": True,  # ReLU6
    "convnext_atto": True,  # weights stored as convolutions
    "convnext_zepto_rms_ols": True,  # overlapping stem with activation, simple norm
    "convnext_atto_rms": False,
    "convnextv2_atto": True,  # response norm
    "swin_tiny_patch4_window7_224": True,
    "swin_s3_tiny_224": False,  # a window per stage
    "swinv2_tiny_window8_256": False,  # cosine attention, normalised behind
    "ecaresnet50t": False,  # efficient channel attention
    "vit_tiny_patch16_224": True,
    "vit_base_patch16_gap_224": False,  # mean instead of a class token
    "deit_tiny_distilled_patch16_224": True,
    "deit3_small_patch16_224": True,  # layer scale, positions without the class token
}


@pytest.mark.parametrize("name", [name if name in QUICK else zoo(name) for name in with_every_family(SWITCHES)])
def test_logits_features_embedding_gradients_fusion_and_export_match_timm(name):
    size = (64, 64) if build_module(name).image_size else (43, 43)
    reference, model = shallow(name, num_classes=parity.CLASSES, size=size)
    row = parity.compare_pair(reference, model, size, gradients=SWITCHES.get(name, True))
    assert row["equal"], row


# timm has no plain ViT of big_vision's: test_simple_vit.py.
@pytest.mark.zoo
@pytest.mark.parametrize("name", [name for name in jaxvision.list_models() if timm.is_model(name)])
def test_every_name_has_timms_tensors_and_the_published_count(name):
    """Names and shapes of all tensors, without allocating them."""
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in timm.create_model(name).state_dict().items() if "running" not in k}
    shapes = flat_shapes(build_module(name), 3)
    ours = {k: (s[0], s[3], s[1], s[2]) if len(s) == 4 else s for k, s in shapes.items()}
    assert ours == {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
    count = sum(np.prod(shape) for shape in shapes.values())
    assert round(count / 1e6, 2) == jaxvision.model_spec(name).params_m


INITIALISED = with_every_family([
    "resnest14d", "efficientnet_b0", "tf_efficientnetv2_b0", "convnext_atto", "convnextv2_atto",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
])  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("name", INITIALISED)
def test_initialisation_has_timms_distribution_in_every_tensor(name):
    ours = jaxvision.to_torch(jaxvision.create_model(name, key=jax.random.key(3)))
    torch.manual_seed(0)
    for key, theirs in timm.create_model(name).state_dict().items():
        theirs, mine = theirs.numpy().astype(np.float64), ours[key].astype(np.float64)
        if key.endswith("num_batches_tracked") or theirs.std() == 0:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, err_msg=key)
            continue
        # timm's truncated normal now and then maps a uniform of exactly 0 to its bound, 100 deviations away.
        theirs = theirs[np.abs(theirs) < 1.99]
        sigma = theirs.std() / np.sqrt(theirs.size)
        assert abs(mine.mean() - theirs.mean()) < 8 * sigma, key
        assert abs(mine.std() / theirs.std() - 1) < 6 / np.sqrt(theirs.size) + 0.003, key
        # The shape of the distribution: a uniform has kurtosis 1.8, a normal 3.
        if theirs.size >= 2000:
            kurtosis = [np.mean((v - v.mean()) ** 4) / v.var() ** 2 for v in (mine, theirs)]
            assert abs(kurtosis[0] - kurtosis[1]) < 0.5, (key, kurtosis)


def timm_drop_path_rates(name, rate):
    rates = []
    for module in timm.create_model(name, drop_path_rate=rate).modules():
        if module.__class__.__name__ == "DropPath":
            rates.append(module.drop_prob)
    return rates


def stochastic_depth(name, rate):
    """The rates and the random keys that a training pass draws with, block by block."""
    module, drawn = build_module(name, drop_path_rate=rate), []
    size = module.image_size or (64, 64)
    rngs = {"params": jax.random.key(0), "drop_path": jax.random.key(1)}

    def record(x, rate, key):
        drawn.append((rate, key))
        return x

    def keys():  # all else is dead code, which is not compiled
        drawn.clear()
        module.init(rngs, jnp.zeros((2, *size, 3)), train=True)
        return [jax.random.key_data(key) for _, key in drawn]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[type(module).__module__], "drop_path", record)
        found = jax.jit(keys)()
    return [rate for rate, _ in drawn], [tuple(np.asarray(key).tolist()) for key in found]


STOCHASTIC_DEPTH = with_every_family([
    "resnet50", "convnext_atto", "vit_tiny_patch16_224", "efficientnet_b0", "tf_efficientnetv2_b0",
    "swin_tiny_patch4_window7_224",
])  # fmt: skip


@pytest.mark.parametrize("name", [*STOCHASTIC_DEPTH[:3], *map(zoo, STOCHASTIC_DEPTH[3:])])
def test_stochastic_depth_has_timms_rates_and_a_key_for_each_block(name):
    rates, keys = stochastic_depth(name, 0.3)
    expected = timm_drop_path_rates(name, 0.3)
    # timm also builds a DropPath where a block has no shortcut; it is never called.
    if "efficientnet" in name:
        assert set(np.round(rates, 9)) <= set(np.round(expected, 9)) and len(rates) >= 9
        assert max(rates) < 0.3
    else:
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert len(set(keys)) == len(rates)


def test_stochastic_depth_of_resnet_rs_rises_with_the_stage():
    rates, keys = stochastic_depth("resnetrs50", 0.1)
    np.testing.assert_allclose(rates, np.repeat([0.04, 0.06, 0.08, 0.10], [3, 4, 6, 3]))
    assert len(set(keys)) == 16


@pytest.mark.parametrize("name", SMALLEST.values())
def test_a_family_says_what_others_ask_of_it(name):
    """Its layers from the image to the classifier, the classifier's width, and timm's names as they are."""
    model = jaxvision.create_model(name, num_classes=5, key=jax.random.key(0))
    module = model.module
    size = module.image_size or (64, 64)
    embedding = jax.eval_shape(model.embed, jax.ShapeDtypeStruct((2, *size, 3), jnp.float32))
    assert embedding.shape == (2, module.num_features) and embedding.dtype == module.dtype

    names = list(flat_shapes(module, 3))
    of_layers = dict(zip(names, layer_ids(names, module.layer_groups), strict=True))
    of_image = [key for key in names if flat_shapes(module, 4)[key] != flat_shapes(module, 3)[key]]
    of_classes = [key for key in names if key.rpartition(".")[0] in classifier_names(module, 3)]
    assert of_image and {of_layers[key] for key in of_image} == {0}
    assert of_classes and {of_layers[key] for key in of_classes} == {max(of_layers.values())}
    assert max(of_layers.values()) >= 5

    state = jaxvision.to_torch(model)
    renamed, notes = module.to_timm_names(state)
    assert not notes and list(renamed) == list(state)
    assert all(renamed[key] is state[key] for key in state)
    assert module.resampled("head.weight", np.zeros((3, 3), np.float32)) is None


@pytest.mark.parametrize("name", ["resnet10t", zoo("convnext_atto"), zoo("deit_tiny_distilled_patch16_224")])
def test_dropout_sits_before_the_classifier(name):
    _, model = shallow(name, num_classes=7, size=(64, 64))
    module = model.module.clone(drop_rate=0.5)
    x = random_images((64, 64), 0, 2)

    @jax.jit
    def run(seed):
        def of(module, output):
            rngs = {"dropout": jax.random.key(seed)}
            return module.apply(model.variables, x, train=True, output=output, rngs=rngs, mutable=["batch_stats"])[0]

        return of(module, "logits"), of(module, "embed"), of(model.module, "logits")

    logits, embeddings, kept = (np.stack(part) for part in zip(*(run(seed) for seed in range(40)), strict=True))
    assert not np.array_equal(logits[0], logits[1])
    assert (embeddings == embeddings[0]).all() and (kept == kept[0]).all()
    assert np.abs(logits.mean(0) - kept[0]).max() < 0.6 * np.abs(logits[0] - kept[0]).max() + 1e-6


FAMILIES = with_every_family([
    "resnest14d", "efficientnet_b0", "convnextv2_atto", "swin_tiny_patch4_window7_224", "deit3_small_patch16_224",
])  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("name", FAMILIES)
def test_rematerialised_gradients_and_bfloat16_and_stochastic_depth(name):
    _, model = shallow(name, num_classes=parity.CLASSES, size=(64, 64))
    x = random_images((64, 64), 0, 2)
    rngs = {"drop_path": jax.random.key(0), "dropout": jax.random.key(1)}
    dropping = model.module.clone(drop_path_rate=0.9)

    @jax.jit
    def outputs(variables):  # one program: what they have in common is compiled once
        full, low = (m.apply(variables, x) for m in (model.module, model.module.clone(dtype=jnp.bfloat16)))
        return full, low, dropping.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    with lower_for("gpu"):  # compiles faster: the depthwise sums are long programs
        (plain, _), _ = parity.module_gradients(model.module, False, model.variables, x)
        (remat, _), _ = parity.module_gradients(model.module.clone(remat=True), False, model.variables, x)
        full, low, dropped = outputs(model.variables)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        assert relative_error(b, a) < 1e-3
    assert low.dtype == jnp.float32
    assert 0 < relative_error(low, full) < 0.1
    assert np.isfinite(dropped).all() and relative_error(dropped, full) > 1e-3


# timm's own interpolation of Swin's tables warns.
timm_warns = pytest.mark.filterwarnings("ignore:torch.searchsorted:UserWarning", "ignore:Using a non-tuple:UserWarning")
RESIZED = ["vit_tiny_patch16_224", "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"]


@pytest.mark.zoo
@timm_warns
@pytest.mark.parametrize("name", RESIZED)
def test_another_image_size_as_timm_resizes(name):
    reference = trained_like(name, num_classes=5, img_size=128)
    model = jaxvision.create_model(name, image_size=128, weights=reference.state_dict())
    for size in [(192, 192), (64, 128)]:
        resized = model.with_image_size(size)
        reference.set_input_size(img_size=size)
        x = random_images(size, 0)
        with torch.no_grad():
            expected = reference.eval()(nchw(x)).numpy()
        assert relative_error(resized(x), expected) < 1e-4
        reference = trained_like(name, num_classes=5, img_size=128)


@pytest.mark.zoo
@timm_warns
def test_a_checkpoint_of_another_size_is_resampled_with_a_warning():
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = trained_like("vit_tiny_patch16_224", num_classes=5).state_dict()
    with pytest.warns(UserWarning, match="pos_embed resampled from 14x14 to 6x6"):
        model = jaxvision.create_model("vit_tiny_patch16_224", image_size=96, weights=state)
    reference = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=96).eval()
    reference.load_state_dict(checkpoint_filter_fn(dict(state), reference))
    x = random_images((96, 96), 0)
    with torch.no_grad():
        assert relative_error(model(x), reference(nchw(x)).numpy()) < 1e-4

    from timm.models.swin_transformer import checkpoint_filter_fn

    name = "swin_tiny_patch4_window7_224"
    state = trained_like(name, num_classes=5).state_dict()
    with pytest.warns(UserWarning, match="windows of 7x7 to 4x4"):
        model = jaxvision.create_model(name, image_size=64, weights=state)
    reference = timm.create_model(name, num_classes=5, img_size=64).eval()
    reference.load_state_dict(checkpoint_filter_fn(dict(state), reference))
    x = random_images((64, 64), 0)
    with torch.no_grad():
        assert relative_error(model(x), reference(nchw(x)).numpy()) < 1e-4


def test_wrong_image_sizes_are_explained():
    vit = jaxvision.create_model("vit_tiny_patch16_224", key=jax.random.key(0))
    with pytest.raises(UserError, match=r"built for images of 224x224 pixels, got 192x192.*with_image_size"):
        vit(np.zeros((1, 192, 192, 3), np.float32))
    with pytest.raises(UserError, match=r"at least 16x16 pixels and multiples of 16, got 100x100"):
        jaxvision.create_model("vit_tiny_patch16_224", image_size=100, key=jax.random.key(0))
    convnext = jaxvision.create_model("convnext_atto", key=jax.random.key(0))
    with pytest.raises(UserError, match="at least 32x32 pixels, got 16x48"):
        convnext(np.zeros((1, 16, 48, 3), np.float32))
    assert convnext.with_image_size(99) is convnext and convnext.image_size is None


def test_what_a_model_cannot_have_is_refused_all_at_once():
    with pytest.raises(UserError) as error:
        build_module("resnet18", num_classes=0, drop_rate=1.0, drop_path_rate=-0.1, bn_momentum=2.0, layer_scale=0.1)
    for problem in (
        "cannot build resnet18", "num_classes = 0: pass", "drop_rate = 1.0: pass", "drop_path_rate = -0.1: pass",
        "bn_momentum = 2.0: pass", "resnet18 has no layer scale, leave it out",
    ):  # fmt: skip
        assert problem in str(error.value)
    with pytest.raises(UserError, match="convnextv2_atto has no layer scale"):
        build_module("convnextv2_atto", layer_scale=0.1)
    with pytest.raises(UserError, match="in_chans = 0: pass"):
        jaxvision.create_model("resnet18", in_chans=0, key=jax.random.key(0))
    with pytest.raises(UserError, match="num_classes = 0: pass"):
        jaxvision.create_model("resnet10t", key=jax.random.key(0)).with_classifier(0, key=jax.random.key(0))


@pytest.mark.parametrize(("name", "leaf"), [("convnext_atto", "gamma"), ("deit3_small_patch16_224", "ls1.gamma")])
def test_layer_scale_starts_where_it_is_told(name, leaf):
    module = build_module(name, num_classes=3, layer_scale=0.25)
    params = init_variables(module, jax.random.key(0))["params"]
    scales = [block[leaf] for block in params.values() if isinstance(block, dict) and leaf in block]
    assert len(scales) == 12 and all(np.array_equal(scale, np.full_like(scale, 0.25)) for scale in scales)
    assert build_module(name).layer_scale == 1e-6


def test_a_new_classifier_keeps_the_rest():
    for name in ("convnext_atto", "deit_tiny_distilled_patch16_224"):
        _, model = shallow(name, num_classes=5, size=(64, 64))
        new = model.with_classifier(7, key=jax.random.key(1))
        x = random_images((64, 64), 0)
        assert new(x).shape == (2, 7) and new.num_classes == 7
        embedding = new.embed(x)
        np.testing.assert_array_equal(embedding, model.embed(x))
        assert embedding.shape == (2, new.num_features)


@pytest.mark.zoo
def test_sharded_batches_give_the_same_answers():
    """On eight devices: the reshapes of windows and tokens and the mean pools keep the batch axis sharded."""
    from jaxvision.train import sharding

    mesh = sharding.make_mesh()
    for name in ("swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "convnext_atto"):
        model = jaxvision.create_model(name, num_classes=5, image_size=64, key=jax.random.key(0))
        x = random_images((64, 64), 0, 8)
        cut = sharding.put_batch(mesh, {"x": x})["x"]
        y = jax.jit(lambda m, x: m(x), out_shardings=sharding.batch_sharded(mesh))(sharding.replicate(mesh, model), cut)
        assert relative_error(y, model(x)) < 1e-5


def test_only_models_without_published_weights_may_be_unknown_to_timm():
    unknown = [name for name in jaxvision.list_models() if not timm.is_model(name)]
    assert {jaxvision.model_spec(name).tag for name in unknown} == {"untrained"}


def test_specs_know_default_and_other_weights():
    spec = jaxvision.model_spec("resnetrs50")
    assert (spec.input_size, spec.test_input_size, spec.crop_pct, spec.top1) == (160, 224, 0.91, 77.858)
    assert jaxvision.model_spec("convnext_tiny.fb_in1k").top1 == 82.066
    assert jaxvision.model_spec("convnext_tiny.in12k").num_classes == 11821
    assert jaxvision.model_spec("efficientnet_b5").crop_mode == "squash"
    with pytest.raises(UserError, match=r'no weights .fb_in2k. of convnext_tiny.*Did you mean "fb_in22k"'):
        jaxvision.model_spec("convnext_tiny.fb_in2k")
    model = jaxvision.create_model("convnext_atto.d2_in1k", key=jax.random.key(0))
    assert model.spec.tag == "d2_in1k"


def test_nnx_bridge_calls_the_same_network():
    from flax import nnx

    _, model = shallow("resnet18", num_classes=5)
    module = jaxvision.to_nnx(model)
    x = random_images((32, 32), 0)
    assert relative_error(module(x, train=False), model(x)) < 1e-5
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param))) == sum(
        leaf.size for leaf in jax.tree.leaves(model.variables["params"])
    )


def test_gelu_and_its_gradient_are_torchs():
    """Also far out, where the two formulas of the distribution function differ most; bfloat16 to its own rounding."""
    x = np.concatenate([np.random.default_rng(0).standard_normal(200) * 3, np.linspace(-12, 12, 97), [0.0]])
    g = np.random.default_rng(1).standard_normal(x.size)
    reference = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.gelu(reference)
    y.backward(torch.tensor(g))
    for dtype, tolerance in ((jnp.float32, 1e-6), (jnp.bfloat16, 2e-2)):
        ours, back = jax.vjp(activations.gelu, jnp.asarray(x, dtype))
        assert ours.dtype == dtype
        np.testing.assert_allclose(np.float64(ours), y.detach().numpy(), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(np.float64(back(jnp.asarray(g, dtype))[0]), reference.grad, atol=4 * tolerance)
