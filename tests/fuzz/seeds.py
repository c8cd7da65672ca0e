"""Files that can be read, from which mutations start: small, and of every kind that a reader knows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import gprann
import samples
import vasp_files
from explore_sample import TABLES
from gprann.baselines import as_baseline
from gprann.config import default_config, default_exploration, to_toml
from gprann.config.exploration import ExploreConfig
from gprann.data.structure import Dataset
from gprann.io.extxyz import format_extxyz
from gprann.io.xsf import format_xsf

REFERENCE = Path(__file__).parents[1] / "reference"
Save = Callable[[Path], Any]

EXTXYZ = b"""2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3:magmoms:R:1:move_mask:L:1 energy=-1.5 \
stress="1 0 0 0 2 0 0 0 3" pbc="T T F" config_type=bulk weight=2.0 energy_variance=0.1 charge=1 note="a b" \
table=_JSON {"a": [1, 2.5, null]} energy_unit=eV free_energy=-1.6
H 0.0 0.0 0.1 0.1 -0.2 0.3 1.0 T
O 0.0 0.0 1.1 -0.1 0.2 -0.3 0.0 F

1
Properties=Z:I:1:pos:R:3 virial={{1 0 0} {0 1 0} {0 0 1}} pbc=[T, T, T] lattice=[[4,0,0],[0,4,0],[0,0,4]] E0=1
8 0 0 1d-1
3
a comment of free text energy = 3
H 0 0 0
H 0 0 0.74
X 0 0 1.5
"""
XSF = b"""# total energy = -18642.17 eV
# number of atoms = 2

CRYSTAL
PRIMVEC
 10.3 0.0 0.0
 0.0 10.3 0.0
 0.0 0.0 10.3
CONVVEC
 1 0 0
 0 1 0
 0 0 1
PRIMCOORD
 2 1
Li 0.0 0.0 1.3 0.01 0.02 0.03
3 0.0 0.0 5.3 0.01 0.02 -0.03
BEGIN_BLOCK_DATAGRID_3D
END_BLOCK_DATAGRID_3D
"""
MTP = b"""BEGIN_CFG
 Size
    2
 Supercell
         4.0      0.0      0.0
         0.0      4.0      0.0
         0.0      0.0      4.0
 AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz
             1    0       0.0      0.0      0.0     0.1    0.2    0.3
             2    1       1.5      0.0      0.0    -0.1   -0.2   -0.3
 Energy
        -11.5
 PlusStress:  xx          yy          zz          yz          xz          xy
     6.4     3.2     0.0     0.64     0.0     0.0
 Feature   EFS_by       VASP
END_CFG
"""
FITSNAP = b"""# a comment
{"Dataset": {"Data": [{"Stress": [[0, 0, 0], [0, 1, 0], [0, 0, 2]], "Positions": [[0, 0, 0], [0, 0, 1.5]],
"Energy": -3.5, "AtomTypes": ["H", "O"], "Lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "NumAtoms": 2,
"Forces": [[0, 0, 0.1], [0, 0, -0.1]]}], "Label": "x", "EnergyStyle": "electronvolt", "StressStyle": "bar",
"AtomTypeStyle": "chemicalsymbol", "PositionsStyle": "angstrom", "ForcesStyle": "electronvoltperangstrom",
"LatticeStyle": "angstrom"}}
"""
SETUP = b"""DESCR
 a description
END DESCR
ATOM O ! the centre
ENV 2
H
O
RMIN 0.5d0
BASIS type=Chebyshev
radial_Rc = 6.0 radial_N = 10 angular_Rc = 3.5 angular_N = 4
"""
N2P2 = b"""elements O H # comment
cutoff_type 2 0.1
symfunction_short H 2 H 0.001 0.0 12.00
symfunction_short O 3 H H 0.07 1.0 1.0 12.0 0.5
symfunction_short O 9 H O 0.07 -1.0 4.0 12.0
"""


def saved(save: Save, name: str) -> bytes:
    """Return the content of the file that a function writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def extxyz() -> list[bytes]:
    data = Dataset([*samples.strained_crystals(1), *samples.waters(2)])
    return [EXTXYZ, "".join(format_extxyz(data)).encode()]


def xsf() -> list[bytes]:
    return [XSF, format_xsf(samples.waters(1)[0]).encode(), format_xsf(samples.crystals(1)[0]).encode()]


def outputs() -> list[bytes]:
    """Outputs of other programs, recognised by what stands in them."""
    return [MTP, FITSNAP, EXTXYZ, XSF]


def vasp() -> list[bytes]:
    return [vasp_files.outcar([-1.0, -2.0]).encode()]


def vasprun() -> list[bytes]:
    return [vasp_files.vasprun([-1.0, -2.0]).encode()]


RUN = b"""data = { train = ["train.extxyz", "more.xsf"], test = "test.extxyz", keys = { energy = "E0" }, index = "::2" }
method = "gpr"
baseline = ["zbl", { kind = "coulomb", charges = { H = 0.4, O = -0.8 } }]
[augmentation]
per_structure = 3
displacement = 0.05
[surrogate]
kernel = "atoms"
[descriptor]
radial_order = 5
[training]
hidden = [10, 10]
optimizer = { kind = "adamw", learning_rate = 1e-3 }
[output]
folder = "results"
plots = false
"""


def run_configurations() -> list[bytes]:
    return [RUN, to_toml(default_config()).encode(), to_toml(default_config(), comments=False).encode()]


def explorations() -> list[bytes]:
    own = ExploreConfig.model_validate(TABLES)
    return [to_toml(config, comments=False).encode() for config in (own, default_exploration())]


@cache
def potentials() -> list[bytes]:
    species = ["H", "O"]
    density = gprann.DensityDescriptor(
        species, radial_order=2, radial_cutoff=3.6, n_max=2, l_max=1, angular_cutoff=3.2
    )
    symmetry = gprann.SymmetryFunctionDescriptor(species, radial=2, radial_cutoff=3.6, angular_cutoff=3.2)
    plain = samples.potential(members=1, hidden=(2,))
    charges = gprann.Coulomb(charges={"H": 0.4, "O": -0.8})
    several = as_baseline([plain.baseline, gprann.Zbl(), charges])
    known: list[Any] = [
        plain,
        gprann.add_guard(
            samples.potential(members=2, hidden=(2, 2), descriptor=density), samples.crystals(6)
        ),
        samples.potential(members=1, hidden=(2,), descriptor=symmetry),
        samples.potential(
            members=1,
            hidden=(2,),
            descriptor=gprann.compress_descriptor(density, samples.crystals(6), most=4),
        ),
        replace(plain, baseline=several),
        gprann.train(samples.waters(8), model="quadratic", descriptor=samples.DESCRIPTOR, forces=True),
    ]
    return [saved(one.save, "potential.gprann") for one in known]


SMALL = gprann.ChebyshevDescriptor(["H", "O"], radial_order=2, radial_cutoff=3.7, angular_order=None)


@cache
def surrogates() -> list[bytes]:
    hydrogen, waters = gprann.examples.hydrogen(5), samples.waters(3)
    known: list[Any] = [
        gprann.Surrogate(kernel="pairs", **samples.FIXED).fit(hydrogen),
        gprann.Surrogate(kernel="atoms", descriptor=SMALL, **samples.FIXED).fit(waters),
        gprann.Surrogate(kernel="cartesian", baseline="reference_energies", **samples.FIXED).fit(waters),
        gprann.Surrogate(solver="inducing", inducing=3, descriptor=SMALL, **samples.FIXED).fit(waters),
        gprann.fit_surrogates(hydrogen, max_subset=4, kernel="pairs", **samples.FIXED),
    ]
    files = [saved(one.save, "surrogate.gprs") for one in known]
    return files + [saved(partial(one.save, factor=True), "surrogate.gprs") for one in known[1:4]]


def _aenet(*, ascii: bool) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        descriptor = gprann.ChebyshevDescriptor(
            ["H"], radial_order=2, radial_cutoff=3.7, angular_order=1, angular_cutoff=3.0
        )
        potential = samples.potential(members=1, hidden=(2,), descriptor=descriptor)
        files = gprann.write_aenet(potential, folder, ascii=ascii)
        return [file.read_bytes() for file in files if ".nn" in file.name][:1]


def aenet_binary() -> list[bytes]:
    return _aenet(ascii=False)


def aenet_text() -> list[bytes]:
    return _aenet(ascii=True)


def n2p2() -> list[bytes]:
    return [N2P2, (REFERENCE / "water_input.nn").read_bytes()[:3000]]


@cache
def _md_files() -> tuple[bytes, bytes]:
    """Checkpoint and log of a simulation."""
    from gprann.dynamics.options import MdOptions
    from gprann.dynamics.run import Simulation

    surrogate = gprann.Surrogate(kernel="pairs", **samples.FIXED).fit(gprann.examples.hydrogen(7))
    with tempfile.TemporaryDirectory() as name:
        folder, options = Path(name), MdOptions(**MD_OPTIONS)
        Simulation(surrogate, MD_START, folder, options, on_trial=True).run(None)
        return (folder / "checkpoint.npz").read_bytes(), (folder / "log.csv").read_bytes()


def md_checkpoints() -> list[bytes]:
    return [_md_files()[0]]


MD_START = gprann.examples.hydrogen(7)[3]
MD_OPTIONS: dict[str, Any] = {"length": 0.005, "temperature": 10.0, "seed": 0}


@cache
def optimizer_states() -> list[bytes]:
    from gprann.training.optimizers.base import OptimizerState, Step

    state = OptimizerState(
        np.arange(3.0),
        np.arange(3.0),
        {"damping": 0.1, "generator": {"state": 3}},
        {"velocity": np.ones(3)},
        [Step(0, 1.0, 2.0, float("nan"), 0.5)],
        0,
        False,
        "",
        1.5,
    )
    return [saved(lambda path: state.save(path, "identity"), "member.gprann")]


def hessians() -> list[bytes]:
    return [saved(lambda path: np.savez(path, *[np.eye(6)] * 2), "hessians.npz")]


def logs() -> list[bytes]:
    return [_md_files()[1]]


def stage_records() -> list[bytes]:
    return [b'{"digest": "d", "files": {}, "left": {"policy": {"copies": 3}, "numbers": [1, 2.5]}}']


GENERATION = b"""{"number": 0, "labels": 4,
"replicas": [{"steps": 50, "time": 0.1, "reason": "", "atom": null, "cut": false}],
"error": 0.5, "tested": 1, "new_error": null, "chosen": [[0, 3], [1, 2]], "added": 2, "refused": ["x"], "calls": 7}"""
OUTCOME = b'{"steps": 50, "time": 0.1, "reason": "atoms 0 and 1", "atom": 1, "cut": false}'
