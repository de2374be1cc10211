"""Plants one error after the other into a copy of the sources and shows that the tests notice: ``make planted``.

    python tests/planted_errors.py [WORD ...]    # only the errors whose description holds one of the words

Each error replaces a text that occurs once in its file; the named test has to fail with it and to pass without. A
survivor, or a text that is not found, ends the command with status 1.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Planted:
    """An error: ``right`` becomes ``wrong`` in ``file``, and ``test`` has to fail."""

    what: str
    file: str
    right: str
    wrong: str
    test: str


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
        "DeiT's learning rate one epoch early",
        "jaxvision/optim/schedules.py",
        "jnp.maximum(clock - delay, 0.0)",
        "jnp.maximum(clock, 0.0)",
        "tests/optim/test_recipe_schedules.py::test_deits_schedule_is_one_epoch_late",
    ),
    Planted(
        "a stochastic depth of DeiT-III that rises from 0",
        "configs/deit3_s.py",
        'drop_path_rule = "constant"',
        'drop_path_rule = "linear"',
        "tests/models/test_stochastic_depth.py::test_deit3_drops_every_block_at_the_same_rate",
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
        "evaluation without its mask",
        "jaxvision/train/step.py",
        "metric_values(EVAL_METRICS, logits, labels), mask)",
        "metric_values(EVAL_METRICS, logits, labels), jnp.ones_like(mask))",
        "tests/train/test_step.py::test_evaluation_counts_and_masks",
    ),
    Planted(
        "an evaluation that counts examples twice",
        "jaxvision/data/plan.py",
        "np.where(positions < self.num_examples, positions, PADDING)",
        "positions[::-1] % self.num_examples",
        "tests/data/test_plan.py::test_evaluation_covers_every_example_once",
    ),
    Planted(
        "a gradient of NaN accepted",
        "jaxvision/train/step.py",
        "_all_finite((grads, stats))",
        "_all_finite(stats)",
        "tests/train/test_step.py::test_a_gradient_of_nan_behind_a_finite_loss_changes_nothing",
    ),
    Planted(
        "microbatches summed instead of averaged",
        "jaxvision/train/step.py",
        "jax.tree.map(mean, grads)",
        "grads",
        "tests/train/test_step.py::test_accumulation_equals_the_mean_of_its_parts",
    ),
    Planted(
        "an EMA that adds",
        "jaxvision/optim/ema.py",
        "a + rate * (v - a)",
        "a + rate * v",
        "tests/train/test_step.py::test_ema_follows_tensorflow_and_timm",
    ),
    Planted(
        "a checkpoint without the EMA",
        "jaxvision/train/state.py",
        "[flat[name] for name in flatten(tree)]",
        '[flat[name.removeprefix("ema_")] for name in flatten(tree)]',
        "tests/train/test_step.py::test_state_flattens_and_back",
    ),
    Planted(
        "AdamW's decay with the wrong sign",
        "jaxvision/optim/optimizers.py",
        "jax.tree.map(lambda g, p, d: g + d * p if d else g, updates, params, decay), state",
        "jax.tree.map(lambda g, p, d: g - d * p if d else g, updates, params, decay), state",
        "tests/optim/test_optimizers.py::test_twenty_steps_equal_the_reference",
    ),
    Planted(
        "a learning rate that is one step early",
        "jaxvision/optim/schedules.py",
        "clock = jnp.asarray(step, jnp.float32) / unit",
        "clock = (jnp.asarray(step, jnp.float32) + 1) / unit",
        "tests/optim/test_optimizers.py::test_every_value_of_timms_schedules",
    ),
    Planted(
        "label smoothing over one class too few",
        "jaxvision/optim/losses.py",
        "smoothing / classes",
        "smoothing / (classes - 1)",
        "tests/optim/test_optimizers.py::test_cross_entropy_equals_torch",
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
        "a checkpoint whose checksum is not compared",
        "jaxvision/run/checkpoint.py",
        "if bad:",
        "if False:",
        "tests/run/test_checkpoint.py::test_a_flip_in_the_array_data_names_the_array",
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
        "copies of an image are dealt to the devices in use",
        "jaxvision/train/replicas.py",
        "return (config.replicas or devices) if",
        "return devices if",
        "tests/train/test_replicas.py::test_the_parts_of_a_run_have_the_groups",
    ),
    Planted(
        "groups of the devices in use, whatever the recipe states",
        "jaxvision/train/replicas.py",
        "return config.replicas // config.accumulate if config.replicas else devices",
        "return devices",
        "tests/train/test_replicas.py::test_a_step_is_the_same_on_any_number_of_devices",
    ),
    Planted(
        "microbatches that cut groups",
        "jaxvision/train/replicas.py",
        "return batch // config.replicas if config.replicas and config.grouped() else 1",
        "return 1",
        "tests/train/test_replicas.py::test_accumulation_does_not_change_the_groups",
    ),
    Planted(
        "a gather for the draws of each group",
        "jaxvision/augment/mix.py",
        "jnp.repeat(x, size)",
        "jnp.repeat(x, size, total_repeat_length=batch)",
        "tests/train/test_replicas.py::test_groups_stay_on_their_device_where_devices_divide_replicas",
    ),
    Planted(
        "ties count for the model",
        "jaxvision/train/metrics.py",
        "jnp.sum(~(logits < own), axis=1) - 1",
        "jnp.sum(logits > own, axis=1)",
        "tests/train/test_metrics.py::test_constant_logits_are_never_right",
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
        "stochastic depth of DeiT-III halved",
        "jaxvision/models/stochastic_depth.py",
        "return tuple((rate,) * depth for depth in depths)",
        "return tuple((rate / 2,) * depth for depth in depths)",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[deit3_s:b stochastic depth]",
    ),
    Planted(
        "a floor under the crops of big_vision",
        "configs/vit_s16.py",
        "c.data.min_object_covered = 0.0",
        "c.data.min_object_covered = 0.1",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[vit_s16:90 crop]",
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
        "DeiT's schedule one epoch early",
        "configs/deit_s.py",
        "c.schedule.delay_epochs = 1.0",
        "c.schedule.delay_epochs = 0.0",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[deit_s:s learning rate]",
    ),
    Planted(
        "Swin's tables of position bias decayed",
        "configs/swin_t.py",
        "|relative_position_bias_table:2d)",
        "|relative_position_bias:2d)",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[swin_t:t decayed parameters]",
    ),
    Planted(
        "ConvNeXt's label smoothing doubled",
        "configs/convnext_t.py",
        "c.loss.label_smoothing = 0.1",
        "c.loss.label_smoothing = 0.2",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[convnext_t:t loss]",
    ),
    Planted(
        "an evaluation that keeps less of the image",
        "configs/swin_t.py",
        "c.eval.crop_pct = 224 / 256",
        "c.eval.crop_pct = 0.85",
        "tests/test_recipe_sources.py::test_recipe_is_its_sources[swin_t:t evaluation crop]",
    ),
    Planted(
        "folds without their share of each class",
        "jaxvision/data/sources.py",
        'order[np.argsort(labels[order], kind="stable")]',
        "order",
        "tests/data/test_sources.py::test_folds_have_their_share_of_each_class",
    ),
    Planted(
        "a fine-tuning rate that grows with the batch itself",
        "jaxvision/train/finetune.py",
        'rate_factor("adamw", batch / recipe_batch)',
        "batch / recipe_batch",
        "tests/train/test_finetune_settings.py::test_the_rate_follows_the_batch_and_the_folder_its_layout",
    ),
    Planted(
        "fine-tuning evaluation images that are not checked",
        "jaxvision/train/finetune.py",
        "for source in (images.train, images.evaluation):",
        "for source in (images.train,):",
        "tests/train/test_finetune_settings.py::test_images_that_cannot_be_read_end_it_before_training",
    ),
    Planted(
        "a confusion matrix with answers as rows",
        "jaxvision/run/confusion.py",
        "rows * count + columns",
        "columns * count + rows",
        "tests/run/test_confusion.py::test_the_tables_of_a_report",
    ),
    Planted(
        "mistakes in the order of the data",
        "jaxvision/run/confusion.py",
        'wrong[np.argsort(-np.nan_to_num(self.confidence[wrong], nan=2.0), kind="stable")]',
        "wrong",
        "tests/run/test_confusion.py::test_the_tables_of_a_report",
    ),
    Planted(
        "a tie that the confusion matrix counts as right",
        "jaxvision/train/metrics.py",
        "jnp.where(right, labels, other)",
        "jnp.argmax(logits, axis=-1)",
        "tests/train/test_metrics.py::test_an_answer_is_the_label_only_where_it_counts_as_right[ties]",
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
    Planted(
        "probe: held-out images that are fitted to",
        "jaxvision/train/probe.py",
        "np.delete(order, np.s_[::HELD_OUT])",
        "order",
        "tests/train/test_probe_features.py::test_the_strength_is_chosen_on_held_out_images",
    ),
    Planted(
        "probe: a classifier of the other images only",
        "jaxvision/train/probe.py",
        "fit_linear(train.values, train.labels, num_classes=num_classes, l2=best)",
        "fit_linear(train.values[kept], train.labels[kept], num_classes=num_classes, l2=best)",
        "tests/train/test_probe_features.py::test_the_strength_is_chosen_on_held_out_images",
    ),
)


def plant(root: Path, error: Planted) -> None:
    """Writes the error into a copy of the sources; raises ``ValueError`` where its text does not occur exactly once."""
    path = root / error.file
    text = path.read_text() if path.is_file() else ""
    if text.count(error.right) != 1:
        raise ValueError(f"{error.file} holds {error.right!r} {text.count(error.right)} times, expected once")
    path.write_text(text.replace(error.right, error.wrong))


def copy_sources(target: Path) -> None:
    """The tracked files as they are here, and the tests' compilation cache."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    (ROOT / ".pytest_cache").mkdir(exist_ok=True)
    (target / ".pytest_cache").symlink_to(ROOT / ".pytest_cache")


def run_tests(root: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """pytest in a copy of the sources. Its status is 0 where all pass, and 1 where a test fails."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "--tb=line", "--durations=0", *tests]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def verdict(error: Planted) -> tuple[bool, str]:
    """Whether the named test fails with the error, and what it says."""
    with tempfile.TemporaryDirectory(prefix="jaxvision-planted-") as folder:
        copy_sources(Path(folder))
        try:
            plant(Path(folder), error)
        except ValueError as problem:
            return False, f"NOT PLANTED: {problem}"
        result = run_tests(Path(folder), error.test)
    if result.returncode == 0:
        return False, "SURVIVED"
    if result.returncode != 1:
        return False, f"NO TEST RAN: {(result.stdout + result.stderr)[-300:]}"
    said = re.findall(r"^(?:E  +|\S+:\d+: )(.+)", result.stdout, re.MULTILINE)
    return True, said[0] if said else "failed"


def main(words: list[str]) -> int:
    """Command line."""
    chosen = [e for e in ERRORS if not words or any(word in e.what for word in words)]
    with tempfile.TemporaryDirectory(prefix="jaxvision-planted-") as folder:
        copy_sources(Path(folder))
        sound = run_tests(Path(folder), *dict.fromkeys(e.test for e in chosen))
    if sound.returncode:
        print(f"error: without any planted error the tests already fail\n{sound.stdout[-3000:]}", file=sys.stderr)
        return 1
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for error, (noticed, said) in zip(chosen, pool.map(verdict, chosen), strict=True):
            survivors += not noticed
            print(
                f"{'noticed ' if noticed else 'MISSED  '} {error.what}\n    {error.test}\n    {said[:200]}", flush=True
            )
    print(f"{len(chosen) - survivors} of {len(chosen)} planted errors are noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
