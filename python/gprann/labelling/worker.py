"""Worker process: labels structures, one JSON object a line on standard input and output.

Started as `python -m gprann.labelling.worker`. The first line names the calculator; every further line is a
structure, to which the answer is its labels or the reason why there are none.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from gprann.data.structure import Origin, Structure
from gprann.errors import GprannError
from gprann.labelling.calculators import CalculatorSpec, force_consistent_energy


def compute(calculator: BaseCalculator, structure: Structure) -> dict[str, Any]:
    """Return energy, forces and, where there is one, stress of a structure as plain data.

    The calculator gets all that is attached to the structure: magnetic moments, charges, `info`, constraints.

    Raises
    ------
    DataError
        If a result is not finite.
    Exception
        Whatever the calculator raises.
    """
    atoms = structure.to_ase()
    labels: dict[str, Any] = {"energy": force_consistent_energy(calculator, atoms)}
    wanted = ["forces", "stress"] if structure.pbc.all() else ["forces"]
    for name in wanted:
        if name in calculator.implemented_properties:
            try:
                labels[name] = np.asarray(calculator.get_property(name, atoms), dtype=np.float64)
            except PropertyNotImplementedError:  # some calculators have it for some structures only
                continue
    structure.replace(**labels)  # refuses what is not finite
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in labels.items()
    }


def run(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    first = json.loads(requests.readline())
    try:
        calculator = CalculatorSpec(first["calculator"], first["options"]).build()
    except GprannError as error:
        send({"error": str(error)})
        return
    send({"ready": True})
    for line in requests:
        try:
            message = json.loads(line)
            place = Origin(place=message.pop("place"))
            send(compute(calculator, Structure(**message, origin=place)))
        # A calculator fails in whatever way its program likes; the others go on.
        except Exception as error:
            send({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    # What calculators and their programs print must not get among the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run(sys.stdin, channel)
