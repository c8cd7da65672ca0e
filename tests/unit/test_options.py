"""Options and registries: kinds by name or as objects, their options beside the name, in files and on command lines."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import numpy as np
import pytest

import gprann
from gprann.errors import ConfigError
from gprann.options import Named, Options, Registry, Widths, keys, option
from gprann.signatures import divide, takes


class Optimizer(Named):
    """How to train."""


class Descriptor(Named):
    """Features."""


OPTIMIZERS = Registry("optimizer", Optimizer)
DESCRIPTORS = Registry("descriptor", Descriptor)


@OPTIMIZERS.register
class Lm(Optimizer):
    name = "lm"
    ridge: float = option("Penalty.", 1e-7, ge=0)


@OPTIMIZERS.register
class AdamW(Optimizer):
    name = "adamw"
    learning_rate: float = option("Learning rate.", 1e-3, gt=0)
    schedule: Literal["cosine", "constant"] = option("Course of the learning rate.", "cosine")
    ridge: float = option("Penalty.", 0.0, ge=0)


@DESCRIPTORS.register
class Chebyshev(Descriptor):
    name = "chebyshev"
    order: int = option("Highest polynomial.", 10, ge=0)


class Training(Options):
    hidden: Widths = option("Widths.", (10, 10))
    optimizer: Optimizer = option("Optimiser.", "lm")
    alpha: float = option("Share of the forces.", 0.98, ge=0, le=1)
    cutoff: float = option("Cutoff.", 6.5, gt=0, unit="Å")
    descriptor: Descriptor | None = option("Features.", None, table=True)
    level: Literal[1, 2] = option("Level.", 1)


def refusal(make: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make()
    return str(caught.value)


class TestKinds:
    def test_name_and_object_are_the_same(self) -> None:
        by_name = Training(optimizer="adamw", learning_rate=0.1)
        assert by_name == Training(optimizer=AdamW(learning_rate=0.1))
        assert isinstance(by_name.optimizer, AdamW)
        assert by_name.optimizer.learning_rate == 0.1
        assert Training() == Training(optimizer="lm") == Training(optimizer=Lm())
        assert Training(ridge=1.0).optimizer == Lm(ridge=1.0)
        assert by_name.replace(optimizer=Lm()) == Training()

    def test_a_table_names_the_kind_or_takes_the_first(self) -> None:
        assert Training(optimizer={"kind": "adamw", "learning_rate": 0.1}).optimizer == AdamW(
            learning_rate=0.1
        )
        assert Training(descriptor={"order": 3}).descriptor == Chebyshev(order=3)
        assert Training(descriptor={"kind": "chebyshev"}).descriptor == Chebyshev()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"learning_rate": 0.1}, "learning_rate belongs to optimizer = 'adamw', not to 'lm'"),
            ({"optimizer": "adam"}, "optimizer = 'adam': did you mean 'adamw'?"),
            ({"optimizer": 3}, "optimizer = 3: valid names: lm, adamw"),
            ({"optimizer": "adamw", "learning_rate": 0}, "learning_rate = 0: expected a positive number"),
            ({"ridge": -1}, "ridge = -1: expected a number that is not negative"),
            (
                {"optimizer": AdamW(), "learning_rate": 0.1},
                "learning_rate: give options of the optimizer to AdamW(...)",
            ),
            ({"learning_rat": 0.1}, "unknown option 'learning_rat': did you mean 'learning_rate'?"),
            ({"descriptor": {"ordre": 1}}, "descriptor.ordre: unknown key; did you mean 'order'?"),
            ({"descriptor": {"kind": "soap"}}, "descriptor = 'soap': valid names: chebyshev"),
            ({"descriptor": {"order": -1}}, "descriptor.order = -1: expected 0 or more"),
            ({"order": 1}, "unknown option 'order': did you mean 'ridge'?"),
            ({"alpha": 1.5}, "alpha = 1.5: expected a fraction from 0 to 1"),
            ({"cutoff": 0}, "cutoff = 0: expected a positive number in Å"),
            ({"optimizer": "adamw", "schedule": "cosin"}, "schedule = 'cosin': did you mean 'cosine'?"),
        ],
    )
    def test_refusals(self, options: dict[str, Any], message: str) -> None:
        assert refusal(lambda: Training(**options)) == message

    def test_all_errors_at_once(self) -> None:
        text = refusal(lambda: Training(optimizer="adamw", learning_rate=-1, schedule=1, alpha=2))
        assert [line.split()[0].rstrip(":") for line in text.splitlines()] == [
            "learning_rate",
            "schedule",
            "alpha",
        ]

    def test_keys_say_to_which_kinds_they_belong(self) -> None:
        found = keys(Training)
        assert list(found)[:5] == ["hidden", "optimizer", "ridge", "learning_rate", "schedule"]
        assert found["ridge"].owners == (("optimizer", "lm"), ("optimizer", "adamw"))
        assert "order" not in found


class TestFiles:
    @pytest.mark.parametrize(
        "options",
        [
            Training(),
            Training(optimizer=AdamW(learning_rate=0.5), descriptor=Chebyshev(order=2), hidden=(3,)),
            Training(ridge=np.float64(2.0), alpha=np.float32(0.5)),
        ],
    )
    def test_plain_data_and_back(self, options: Training) -> None:
        assert Training.from_dict(options.to_dict()) == options

    def test_options_of_kinds_stand_beside_the_name(self) -> None:
        plain = Training(optimizer=AdamW(learning_rate=0.5), descriptor=Chebyshev()).to_dict()
        assert (plain["optimizer"], plain["learning_rate"]) == ("adamw", 0.5)
        assert plain["descriptor"] == {"kind": "chebyshev", "order": 10}

    def test_kinds_in_fields_of_other_types_keep_their_names(self) -> None:
        class Held(Options):
            thing: Any = option("Anything.", None)

        assert Held(thing=Chebyshev(order=2)).to_dict() == {"thing": {"kind": "chebyshev", "order": 2}}

    def test_texts(self) -> None:
        given = {"optimizer": "adamw", "learning_rate": "0.1", "hidden": ["5"], "level": "2"}
        assert Training.from_texts(given) == Training(
            optimizer=AdamW(learning_rate=0.1), hidden=(5,), level=2
        )
        text = refusal(lambda: Training.from_texts({"learning_rate": "0.1"}))
        assert text == "--learning-rate belongs to optimizer = 'adamw', not to 'lm'"
        text = refusal(lambda: Training.from_texts({"optimizer": "adamw", "learning_rate": "x"}))
        assert text == '--learning-rate: expected a number, got "x"'

    def test_unregistered_kinds_work_and_cannot_be_written(self) -> None:
        class Sgd(Optimizer):
            name = "sgd"

        training = Training(optimizer=Sgd())
        assert refusal(training.to_dict).startswith(
            "Sgd is no registered optimizer, so a file cannot name it"
        )
        assert refusal(lambda: OPTIMIZERS.from_dict({"kind": "sgd"})).startswith(
            "the optimizer 'sgd' of the file is"
        )

    def test_registered_kinds_of_users_are_found_by_name(self) -> None:
        class Kernel(Named):
            pass

        kernels = Registry("kernel", Kernel)

        @kernels.register
        class Linear(Kernel):
            name = "linear"
            slope: float = option("Slope.", 1.0)

        assert kernels.make("linear", slope=2.0) == Linear(slope=2.0)
        with pytest.raises(ConfigError, match="has this name already"):
            kernels.register(type("Other", (Kernel,), {"name": "linear", "__module__": "elsewhere"}))

    def test_one_name_in_two_kinds_is_given_in_a_table(self) -> None:
        class Solver(Named):
            pass

        class Mine(Optimizer):
            name = "mine"
            step: float = option("Step.", 1.0)

        solvers = Registry("solver", Solver)
        solvers.register(type("S", (Solver,), {"name": "s", "__annotations__": {"step": float}, "step": 2.0}))
        OPTIMIZERS.register(Mine)
        try:
            fields = {"__annotations__": {"optimizer": Optimizer, "solver": Solver}}
            both = type("Both", (Options,), {**fields, "optimizer": "mine", "solver": "s", "__doc__": "."})
            assert refusal(lambda: both(step=3.0)).startswith(
                "step belongs to optimizer and to solver: give it in a"
            )
            made = both(optimizer={"kind": "mine", "step": 3.0})
            assert both.from_dict(made.to_dict()) == made
        finally:
            del OPTIMIZERS._kinds["mine"]


class TestFunctions:
    def test_signature_and_unknown_names(self) -> None:
        class Sizes(Options):
            copies: int = option("Copies of each structure.", 10, ge=1)
            alpha: float = option("The other table has one too.", 0.5)

        @takes(Sizes, Training)
        def work(data: int, **options: Any) -> tuple[Sizes, Training]:
            """Work.

            Parameters
            ----------
            data : int
            **options
                All.

            Returns
            -------
            tuple
            """
            sizes, rest = divide(options, Sizes, keys(Training))
            return sizes, Training(**rest)

        sizes, training = work(1, copies=3, optimizer="adamw", learning_rate=0.5, alpha=0.5)
        assert (sizes.copies, sizes.alpha, training.alpha) == (3, 0.5, 0.98)
        assert training.optimizer == AdamW(learning_rate=0.5)
        parameters = inspect.signature(work).parameters
        assert list(parameters)[:3] == ["data", "copies", "alpha"]
        assert parameters["copies"].default == 10
        assert parameters["alpha"].default == 0.5
        assert {"hidden", "optimizer", "learning_rate"} < set(parameters)
        assert "copies : int, 1 or more\n    Copies of each structure.\n" in (work.__doc__ or "")
        assert "\nReturns\n" in (work.__doc__ or "")
        assert refusal(lambda: work(1, copes=3)) == "unknown option 'copes': did you mean 'copies'?"


@pytest.mark.parametrize(
    ("function", "name", "default"),
    [
        (gprann.augment, "policy", "gaussian"),
        (gprann.taylor_augment, "strategy", "B"),
        (gprann.augment, "exponent", 1.0),
        (gprann.relax, "max_calls", 100),
        (gprann.relax, "solver", "auto"),
        (gprann.neb, "max_calls", 50),
        (gprann.select, "threshold", 0.0),
        (gprann.label, "retries", 1),
        (gprann.train, "learning_rate", 1e-3),
    ],
)
def test_public_functions_show_their_options(function: Any, name: str, default: Any) -> None:
    """In signature and documentation, though they take them as keywords."""
    parameters = inspect.signature(function).parameters
    assert parameters[name].default == default
    assert not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
    assert f"\n{name}" in inspect.getdoc(function)
