"""Errors to plant into data, pixels and augmentation."""

from planted.error import Planted

ERRORS = (
    Planted(
        "an evaluation that counts examples twice",
        "jaxvision/data/plan.py",
        "np.where(positions < self.num_examples, positions, PADDING)",
        "positions[::-1] % self.num_examples",
        "tests/data/test_plan.py::test_evaluation_covers_every_example_once",
    ),
    Planted(
        "a crop that never moves",
        "jaxvision/data/decode.py",
        "return int(u[2] * (height - h + 1)), int(u[3] * (width - w + 1)), h, w",
        "return (height - h) // 2, (width - w) // 2, h, w",
        "tests/data/test_decode.py::test_torch_crop_law_matches_torchvision",
    ),
    Planted(
        "a box of CutMix whose share is not the label's",
        "jaxvision/augment/mix.py",
        "return is_cut, jnp.where(is_cut, kept, lam), (",
        "return is_cut, lam, (",
        "tests/augment/test_mix.py::test_cutmix_pastes_the_partner_and_its_share_is_the_label",
    ),
    Planted(
        "pixels: TensorFlow's Posterize to 0 bits is black",
        "jaxvision/augment/tensorflow_ops.py",
        "(whole > 0) & (whole <= 8)",
        "whole <= 8",
        "tests/augment/test_tensorflow_ops.py::test_every_operation_equals_the_tf_formula[2.0]",
    ),
    Planted(
        "pixels: TensorFlow's crop keeps a tenth whatever the config says",
        "jaxvision/data/decode.py",
        "w * h < min_object_covered * height * width",
        "w * h < 0.1 * height * width",
        "tests/data/test_decode.py::test_tf_crop_law_has_the_measured_moments",
    ),
    Planted(
        "pixels: the random filter is always the same",
        "jaxvision/data/decode.py",
        "uniforms[FILTER_UNIFORM]",
        "0.0",
        "tests/data/test_decode.py::test_random_filter_is_timms_choice_from_the_plans_numbers",
    ),
    Planted(
        "pixels: TensorFlow 1's bicubic with the a of TensorFlow 2",
        "jaxvision/data/resizing.py",
        "a = -0.75",
        "a = -0.5",
        "tests/data/test_resizing.py::test_tensorflows_resizes_are_tensorflows_to_the_last_bit",
    ),
    Planted(
        "pixels: ResNeSt's rotation is interpolated",
        "jaxvision/augment/resnest_policy.py",
        'interpolation="bicubic", rotation="nearest"',
        'interpolation="bicubic"',
        "tests/augment/test_resnest_policy.py::test_pixels_are_pillows",
    ),
    Planted(
        "a gather for the draws of each group",
        "jaxvision/augment/mix.py",
        "jnp.repeat(x, size)",
        "jnp.repeat(x, size, total_repeat_length=batch)",
        "tests/train/test_replicas.py::test_groups_stay_on_their_device_where_devices_divide_replicas",
    ),
    Planted(
        "record checksums that are not compared",
        "jaxvision/data/tfrecord.py",
        "if masked_crc(data) != int",
        "if False and masked_crc(data) != int",
        "tests/data/test_record_checksums.py::test_each_changed_byte_of_a_record_is_reported",
    ),
    Planted(
        "labels in the order of the data",
        "jaxvision/data/sources.py",
        "return raw, int(self.table[label])",
        "return raw, label",
        "tests/data/test_classes.py::test_labels_are_those_of_imagenet",
    ),
    Planted(
        "TensorFlow's Posterize to 0 bits all black",
        "jaxvision/augment/tensorflow_ops.py",
        "jnp.where((whole > 0) & (whole <= 8), 8 - whole, 7)",
        "jnp.where(whole <= 8, 8 - whole, 7)",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[efficientnet_b0:b0 policy]",
    ),
    Planted(
        "the next image as the partner, not the previous",
        "jaxvision/augment/mix.py",
        "jnp.roll(grouped, 1, 1)",
        "jnp.roll(grouped, -1, 1)",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[resnet50_tv2 mixing]",
    ),
    Planted(
        "folds without their share of each class",
        "jaxvision/data/sources.py",
        'order[np.argsort(labels[order], kind="stable")]',
        "order",
        "tests/data/test_sources.py::test_folds_have_their_share_of_each_class",
    ),
)
