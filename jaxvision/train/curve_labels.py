"""What the training curves of a run stand for, in words: they are seldom of the evaluation's loss and images."""

from __future__ import annotations

from jaxvision.config import Config


def curve_labels(config: Config) -> dict[str, str]:
    """The labels that ``run.report.plot_curves`` takes.

    Returns:
      ``train_loss``: "cross-entropy" only where it is the evaluation's loss; ``train_images``: what was done to them.
    """
    augment, loss = config.augment, config.loss
    mixed = config.mixes()
    augmented = config.data.crop != "none" or any(
        (augment.flip, augment.randaugment_layers, augment.policy, augment.color_jitter, augment.lighting,
         augment.erase_prob)
    )  # fmt: skip

    words = ["binary cross-entropy" if loss.name == "binary" else "cross-entropy"]
    if loss.name == "binary" and loss.sum_classes:
        words.append("summed over classes")
    if mixed:
        words.append("mixed labels")
    if loss.label_smoothing:
        words.append(f"labels smoothed by {loss.label_smoothing:g}")
    if config.teacher.name:
        words.append(f"with a teacher ({config.teacher.kind})")

    images = " and ".join(["mixed"] * mixed + ["augmented"] * augmented) or "plain"
    return {"train_loss": ", ".join(words), "train_images": f"{images} images"}
