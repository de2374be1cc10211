"""The base of all model families: the fields they share, and what the rest of the library asks of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models.renaming import State
from jaxvision.models.stochastic_depth import DROP_PATH_RULES, Rates
from jaxvision.ops.dtypes import DType


class LayerGroups(NamedTuple):
    """Which parameters form a layer, for layer-wise learning rates: regular expressions for how their names begin.

    A match has to end where a part of the name ends: "conv1" is the beginning of "conv1.weight" and not of
    "conv10.weight". Parameters that match none belong to the classifier.

    Attributes:
      stem: parameters in front of the first block.
      block: parameters of a block; its groups are the numbers that identify it (stage and block, say), and a group
        that took no part in the match counts as 0.
      neck: parameters behind the last block, which count with it; "" for none.
      merged: consecutive blocks that form one layer, for each stage, which is the first number of a block; 0: the whole
        stage. Empty: every block is a layer.
    """

    stem: str
    block: str
    neck: str = ""
    merged: tuple[int, ...] = ()


class Classifier(nn.Module, kw_only=True):
    """A network that classifies NHWC images.

    A family extends it with fields for its variants, ``num_features``, ``layer_groups``, ``map_names``, ``body`` and
    ``head``, and overrides whatever else differs from the defaults here. Families accept all fields, also those without
    effect on them.

    Attributes:
      num_classes: number of classes.
      drop_rate: probability of dropout before the classifier, in training.
      drop_path_rate: stochastic depth in training: the probability with which a sample skips a block.
      drop_path_rule: how a block's probability follows from it, one of
        :data:`~jaxvision.models.stochastic_depth.DROP_PATH_RULES`; see :meth:`block_rates`.
      bn_momentum: the batch's share in the running statistics of batch normalisation, torch's convention.
      bn_groups: number of equal, consecutive groups of the batch; batch normalisation takes statistics of each.
      remat: recompute each block's activations in the backward pass, to save memory.
      dtype: of the computation. Parameters, statistics and logits are float32.
      layer_groups: see :class:`LayerGroups`; as timm groups them.
      paper_layer_groups: as the paper's code groups them, where that differs from timm's.
      attends: whether attention is most of the work; the options of XLA's CPU compiler depend on it.
      in_timm: whether timm has the family, too.
      takes_drop_block: whether ``body`` takes ``drop_block``, the rate of DropBlock in training.
    """

    layer_groups: ClassVar[LayerGroups]
    paper_layer_groups: ClassVar[LayerGroups | None] = None
    attends: ClassVar[bool] = False
    in_timm: ClassVar[bool] = True
    takes_drop_block: ClassVar[bool] = False

    num_classes: int = 1000
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    drop_path_rule: str = "linear"
    bn_momentum: float = 0.1
    bn_groups: int = 1
    remat: bool = False
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        output: str = "logits",
        drop_block: jax.Array | float | None = None,
    ) -> Any:
        """Runs the network.

        Args:
          x: (N, H, W, C) normalised float images; for the outputs ``unpooled_to_...`` what "unpooled" returned.
          train: whether to use batch statistics, dropout and stochastic depth. Needs the rngs "dropout" and
            "drop_path" where their rates are not zero, and "batch_stats" mutable where there is batch normalisation.
          output: what to return.
          drop_block: share of the maps of the last two stages that DropBlock drops in training, where the network
            ``takes_drop_block``.

        Returns:
          logits, unpooled_to_logits: float32 (N, num_classes).
          embed, unpooled_to_embed: the classifier's input, (N, num_features).
          unpooled: the last map (N, H', W', C') or, of a ViT, all tokens (N, T, C'), normalised where the network
            does that before it pools: timm's ``forward_features``.
          features: a list of maps, each (N, H', W', C'), as ``map_names`` says.
          heads: of a ``distilled`` network, the logits for the labels and those for the teacher, a pair.
        """
        if not output.startswith("unpooled_to_"):
            maps, x = self.body(x, train) if drop_block is None else self.body(x, train, drop_block)  # type: ignore
            if output == "features":
                return maps
            if output == "unpooled":
                return x
        return self.head(x.astype(self.dtype), train, output.removeprefix("unpooled_to_"))

    def body(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """The outputs "features" and "unpooled" of images; called by ``__call__``, in its scope."""
        raise NotImplementedError

    def head(self, x: jax.Array, train: bool, output: str) -> Any:
        """The output "logits", "embed" or "heads" of the output "unpooled"; called by ``__call__``, in its scope."""
        raise NotImplementedError

    @property
    def map_names(self) -> list[str]:
        """The layers whose outputs are the maps, by timm's names."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """Channels of the classifier's input."""
        raise NotImplementedError

    def block_rates(self, depths: Sequence[int]) -> Rates:
        """The stochastic-depth rate of each block: a tuple per stage, for stages with ``depths`` blocks."""
        return DROP_PATH_RULES[self.drop_path_rule](self.drop_path_rate, depths)

    # A family that has one of the next four properties declares a field of that name, with a default.

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that the network is built for; None for networks that take any size."""
        return None

    @property
    def layer_scale(self) -> float | None:
        """Initial value of the residual branches' learned scales; None for networks without."""
        return None

    @property
    def zero_last_scale(self) -> bool | None:
        """Whether the last normalisation of a residual branch starts with a scale of 0; None for networks without."""
        return None

    @property
    def global_pool(self) -> str:
        """What :meth:`embed <jaxvision.Model.embed>` takes of the last features, in timm's words: "avg" or "token"."""
        return "avg"

    @property
    def new_classifier_scale(self) -> float:
        """Factor of the initial values of a classifier that takes the place of another one, as in fine-tuning."""
        return 1.0

    @property
    def distilled(self) -> bool:
        """Whether a second classifier learns from a teacher; see ``output="heads"``."""
        return False

    def with_image_size(self, params: dict[str, Any], size: tuple[int, int]) -> tuple[Classifier, dict[str, Any]]:
        """The network and its parameters for images of another size; both unchanged if the network takes any size.

        Args:
          params: nested dicts as in ``variables["params"]``; not modified.
          size: (height, width) in pixels.
        """
        return self, params

    def to_timm_names(self, state: State) -> tuple[State, list[str]]:
        """The arrays of another repository's checkpoint under timm's names; unchanged where they have them already.

        Returns:
          The renamed arrays, and for each change of values a note for the user.
        """
        return state, []

    def resampled(self, name: str, table: np.ndarray) -> tuple[np.ndarray, str] | None:
        """A position table of a checkpoint for another image size, resampled for this network's.

        Args:
          name: of the parameter.
          table: the checkpoint's array, of another shape than the network's.

        Returns:
          The resampled array and a note for the user; None for any other parameter.
        """
        return None

    def block_class(self, block: type[nn.Module]) -> type[nn.Module]:
        """The class of a block, called as ``block(...)(x, train, ...)``, that recomputes where ``remat`` is set."""
        return nn.remat(block, static_argnums=(2,)) if self.remat else block
