"""The arguments of each command."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence

from gprann.cli.section_options import section_options


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INT", help="seed of the committees (default 0)"
    )
    parser.add_argument(
        "--members", type=int, default=10, metavar="INT", help="potentials of a committee (default 10)"
    )
    parser.add_argument(
        "--output", default="gprann-demo", metavar="FOLDER", help="where results go (default gprann-demo)"
    )


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default="config.toml", metavar="FILE", help="default: config.toml")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument("--explore", action="store_true", help="configuration of gprann explore")


def _run(parser: argparse.ArgumentParser) -> None:
    _config(parser, "configuration, as gprann init writes it")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read and check everything, and say what would be done, how long and with how much memory",
    )


def _explore(parser: argparse.ArgumentParser) -> None:
    _config(parser, "configuration, as gprann init --explore writes it")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: report/report.html in the folder")


def _compare(parser: argparse.ArgumentParser) -> None:
    from gprann.evaluation.methods import METHODS

    parser.add_argument(
        "config",
        nargs="*",
        metavar="FILE",
        help="a configuration with a test set; or, with --data, two or more model files",
    )
    methods = parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help=f"some of {', '.join(METHODS)} (default all)"
    )
    vars(methods)["suggested"] = list(METHODS)
    parser.add_argument(
        "--data", nargs="+", metavar="DATA", help="structures on which potentials are compared"
    )
    _each(parser, "--data")
    parser.add_argument("--output", metavar="FOLDER", help="with --data: write tables, metrics and plots")
    _calculator(parser, of_file=True)
    _reading(parser)


def _augment(parser: argparse.ArgumentParser) -> None:
    from gprann.config import AugmentationSection, SurrogateSection

    _input(parser)
    _output(parser, ".extxyz file, or folder for ænet XSF")
    parser.add_argument(
        "--label-next",
        metavar="FILE",
        help="file for those copies beyond the threshold that are worth labelling (default: they are left out)",
    )
    _reading(parser)
    section_options(parser, "copies", AugmentationSection, leave_out=("label_next",))
    section_options(parser, "surrogate", SurrogateSection, leave_out=("descriptor", "soap"))


def _train(parser: argparse.ArgumentParser) -> None:
    from gprann.config import DescriptorSection, ResourcesSection, TrainingSection

    _input(parser)
    _output(parser, "model file, for example potential.gprann")
    parser.add_argument(
        "--checkpoint", metavar="FOLDER", help="keep the states here, to go on after an interruption"
    )
    _reading(parser, leave_out=("species",))  # named like the option of the descriptor
    section_options(parser, "training", TrainingSection)
    section_options(parser, "descriptor", DescriptorSection)
    section_options(parser, "resources", ResourcesSection, leave_out=("memory",))


def _scan(parser: argparse.ArgumentParser) -> None:
    from gprann.config import DescriptorSection

    _input(parser)
    parser.add_argument("-o", "--output", metavar="FOLDER", help="write table, plain data and plot")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["linear", "quadratic"],
        metavar="NAME",
        help="linear, quadratic, or widths of a network as 10-10 (default linear quadratic)",
    )
    parser.add_argument(
        "--ratios",
        nargs="+",
        type=float,
        metavar="X",
        help="weights of the forces relative to those of the energies (default 1e-4 to 1e4)",
    )
    parser.add_argument(
        "--folds", type=int, default=5, metavar="INT", help="parts held out in turn (default 5)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="of the folds (default 0)")
    _reading(parser, leave_out=("species",))  # named like the option of the descriptor
    section_options(parser, "descriptor", DescriptorSection)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("potential", metavar="POTENTIAL", help="model file, or folder of networks of ænet")
    parser.add_argument("data", nargs="+", metavar="DATA", help="files, folders or glob patterns")
    _each(parser, "DATA")
    parser.add_argument("--output", metavar="FOLDER", help="write tables, metrics and plots")
    _calculator(parser, of_file=True)
    _reading(parser)


def _each(parser: argparse.ArgumentParser, sets: str) -> None:
    text = f"each file, folder or pattern of {sets} is a set of its own, with a line in the table"
    parser.add_argument("--each", action="store_true", help=text)


def _check(parser: argparse.ArgumentParser) -> None:
    from gprann.io import ReadOptions

    parser.add_argument("data", nargs="+", metavar="DATA", help="files, folders or glob patterns")
    parser.add_argument("--test", nargs="+", metavar="FILE", help="structures that are to be predicted")
    parser.add_argument("--output", metavar="FOLDER", help="write the text, and plots of the distributions")
    section_options(parser, "reading", ReadOptions)


def _select(parser: argparse.ArgumentParser) -> None:
    from gprann.active.select import SelectOptions
    from gprann.config import SurrogateSection
    from gprann.surrogate.sets.partition import MAX_SIZE

    _input(parser)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--potential",
        metavar="FILE",
        help="potential with several members, or surrogate, whose uncertainty counts",
    )
    model.add_argument(
        "--train", nargs="+", metavar="FILE", help="structures to fit surrogates to, of any compositions"
    )
    parser.add_argument(
        "--max-subset",
        type=int,
        metavar="INT",
        help=f"with --train: most structures of a surrogate (default: all, or {MAX_SIZE}, by kernel)",
    )
    _output(parser, ".extxyz file, or folder for ænet XSF")
    _calculator(parser, of_file=True)
    parser.add_argument(
        "--by-grade",
        action="store_true",
        help="with --potential: by its extrapolation guard, for which a single network will do, instead of by the "
        "spread of its members",
    )
    parser.add_argument(
        "--least-grade",
        type=float,
        metavar="X",
        help="with --by-grade: candidates below it, once the selected ones are known, are left out (default 1)",
    )
    section_options(parser, "selection", SelectOptions)
    _reading(parser)
    section_options(parser, "surrogate", SurrogateSection, leave_out=("descriptor",))


def _label(parser: argparse.ArgumentParser) -> None:
    from gprann.labelling import LabelOptions

    _input(parser)
    _output(parser, ".extxyz file, which grows by each result")
    _calculator(parser)
    parser.add_argument(
        "--merge", nargs=2, metavar=("TRAIN", "MERGED"), help="write TRAIN with the new structures to MERGED"
    )
    section_options(parser, "labelling", LabelOptions)
    _reading(parser)


def _locality(parser: argparse.ArgumentParser) -> None:
    _input(parser)
    _calculator(parser)
    parser.add_argument(
        "--charges",
        nargs="+",
        default=[],
        metavar="ELEMENT=Q",
        help="charges (e) of a Coulomb baseline, of which the test tells what it leaves",
    )
    parser.add_argument(
        "--fit", action="store_true", help="fit the charges to the forces of distant atoms, from those given"
    )
    parser.add_argument(
        "--radius",
        type=float,
        default=6.0,
        metavar="X",
        help="beyond which charges are fitted (Å, default 6)",
    )
    parser.add_argument(
        "--atoms",
        nargs="+",
        type=int,
        metavar="INT",
        help="atoms that are displaced, counted from 0 (default: one of each element)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="of the directions (default 0)")
    parser.add_argument("--output", metavar="FOLDER", help="write the table, plain data and a plot")
    _reading(parser)


def _md(parser: argparse.ArgumentParser) -> None:
    from gprann.dynamics import MdOptions

    parser.add_argument("potential", metavar="POTENTIAL", help="model file of a potential or a surrogate")
    parser.add_argument(
        "structure",
        metavar="STRUCTURE",
        help="file with the start; --index chooses one of several structures",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="md",
        metavar="FOLDER",
        help="where results go, and where a run that was interrupted is found again (default md)",
    )
    _calculator(parser, of_file=True)
    section_options(parser, "dynamics", MdOptions)
    _reading(parser)


def _properties(parser: argparse.ArgumentParser) -> None:
    from gprann.properties.options import PropertyOptions

    parser.add_argument("potential", metavar="POTENTIAL", help="model file of a potential or a surrogate")
    parser.add_argument(
        "--structure",
        required=True,
        metavar="FILE",
        help="file with the structure, of a crystal the unit cell; --index chooses one of several structures",
    )
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="to compare with: a calculator (emt, vasp, ...; tblite for GFN-xTB; module:Class), or a model file",
    )
    parser.add_argument(
        "--reference-options",
        nargs="+",
        default=[],
        metavar="NAME=X",
        help="keyword arguments of the calculator of the reference, X as in TOML; paths must be absolute",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="properties",
        metavar="FOLDER",
        help="where results go, and where what is finished is found again (default properties)",
    )
    _calculator(parser, of_file=True)
    section_options(parser, "properties", PropertyOptions)
    _reading(parser)


def _calculator(parser: argparse.ArgumentParser, *, of_file: bool = False) -> None:
    names = "emt, vasp, espresso, ...; tblite for GFN-xTB; or module:Class"
    text = f"baseline of the potential, which its file does not hold: {names}" if of_file else names
    parser.add_argument("--calculator", required=not of_file, metavar="NAME", help=text)
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="NAME=X",
        help="keyword arguments of the calculator, X as in TOML; paths must be absolute",
    )
    parser.add_argument("--options-file", metavar="FILE", help="TOML file with such arguments")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.gprann", help="model file of a potential")
    parser.add_argument("--format", required=True, choices=["aenet"], help="program that is to read it")
    parser.add_argument(
        "--output", metavar="FOLDER", help="where the files go (default: FILE_aenet beside the model file)"
    )
    parser.add_argument("--ascii", action="store_true", help="text (.nn.ascii) instead of binary files (.nn)")


def _lammps(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", action="store_true", help="compile pair_style gprann for the LAMMPS at hand")
    what.add_argument(
        "--check",
        metavar="FILE",
        help="compile it, and compare energy, forces and pressure of a potential with those of the ASE calculator",
    )
    parser.add_argument(
        "--structure",
        metavar="FILE",
        help="with --check: structure to compare (default: some atoms at random)",
    )
    parser.add_argument(
        "--ranks", type=int, default=1, metavar="INT", help="with --check: processes (default 1)"
    )
    parser.add_argument(
        "--lammps",
        metavar="PREFIX",
        help="where LAMMPS was installed, or its source (default: that of this Python, or of the command lmp)",
    )


def _interface(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flags", action="store_true", help="print one line of options for a compiler instead of the places"
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=["bash", "zsh", "fish"], help="the shell that is to complete commands"
    )


def _doctor(parser: argparse.ArgumentParser) -> None:
    """The command has no options of its own."""


def _info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")


def _config(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG.toml", help=text)


def _input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or glob patterns")


def _output(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=text)


def _reading(parser: argparse.ArgumentParser, leave_out: Sequence[str] = ()) -> None:
    from gprann.io import ReadOptions

    section_options(parser, "data", ReadOptions, leave_out)


COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str, int]] = {
    "demo": (
        _demo,
        "the first experiment of the paper: potentials for H2 from seven structures",
        logging.WARNING,
    ),
    "init": (_init, "write a commented configuration", logging.WARNING),
    "check": (
        _check,
        "look at structures without fitting anything: what they are, what is suspicious",
        logging.WARNING,
    ),
    "run": (
        _run,
        "the whole pipeline: read, check, augment, train, evaluate; goes on where it was interrupted",
        logging.INFO,
    ),
    "report": (
        _report,
        "write the report of a finished run again, as one HTML file; its data are read and predicted again",
        logging.WARNING,
    ),
    "compare": (
        _compare,
        "compare potentials on the same structures; or train on energies, with Taylor and GPR copies and on forces "
        "directly, and compare these on the test set",
        logging.INFO,
    ),
    "augment": (_augment, "add displaced copies, labelled with energies, to structures", logging.INFO),
    "train": (_train, "train a potential on energies, or with --forces on energies and forces", logging.INFO),
    "scan": (
        _scan,
        "errors of energies against errors of forces: models and weights compared by cross-validation",
        logging.INFO,
    ),
    "evaluate": (_evaluate, "errors of a potential on structures with labels", logging.WARNING),
    "select": (_select, "choose the structures that are most worth labelling next", logging.INFO),
    "label": (
        _label,
        "compute energies and forces with any ASE calculator; goes on where it was interrupted",
        logging.INFO,
    ),
    "locality": (
        _locality,
        "forces that no cutoff can explain, and what charges leave of them",
        logging.WARNING,
    ),
    "explore": (
        _explore,
        "from one structure and a calculator to a stable potential; goes on where it was interrupted",
        logging.INFO,
    ),
    "export": (_export, "write a potential in the files of another program", logging.WARNING),
    "md": (_md, "molecular dynamics; goes on where it was interrupted, stops where it fails", logging.INFO),
    "properties": (
        _properties,
        "what a potential is for: elastic constants, phonons, diffusion, ..., beside those of a reference",
        logging.INFO,
    ),
    "lammps": (_lammps, "compile the pair style for LAMMPS, and test it", logging.ERROR),
    "interface": (_interface, "where header and library of the C interface are", logging.WARNING),
    "completion": (
        _completion,
        "print what makes a shell complete commands, options and their values",
        logging.WARNING,
    ),
    "doctor": (
        _doctor,
        "look at this installation: build, threads, packages, LAMMPS; is everything as it should be",
        logging.WARNING,
    ),
    "info": (_info, "describe a model file, structures or a configuration", logging.WARNING),
}
"""The options of each command, what it does, and the level from which messages are shown."""

LIGHT = ("doctor", "completion")
"""Commands that must work where packages are missing or broken, and import no more than they need."""
MODULES = {"doctor": "doctor", "completion": "completion", "evaluate": "errors", "compare": "errors"}
"""Modules in `gprann.cli` of commands that do not stand in `commands`."""
