"""Errors to plant into networks, operations, weights and export."""

from planted.error import Planted

ERRORS = (
    Planted(
        "an exported program with the implementations of this machine's backend",
        "jaxvision/inference/export.py",
        "with as_xla_computes():",
        "if True:",
        "tests/inference/test_export.py::test_the_program_of_each_family_is_portable_and_takes_any_number_of_images"
        "[efficientnet_b0]",
    ),
    Planted(
        "ONNX's 2x2 sums without the zeros behind an odd size",
        "jaxvision/ops/onnx/pooling.py",
        "((0, height % 2), (0, width % 2))",
        "((height % 2, 0), (width % 2, 0))",
        "tests/ops/test_onnx_operations.py::test_pooling",
    ),
    Planted(
        "ConvNeXt's third stage as one group",
        "jaxvision/models/convnext.py",
        "merged=(0, 0, 3, 0)",
        "merged=(0, 0, 0, 0)",
        "tests/optim/test_groups.py::test_convnexts_own_groups_are_its_codes",
    ),
    Planted(
        "ResNeSt's DropBlock with one mask for all channels",
        "jaxvision/models/drop_block.py",
        "jax.random.uniform(key, (groups, height, width, channels))",
        "jax.random.uniform(key, (groups, height, width, 1))",
        "tests/models/test_drop_block.py::test_masks_are_the_sources",
    ),
    Planted(
        "means of large maps that add one value after the other",
        "jaxvision/ops/cpu/pooling.py",
        "pixels = _pixels_at_once(left)",
        "pixels = left",
        "tests/ops/test_pooling.py::test_means_of_large_maps_are_as_exact_as_torchs",
    ),
    Planted(
        "BatchNorm's epsilon in evaluation",
        "jaxvision/models/layers.py",
        "lax.rsqrt(running_var.value + self.eps)",
        "lax.rsqrt(running_var.value + 1e-3)",
        "tests/models/test_models.py::test_logits_features_embedding_gradients_fusion_and_export_match_timm[resnet18]",
    ),
    Planted(
        "BatchNorm's epsilon in training",
        "jaxvision/models/layers.py",
        "lax.rsqrt(var + self.eps)",
        "lax.rsqrt(var + 2 * self.eps)",
        "tests/models/test_batch_norm.py::test_training_gradients_and_statistics_match_timm_in_float64[resnet18]",
    ),
    Planted(
        "one random key for the stochastic depth of every block",
        "jaxvision/models/resnet.py",
        'self.make_rng("drop_path")',
        "jax.random.key(0)",
        "tests/models/test_models.py::test_stochastic_depth_has_timms_rates_and_a_key_for_each_block[resnet50]",
    ),
    Planted(
        "a softmax in bfloat16",
        "jaxvision/ops/cpu/attention.py",
        "wide = accumulator(q.dtype)",
        "wide = q.dtype",
        "tests/ops/test_attention.py::test_bfloat16_attends_in_float32",
    ),
    Planted(
        "two axes of an imported kernel swapped",
        "jaxvision/weights/state_dict.py",
        "value.transpose(0, 2, 3, 1)",
        "value.transpose(0, 3, 2, 1)",
        "tests/models/test_models.py::test_logits_features_embedding_gradients_fusion_and_export_match_timm[resnet18]",
    ),
    Planted(
        "stochastic depth of DeiT-III halved",
        "jaxvision/models/stochastic_depth.py",
        "return tuple((rate,) * depth for depth in depths)",
        "return tuple((rate / 2,) * depth for depth in depths)",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[deit3_s:b stochastic depth]",
    ),
    Planted(
        "probe: neighbours that vote without their temperature",
        "jaxvision/inference/probe.py",
        "nearest / temperature",
        "nearest",
        "tests/inference/test_probe.py::test_votes_are_scikit_learns",
    ),
    Planted(
        "probe: a penalty of twice its strength",
        "jaxvision/inference/probe.py",
        "0.5 * l2 * jnp.sum(weights**2)",
        "l2 * jnp.sum(weights**2)",
        "tests/inference/test_probe.py::test_the_linear_classifier_is_scikit_learns",
    ),
)
