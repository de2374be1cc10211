"""Lists of models and of published weights."""

import jaxvision
from tools.parity.reference import timm  # noqa: F401  (before anything of timm)


def test_lists_of_models_and_of_published_weights():
    names = jaxvision.list_models()
    assert names.index("resnet18") < names.index("resnet101")
    assert jaxvision.list_models(["resnet18*", "vit_tiny*"], exclude_filters="*d") == [
        "resnet18", "vit_tiny_patch16_224", "vit_tiny_patch16_384"
    ]  # fmt: skip
    weights = jaxvision.list_models("resnet18", pretrained=True)
    assert weights[0] == "resnet18.a1_in1k" and "resnet18.tv_in1k" in weights  # the default first
    assert jaxvision.list_models("resnet18.*") == weights
    assert jaxvision.list_models("resnet18*", pretrained=True, exclude_filters=["*d", "*.a*"]) == weights[3:]
    assert jaxvision.list_models("seresnet18", pretrained=True) == []  # nobody publishes any
    everything = jaxvision.list_models(pretrained=True)
    assert len(everything) == len(set(everything)) > 300


def test_every_published_name_is_a_repository_of_timms():
    from timm.models import get_pretrained_cfg

    for name in jaxvision.list_models(pretrained=True):
        published = get_pretrained_cfg(name)
        assert (published.hf_hub_id, published.hf_hub_filename) == (f"timm/{name}", None)
