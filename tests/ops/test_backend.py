"""How an operation finds its implementation, and what an implementation has to look like."""

import importlib
import inspect
import pkgutil

import jax
import pytest

from jaxvision import ops
from jaxvision.ops import backend
from jaxvision.ops.backend import Operation, load_implementations, lower_for, operation, target


@operation
def doubled(x):
    """Twice ``x``."""
    return x + x


@doubled.register("gpu")
def doubled_by_multiplication(x):
    return 2 * x


def test_the_target_chooses_the_implementation():
    def primitive():
        # A new function each time: JAX keeps what it has traced.
        return str(jax.make_jaxpr(lambda x: doubled(x))(1.0).eqns[0].primitive)

    assert primitive() == "add"
    with lower_for("gpu"):
        assert target() == "gpu" and primitive() == "mul"
        with lower_for("tpu"):
            assert primitive() == "add"
        assert primitive() == "mul"
    assert primitive() == "add" and target() == jax.default_backend()


def test_an_operation_reads_like_its_portable_implementation():
    assert doubled.__name__ == "doubled" and doubled.__doc__ == "Twice ``x``."
    assert doubled.portable(3) == 6 and doubled.dispatch("gpu") is doubled_by_multiplication


def test_a_second_implementation_for_a_backend_is_refused():
    with pytest.raises(ValueError, match="doubled already has an implementation for 'gpu'"):
        doubled.register("gpu")(lambda x: x)


def operations():
    modules = [importlib.import_module(m.name) for m in pkgutil.iter_modules(ops.__path__, "jaxvision.ops.")]
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, Operation)}
    return list(found.values())


def test_implementations_take_the_same_arguments():
    assert len(operations()) >= 10
    for one in operations():
        wanted = inspect.signature(one.portable)
        for name in ("cpu", "gpu", "tpu", "onnx"):
            assert inspect.signature(one.dispatch(name)) == wanted, f"{one.__name__} on {name}"


def test_each_implementation_says_what_it_replaces_what_it_gains_and_when_it_is_chosen():
    chosen = [one.dispatch(name) for one in operations() for name in ("cpu", "gpu")]
    for function in chosen:
        if function.__module__.startswith(("jaxvision.ops.cpu.", "jaxvision.ops.gpu.")):
            missing = [word for word in ("Replaces:", "Gain:", "Chosen:") if word not in function.__doc__]
            assert not missing, f"{function.__module__}.{function.__name__}: {missing}"


def test_a_missing_package_is_no_error_but_a_broken_one_is(monkeypatch):
    def failing(name):
        def load(package):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return load

    monkeypatch.setattr(backend.importlib, "import_module", lambda package: failing(package)(package))
    load_implementations()
    monkeypatch.setattr(backend.importlib, "import_module", failing("jaxvision.ops.nonexistent"))
    with pytest.raises(ModuleNotFoundError, match="nonexistent"):
        load_implementations()
