r"""Fine-tuning: any model from trained weights on other images, with a fresh classifier.

  python -m jaxvision.main --config configs/finetune.py:convnext_tiny,folder=/data/flowers --workdir runs/flowers
  # the data: folder=PATH, digits, or tfds=NAME, a prepared set
  ... :convnext_tiny.fb_in1k,folder=PATH       # from the published weights of this tag, not of the default one
  ... --config.model.weights=FILE              # or from a file, the workdir of a run, or hf-hub:OWNER/NAME
  ... --config.optimizer.freeze='(?!fc\.).*'   # only the classifier learns (a regex of whole parameter names)
  ... --config.optimizer.layer_decay=1.0       # the same learning rate in all layers

tools/finetune.py chooses batch, learning rate and epochs for a folder of images, and calls this recipe.

This is no published recipe but a starting point: AdamW with a layer-wise learning-rate decay of 0.75, 30 epochs, mild
augmentation. Each block is a layer, as in timm; for ConvNeXts `--config.optimizer.layer_groups=paper` uses the paper's
12 layers. The papers' own fine-tuning of ConvNeXt and DeiT-III is in configs/convnext_finetune.py and
configs/deit3_finetune.py.

Run so far: `:resnet10t,digits` for a few steps in CI, and EfficientNet-Lite0 on the photos of
docs/tutorials/finetune.md.
"""

from jaxvision.config import REQUIRED, base_config
from jaxvision.errors import UserError
from jaxvision.models.registry import lookup, model_spec
from jaxvision.recipes import VECTORS_POSITIONS_TOKENS, decay_all_but, names_data, use_data


def get_config(arg=""):
    model, _, data = arg.partition(",")
    if not model or not names_data(data):
        raise UserError("name a model and data: configs/finetune.py:MODEL,folder=PATH or MODEL,tfds=NAME, MODEL,digits")
    lookup(model)
    spec = model_spec(model)
    c = base_config()
    c.batch_size = 128
    c.epochs = 30.0
    c.model.name = model
    c.model.weights = f"{spec.name}.{spec.tag}" if spec.published else REQUIRED
    c.model.image_size = spec.input_size
    c.model.drop_path_rate = 0.1
    c.data.crop_area = (0.25, 1.0)
    c.data.resize = "bicubic"
    c.augment.policy = "trivial"
    c.augment.interpolation = "bilinear"
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 5e-4
    c.optimizer.clip_norm = 1.0
    c.optimizer.weight_decay = 0.05
    c.optimizer.decay_rules = decay_all_but(VECTORS_POSITIONS_TOKENS)
    c.optimizer.layer_decay = 0.75
    c.schedule.warmup_epochs = 3.0
    c.loss.label_smoothing = 0.1
    c.ema.decay = 0.999
    c.eval.crop_pct = spec.crop_pct
    c.eval.crop_mode = spec.crop_mode
    c.eval.interpolation = spec.interpolation
    use_data(c, data)
    return c
