"""The proofs of equality see a NaN: planted in any place, on either side or on both, it is a failure."""

import copy
import json
import math

import jax
import numpy as np
import pytest
from reference import random_images, relative_error, trained_like

import jaxvision
from tools.parity import compare_models, compare_steps, models, steps
from tools.parity import reference as parity_reference
from tools.parity.equality import NotFiniteError, largest
from tools.parity.reference import CLASSES, LARGE, ill_conditioned, nchw, torch

BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", BAD)
def test_an_error_of_what_is_not_finite_is_a_failure(bad):
    good, broken = np.ones((2, 3)), np.ones((2, 3))
    broken[1, 2] = bad
    assert relative_error(good + 1e-3, good) == pytest.approx(1e-3)
    for sides in ((broken, good), (good, broken), (broken, broken)):
        with pytest.raises(NotFiniteError, match=r"1 of 6 values of the (compared array|reference) are NaN"):
            relative_error(*sides)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_largest_of_errors_sees_each_of_them(bad, place):
    assert largest([0.1, 0.3, 0.2]) == 0.3
    errors = [0.1, 0.3, 0.2]
    errors[place] = bad
    with pytest.raises(NotFiniteError):
        largest(errors)
    with pytest.raises(ValueError):
        largest([])


def test_numpy_s_comparison_takes_no_nan_for_equal_in_these_tests():
    np.testing.assert_allclose([1.0, 2.0], [1.0, 2.0])
    for bad in BAD:
        with pytest.raises(AssertionError):
            np.testing.assert_allclose([1.0, bad], [1.0, bad])


# ---------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def pair():
    """timm's network and ours with the same weights."""
    reference = trained_like("resnet10t", num_classes=CLASSES)
    model = jaxvision.create_model("resnet10t", num_classes=CLASSES, weights=reference.state_dict())
    return reference, model


def ours_with(model, value):
    variables = jax.tree.map(np.array, model.variables)
    variables["params"]["layer4.0"]["bn2"]["bias"][5] = value
    return model.with_variables(variables)


def theirs_with(reference, value):
    broken = copy.deepcopy(reference)
    with torch.no_grad():
        broken.layer4[0].bn2.bias[5] = value
    return broken


@pytest.mark.parametrize("side", ["ours", "theirs", "both"])
def test_a_nan_in_one_map_of_a_model_fails_its_comparison(pair, side):
    reference, model = pair
    x = random_images((64, 64), 0)
    assert largest(compare_models.forward_errors(reference, model, x).values()) < 1e-4
    if side != "ours":
        reference = theirs_with(reference, math.nan)
    if side != "theirs":
        model = ours_with(model, math.nan)
    with pytest.raises(NotFiniteError):
        compare_models.forward_errors(reference, model, x)
    with pytest.raises(NotFiniteError):
        compare_models.gradient_error(reference, model, (64, 64), tries=2)


def test_both_sides_rounding_is_measured_with_weights_that_magnify_it(pair, monkeypatch):
    reference, model = pair
    x = random_images((64, 64), 0)
    before = {key: value.clone() for key, value in reference.state_dict().items()}
    magnifying = ill_conditioned(reference, x)
    with torch.no_grad():
        assert 100 < magnifying(nchw(x)).abs().max() < 3 * LARGE
    errors = compare_models.rounding(reference, model, x)
    assert set(errors) == {"rounding", "timm's rounding"} < set(models.COLUMNS)
    assert all(1e-8 < error < 1e-5 for error in errors.values()), errors
    assert all(torch.equal(value, before[key]) for key, value in reference.state_dict().items())
    # Only the side that is less exact shows it.
    outputs = compare_models.module_outputs
    monkeypatch.setattr(compare_models, "module_outputs", lambda *args: [y * (1 + 1e-4) for y in outputs(*args)[:1]])
    noisy = compare_models.rounding(reference, model, x)
    assert noisy["rounding"] > 9e-5 and noisy["timm's rounding"] == errors["timm's rounding"]
    for broken in ((theirs_with(reference, math.nan), model), (reference, ours_with(model, math.nan))):
        monkeypatch.setattr(compare_models, "ill_conditioned", lambda reference, x: reference)
        monkeypatch.setattr(compare_models, "module_outputs", outputs)
        monkeypatch.setattr(jaxvision, "load_weights", lambda model, state: model)
        with pytest.raises(NotFiniteError):
            compare_models.rounding(*broken, x)


@pytest.mark.parametrize("large", [0.5, 30.0, 150.0])
def test_magnifying_weights_meet_the_logits_asked_for(pair, monkeypatch, large):
    """From either side: deep networks have far larger logits than wanted, in which each rounding changes the result."""
    monkeypatch.setattr(parity_reference, "LARGE", large)
    x = random_images((64, 64), 0)
    with torch.no_grad():
        assert large / 3 < ill_conditioned(pair[0], x)(nchw(x)).abs().max() < 3 * large


def test_a_gradient_that_is_nan_for_one_input_only_is_not_forgotten(pair, monkeypatch):
    """Each tensor's best of several inputs counts, but not where one of them gives no number."""
    original, calls = compare_models.torch_gradients, []

    def gradients(reference, x):
        grads, dx = original(reference, x)
        calls.append(len(calls))
        first = next(iter(grads))
        grads[first] = grads[first] * (math.nan if len(calls) == 1 else 2.0 if len(calls) < 4 else 1.0)
        return grads, dx

    monkeypatch.setattr(compare_models, "torch_gradients", gradients)
    with pytest.raises(NotFiniteError):
        compare_models.gradient_error(*pair, (64, 64))
    calls[:] = [0]
    assert compare_models.gradient_error(*pair, (64, 64)) < 1e-3 and len(calls) > 3  # without it, a later input counts


def test_the_command_calls_a_model_of_nans_different_and_goes_on(tmp_path, monkeypatch, capsys):
    def compare(name, size, *, gradients):
        if name == "resnet18":
            relative_error([math.nan], [math.nan])
        return {
            "name": name,
            "size": "9x9",
            "logits": 1e-7,
            "rounding": 2e-6,
            "timm's rounding": 3e-6,
            "round_trip": True,
            "equal": True,
            "seconds": 0.1,
        }

    monkeypatch.setattr(compare_models, "compare", compare)
    out = tmp_path / "parity.md"
    assert models.main(["resnet18", "resnet34", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "resnet18 75x75:  NOT EQUAL NotFiniteError" in printed and "1 of 2 equal ; not: resnet18" in printed
    written = out.read_text()
    assert "| NO |" in written and "| resnet34 | 9x9 | 1.0e-07 |" in written and f"--out {out}`" in written
    assert "| rounding | timm's rounding |" in written and "| 2.0e-06 | 3.0e-06 | bit-exact | yes |" in written
    assert [row["equal"] for row in json.loads(out.with_suffix(".json").read_text())] == [False, True]
    # The same models again, from the written rows.
    assert models.main(["--again", str(out.with_suffix(".json"))]) == 1
    assert "1 of 2 equal ; not: resnet18" in capsys.readouterr().out
    assert models.main(["no_such_model"]) == 2


# ---------------------------------------------------------------------- steps


NAMES = ("conv", "block.qkv.bias", "bn.running_var")


def result(rng):
    """Losses and named arrays, as a side's ten steps give them."""
    weights = {name: rng.standard_normal(6) for name in NAMES}
    return [2.0, 1.5, 1.25], {"weights": weights, "average": {name: 0.5 * value for name, value in weights.items()}}


def changed(side, kind, name, value):
    losses, arrays = copy.deepcopy(side)
    if kind == "loss":
        losses[1] = value
    else:
        arrays[kind][name][4] = value
    return losses, arrays


PLACES = [("loss", ""), *((kind, name) for kind in ("weights", "average") for name in NAMES)]


@pytest.mark.parametrize(("kind", "name"), PLACES)
@pytest.mark.parametrize("side", ["ours", "theirs", "both"])
def test_a_nan_anywhere_in_the_steps_fails_the_comparison(side, kind, name):
    rng = np.random.default_rng(0)
    start = result(rng)[1]["weights"]
    good = result(rng)
    assert set(compare_steps.difference(good, good, start, good).values()) == {0.0}
    off = compare_steps.difference(changed(good, kind, name, 3.0), good, start, good)
    assert sum(value > 0.1 for value in off.values()) == 1, off
    broken = changed(good, kind, name, math.nan)
    ours, theirs = (broken if side in (own, "both") else good for own in ("ours", "theirs"))
    with pytest.raises(NotFiniteError):
        compare_steps.difference(ours, theirs, start, good)


def test_the_command_calls_a_recipe_of_nans_different_and_goes_on(tmp_path, monkeypatch, capsys):
    figures = {"loss": 1e-12, "update": 2e-12, "statistics": 0.0, "average": 1e-13}

    def compare(name, model, size, *, narrow):
        if name == "deit_s":
            largest([0.0, math.nan])
        row = {"recipe": name, "model": model or "its own", "optimizer": "sgd", "float64": figures}
        return row | {"equal": True, "seconds": 1.0}

    monkeypatch.setattr(compare_steps, "compare", compare)
    out = tmp_path / "steps.md"
    assert steps.main(["deit_s", "swin_t", "--small", "--out", str(out)]) == 1
    assert "deit_s: NotFiniteError" in capsys.readouterr().out
    assert "| NO NotFiniteError" in out.read_text() and "| 1e-12 / 2e-12 / 0e+00 / 1e-13 | yes |" in out.read_text()
    assert steps.main(["swin_t"]) == 0
