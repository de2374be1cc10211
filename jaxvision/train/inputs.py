"""From a config to batches: data sets, their folds, and the loaders over them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh

from jaxvision import augment
from jaxvision.config import Config
from jaxvision.data import decode, sources
from jaxvision.data.config import parse_fold
from jaxvision.data.loader import Loader, prefetch
from jaxvision.data.plan import Plan
from jaxvision.run.console import notes
from jaxvision.train import sharding
from jaxvision.train.replicas import deal_count


def open_train(config: Config) -> sources.Source:
    """The training examples: of a whole split, or without one fold of it."""
    source = _open_source(config, config.data.train_split)
    if fold := parse_fold(config.data.fold):
        return sources.without_fold(source, *fold)
    return source


def open_eval(config: Config) -> sources.Source:
    """The examples to evaluate on: the evaluation split, or a fold of the training split."""
    if fold := parse_fold(config.data.fold):
        return sources.only_fold(_open_source(config, config.data.train_split), *fold)
    return _open_source(config, config.data.eval_split)


def eval_batch_size(config: Config) -> int:
    """Global batch of the evaluation."""
    return config.eval.batch_size or config.batch_size


def eval_image_size(config: Config) -> int:
    """Pixels of a side in the evaluation."""
    return config.eval.image_size or config.model.image_size


def _open_source(config: Config, split: str) -> sources.Source:
    with notes(_say):
        return sources.open_source(config.data, split, image_size=config.model.image_size, seed=config.seed)


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


def train_loader(
    config: Config, source: sources.Source, stopped: Callable[[], bool], skipped: dict[int, str] | None = None
) -> Loader:
    """Batches for training: random crops in the plan's order; replaced examples are added to ``skipped``."""
    d, e = config.data, config.eval
    transform = decode.train_transform(
        size=config.model.image_size,
        crop=d.crop,
        area=d.crop_area,
        ratio=d.crop_ratio,
        resize=d.resize,
        crop_pct=e.crop_pct,
        interpolation=e.interpolation,
        crop_mode=e.crop_mode,
        min_object_covered=d.min_object_covered,
        policy=augment.HOST_POLICIES[d.policy] if d.policy else None,
    )
    return _loader(config, source, transform, stopped, train=True, skipped=skipped)


def eval_loader(config: Config, source: sources.Source, stopped: Callable[[], bool]) -> Loader:
    """Batches for evaluation: every example once, as ``config.eval`` says."""
    transform = decode.eval_transform(
        size=eval_image_size(config),
        crop_pct=config.eval.crop_pct,
        interpolation=config.eval.interpolation,
        crop_mode=config.eval.crop_mode,
    )
    return _loader(config, source, transform, stopped, train=False)


def _loader(
    config: Config,
    source: sources.Source,
    transform: decode.Transform,
    stopped: Callable[[], bool],
    *,
    train: bool,
    skipped: dict[int, str] | None = None,
) -> Loader:
    plan = Plan(
        len(source),
        config.batch_size if train else eval_batch_size(config),
        seed=config.seed,
        train=train,
        shard=jax.process_index(),
        shards=jax.process_count(),
        repeats=config.data.repeats if train else 1,
        deal=deal_count(config, jax.device_count()) if train else 1,
    )
    return Loader(
        source,
        plan,
        transform,
        size=config.model.image_size if train else eval_image_size(config),
        uniforms=decode.UNIFORMS + (augment.HOST_UNIFORMS if config.data.policy else 0),
        dct_method=config.data.dct_method,
        threads=config.data.threads or None,
        ahead=config.data.ahead,
        on_corrupt=config.data.on_corrupt,
        stopped=stopped,
        skipped=skipped,
    )


def step_stream(loader: Loader, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
    """Device batches of steps ``start`` to ``stop - 1``, one transferred ahead."""
    return prefetch(loader.batches(start, stop), lambda batch: sharding.put_batch(mesh, batch), depth=1)
