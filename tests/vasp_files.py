"""Small outputs of VASP: two H atoms in a cubic cell of 5 Å, one step for each energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

POSITIONS = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
FORCES = np.array([[0.1, 0.2, -0.5], [-0.1, -0.2, 0.5]])


def outcar(energies: Sequence[float], cycles: Sequence[int] = (), limit: int = 60) -> str:
    """The OUTCAR of steps with these energies (sigma -> 0) and electronic cycles; free energies are 1 meV lower."""
    steps = []
    for step, energy in enumerate(energies):
        count = cycles[step] if cycles else 1
        rows = "".join(
            f" {x:12.5f} {y:12.5f} {z * (1 + 0.01 * step):12.5f} {fx:13.6f} {fy:13.6f} {fz:13.6f}\n"
            for (x, y, z), (fx, fy, fz) in zip(POSITIONS, FORCES, strict=True)
        )
        iterations = "".join(
            f"--------------------------- Iteration {step + 1:6d}({cycle:4d})  ---------------------------\n"
            for cycle in range(1, count + 1)
        )
        steps.append(
            f"{iterations}"
            "------------------------ aborting loop because EDIFF is reached ----------------------\n"
            "  in kB       1.00000     2.00000     3.00000     4.00000     5.00000     6.00000\n"
            "      direct lattice vectors                 reciprocal lattice vectors\n"
            "     5.000000000  0.000000000  0.000000000     0.200000000  0.000000000  0.000000000\n"
            "     0.000000000  5.000000000  0.000000000     0.000000000  0.200000000  0.000000000\n"
            "     0.000000000  0.000000000  5.000000000     0.000000000  0.000000000  0.200000000\n"
            " POSITION                                       TOTAL-FORCE (eV/Angst)\n"
            " -----------------------------------------------------------------------------------\n"
            f"{rows}"
            " -----------------------------------------------------------------------------------\n"
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
            "  ---------------------------------------------------\n"
            f"  free  energy   TOTEN  = {energy - 0.001:16.8f} eV\n"
            "\n"
            f"  energy  without entropy= {energy:16.8f}  energy(sigma->0) = {energy:16.8f}\n"
        )
    header = (
        " vasp.6.3.0\n POTCAR:    PAW_PBE H 15Jun2001\n POTCAR:    PAW_PBE H 15Jun2001\n"
        "   ISPIN  =      1    spin polarized calculation?\n   ions per type =               2\n"
        f"   NELM   = {limit:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
    )
    return header + "".join(steps) + " General timing and accounting informations for this job:\n"


def vasprun(energies: Sequence[float], cycles: Sequence[int] = (), limit: int = 60) -> str:
    """The vasprun.xml of such steps."""

    def rows(values: np.ndarray) -> str:
        return "".join("<v> {:.8f} {:.8f} {:.8f} </v>".format(*row) for row in values)

    def structure(name: str, stretch: float) -> str:
        fractions = POSITIONS * (1 + stretch) / 5.0
        return (
            f'<structure{name}><crystal><varray name="basis">{rows(5 * np.eye(3))}</varray></crystal>'
            f'<varray name="positions">{rows(fractions)}</varray></structure>'
        )

    def labels(energy: float) -> str:
        return (
            f'<energy><i name="e_fr_energy">{energy - 0.001:.8f}</i><i name="e_wo_entrp">{energy:.8f}</i>'
            f'<i name="e_0_energy">{energy:.8f}</i></energy>'
        )

    steps = "".join(
        f"<calculation>{f'<scstep>{labels(energy)}</scstep>' * (cycles[step] if cycles else 1)}"
        f"{structure('', 0.01 * step)}"
        f'<varray name="forces">{rows(FORCES)}</varray>'
        f'<varray name="stress">{rows(np.diag([1.0, 2, 3]))}</varray>\n'
        f"{labels(energy)}</calculation>\n"
        for step, energy in enumerate(energies)
    )
    atoms = "".join("<rc><c>H </c><c>1</c></rc>" for _ in POSITIONS)
    initial = structure(' name="initialpos"', 0.0)
    return (
        '<?xml version="1.0"?>\n<modeling><generator></generator>\n'
        f'<parameters><separator name="electronic"><i type="int" name="NELM">{limit:6d}</i></separator></parameters>\n'
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray>'
        '<varray name="weights"><v>1</v></varray></kpoints>\n'
        f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>\n'
        f"{initial}\n{steps}</modeling>\n"
    )
