"""The public data sets, what is measured on each, and what others have published; data for public.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RMD17 = "Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)"
MACE = "MACE: Batatia et al., NeurIPS 2022, arXiv:2206.07697, Tables 1 and 2"
ACE = "linear ACE: Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021)"
NEQUIP = "NequIP: Batzner et al., Nat. Commun. 13, 2453 (2022)"
MLEARN = "GAP, MTP: Zuo et al., J. Phys. Chem. A 124, 731 (2020)"
PYXTAL = "four networks 16-16: PyXtal_FF, Yanxon et al., Mach. Learn.: Sci. Technol. 2, 027001 (2021)"
AENET = "ænet-PyTorch: López-Zorrilla et al., J. Chem. Phys. 158, 164105 (2023)"
DIMER = "sGDML 1.0.3, n2p2, MACE 0.3.16, ænet-gpr 3.7.9, measured by us on two cores"
PAPER = "Yeu et al., npj Comput. Mater. 11, 156 (2025)"


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A data set, the models that are measured on it, and the errors that others report.

    Attributes
    ----------
    title : str
    folder : str
        Below DATA.
    test : str
        File with the structures that errors are measured on.
    models : tuple of (int or None, str)
        Number of training structures (None: all of train.extxyz) and model: surrogate, network, distilled or demo.
    peers : dict of int or None to str
        By number of training structures: energy / force errors that others report, in the units of the set.
    sources : tuple of str
        Citations of the data and of `peers`.
    unit : str
        "meV" errors of total energies, "meV/atom" errors per atom; MAE. Force components: meV/Å.
    """

    title: str
    folder: str
    test: str
    models: tuple[tuple[int | None, str], ...]
    peers: dict[int | None, str]
    sources: tuple[str, ...]
    unit: str = "meV"

    def files(self, data: Path, structures: int | None) -> tuple[Path, Path]:
        """Return the files of the training and test structures."""
        name = "train" if structures is None else f"train{structures}"
        return data / self.folder / f"{name}.extxyz", data / self.folder / f"{self.test}.extxyz"


SETS = {
    "rmd17_ethanol": PublicSet(
        "rMD17 ethanol",
        "public/rmd17_ethanol",
        "dev",
        ((50, "surrogate"), (50, "distilled"), (200, "surrogate"), (1000, "surrogate"), (1000, "network")),
        {
            50: "linear ACE 8.6 / 43.0, NequIP 8.7 / 40.2, MACE 6.7 / 32.6",
            1000: "MACE 0.4 / 2.1, ACE 1.2 / 7.3, FCHL 0.9 / 6.2, GAP 3.5 / 18.1, ANI 2.5 / 13.4",
        },
        (RMD17, MACE, ACE, NEQUIP),
    ),
    "rmd17_aspirin": PublicSet(
        "rMD17 aspirin",
        "public/rmd17_aspirin",
        "dev",
        ((50, "surrogate"), (50, "distilled"), (200, "surrogate"), (200, "network")),
        {50: "linear ACE 26.2 / 63.8, NequIP 19.5 / 52.0, MACE 17.0 / 43.9"},
        (RMD17, MACE, ACE, NEQUIP),
    ),
    "rmd17_azobenzene": PublicSet(
        "rMD17 azobenzene",
        "public/rmd17_azobenzene",
        "dev",
        ((50, "surrogate"), (50, "distilled")),
        {50: "linear ACE 9.0 / 28.8, NequIP 6.0 / 20.0, MACE 5.4 / 17.7"},
        (RMD17, MACE, ACE, NEQUIP),
    ),
    "mlearn_Si": PublicSet(
        "mlearn Si",
        "public/mlearn_Si",
        "test",
        ((None, "surrogate"), (None, "network")),
        {None: "GAP 2.91 / 70, MTP 2.21 / 60; networks 3.8-9.3 / 83-120 in 1.2-1.4 h"},
        (MLEARN, PYXTAL),
        unit="meV/atom",
    ),
    "mlearn_Mo": PublicSet(
        "mlearn Mo",
        "public/mlearn_Mo",
        "test",
        ((None, "surrogate"), (None, "network")),
        {None: "GAP 2.24 / 90, MTP 2.83 / 90"},
        (MLEARN,),
        unit="meV/atom",
    ),
    "tio2": PublicSet(
        "TiO2",
        "public/tio2",
        "dev",
        ((None, "network"),),
        {None: "ænet-PyTorch 5-5: 5.42 (RMSE 7.74) / 388 in 53 min"},
        (AENET,),
        unit="meV/atom",
    ),
    "water": PublicSet(
        "water, 192 atoms",
        "public/water",
        "dev",
        ((None, "surrogate"), (None, "network")),
        {},
        ("data: example of DeePMD-kit, Wang et al., Comput. Phys. Commun. 228, 178 (2018)",),
        unit="meV/atom",
    ),
    "ec_dimer": PublicSet(
        "EC dimer",
        "ec_dimer",
        "dev",
        ((None, "surrogate"), (None, "network")),
        {None: "MACE 1.8 / 11.9 in 31 min, n2p2 1.9 / 12.4, sGDML 2.7 / 19, ænet-gpr 17.7 / 138"},
        (PAPER, DIMER),
    ),
    "li_ec": PublicSet(
        "EC on Li(100)",
        "li_ec",
        "dev",
        ((None, "surrogate"), (None, "network")),
        {None: "MACE 14 / 27, ænet-gpr with SOAP 52 / 131"},
        (PAPER, DIMER),
    ),
    "h2": PublicSet(
        "H2",
        "h2",
        "test",
        ((None, "demo"),),
        {None: "GPR-ANN of the paper 3 / 210 (magnitude)"},
        (PAPER,),
    ),
}
