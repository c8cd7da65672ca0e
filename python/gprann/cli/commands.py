"""The commands: each takes the parsed arguments, and imports and calls the Python interface that it needs."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gprann.cli.console import show
from gprann.errors import ConfigError, GprannError
from gprann.explain import option_name

if TYPE_CHECKING:
    from gprann.baselines import CalculatorBaseline
    from gprann.config import AugmentationSection, SurrogateSection
    from gprann.data.structure import Dataset
    from gprann.options import Options
    from gprann.potential import Potential
    from gprann.surrogate import Surrogate, SurrogateSet

S = TypeVar("S", bound="Options")


def demo(arguments: argparse.Namespace) -> None:
    """Run the H2 experiment."""
    from gprann.demo import run_demo

    result = run_demo(seed=arguments.seed, members=arguments.members, output=arguments.output)
    show("H2 from 7 structures; errors on 200 bond lengths from 0.95 to 2.05 Å (force: magnitude)\n")
    show(result.table())
    show("")
    for note in result.notes:
        show(note)
    show("written: " + ", ".join(str(file) for file in result.files))


def init(arguments: argparse.Namespace) -> None:
    """Write a commented configuration."""
    from gprann.config import default_config, default_exploration, to_toml
    from gprann.io import atomic_write

    file = Path(arguments.file).expanduser()
    if file.exists() and not arguments.force:
        raise ConfigError(f"{file}: exists; give another name, or --force to replace it")
    with atomic_write(file) as stream:
        stream.write(to_toml(default_exploration() if arguments.explore else default_config()))
    if arguments.explore:
        show(f"{file}: name structures under [start] and a calculator, then: gprann explore {file}")
    else:
        show(f"{file}: name your files under [data], then: gprann run {file}")


def run(arguments: argparse.Namespace) -> None:
    """Run the whole pipeline."""
    from gprann.config import load_config
    from gprann.pipeline.run import run as run_configuration

    file = _config(arguments)
    result = run_configuration(load_config(file), source=Path(file))
    show(result.summary)
    show(f"\npotential: {result.potential}\nreport:    {result.folder / 'report' / 'report.html'}")


def report(arguments: argparse.Namespace) -> None:
    """Write the report of a run as one HTML file."""
    from gprann.pipeline.page import report_run

    show(f"written: {report_run(arguments.run, arguments.output)}")


def explore(arguments: argparse.Namespace) -> int:
    """Explore until the simulations of a potential are stable."""
    from gprann.config import load_exploration
    from gprann.pipeline.exploration import explore as explore_configuration

    file = _config(arguments)
    result = explore_configuration(load_exploration(file), source=Path(file))
    show(result.summary())
    show(f"potential: {result.potential}\nlabels:    {result.folder / 'train.extxyz'}")
    return 0 if result.converged else 1


def compare(arguments: argparse.Namespace) -> None:
    """Train with several methods and compare them."""
    from gprann.pipeline.comparison import compare_file

    result = compare_file(_config(arguments), methods=arguments.methods)
    show("errors on the test structures\n")
    show(result.table())
    show("\nwritten: " + ", ".join(str(file) for file in result.files))


def augment(arguments: argparse.Namespace) -> None:
    """Add labelled copies to structures."""
    from gprann.config import AugmentationSection, SurrogateSection
    from gprann.io import write
    from gprann.pipeline.subsets import augment_data

    augmentation, surrogate = _section(arguments, AugmentationSection), _section(arguments, SurrogateSection)
    if augmentation.method == "none":
        raise ConfigError("--method = none: has no effect, no copies would be made; leave it out")
    augmentation.check_use(surrogate, lambda _, key: option_name(key))
    _check_output(arguments.output, (".extxyz", ".xyz", ""))
    _check_label_next(arguments.label_next, augmentation)
    data = _read(arguments, arguments.input)
    copies = augment_data(data, augmentation, surrogate)
    write(arguments.output, data + copies.accepted)
    show(f"{arguments.output}: {len(data)} structures and {len(copies.accepted)} copies")
    uncertain = f"{copies.left_out} copies exceed the threshold"
    if arguments.label_next is None and copies.left_out:
        show(f"{uncertain} and were left out; --label-next FILE keeps those worth labelling")
    elif arguments.label_next is not None and len(copies.uncertain):
        write(arguments.label_next, copies.uncertain)
        show(f"{arguments.label_next}: {len(copies.uncertain)} of the {uncertain}; compute and add them next")
    elif arguments.label_next is not None:
        show(f"{arguments.label_next}: not written, no copy exceeds the threshold")


def _check_label_next(target: str | None, augmentation: AugmentationSection) -> None:
    """Refuse a file for uncertain copies that could not be written, or where there will be none."""
    if target is None:
        return
    _check_output(target, (".extxyz", ".xyz"), "--label-next")
    if augmentation.method != "gpr":
        raise ConfigError(f'--label-next belongs to the method "gpr", not to "{augmentation.method}"')
    options = augmentation.copy_options()
    if not options.has_threshold:
        raise ConfigError(
            "--label-next needs --threshold, which is not set automatically where "
            f"{option_name(options.sized_by)} is given: the standard deviation in eV/atom above which copies are left "
            "out"
        )


def train(arguments: argparse.Namespace) -> None:
    """Train a potential."""
    from gprann.config import DescriptorSection, ResourcesSection, TrainingSection
    from gprann.pipeline.run import train_potential

    descriptor, training = _section(arguments, DescriptorSection), _section(arguments, TrainingSection)
    resources = _section(arguments, ResourcesSection)
    _check_output(arguments.output, (".gprann",))
    data = _read(arguments, arguments.input)
    potential = train_potential(
        data,
        descriptor,
        training,
        checkpoint=arguments.checkpoint,
        workers=resources.workers,
        provenance={"config": {"data": {"train": [str(Path(name).absolute()) for name in arguments.input]}}},
    )
    potential.save(arguments.output)
    show(f"{arguments.output}: {potential!r}")


def evaluate(arguments: argparse.Namespace) -> None:
    """Show the errors of a potential."""
    from gprann.evaluation import evaluate as evaluate_potential
    from gprann.evaluation.report import history
    from gprann.potential import Potential

    potential = _load(arguments)
    report = evaluate_potential(potential, _read(arguments, arguments.data))
    show(report.summary())
    if arguments.output is not None:
        report.save(
            arguments.output, history=history(potential) if isinstance(potential, Potential) else None
        )
        show(f"written: {arguments.output}")


def md(arguments: argparse.Namespace) -> int:
    """Run molecular dynamics."""
    from gprann.dynamics import MdOptions
    from gprann.dynamics import md as run_md
    from gprann.potential import load

    options = _section(arguments, MdOptions)
    model = load(arguments.potential, baseline=_baseline(arguments))
    data = _read(arguments, [arguments.structure], require=())
    if len(data) != 1:
        raise ConfigError(
            f"{arguments.structure}: holds {len(data)} structures; choose the first one with --index 0"
        )
    result = run_md(model, data, arguments.output, **options.to_dict())
    show(result.summary())
    show(f"written: {result.folder}")
    return 1 if result.reason else 0


def check(arguments: argparse.Namespace) -> int:
    """Show the verdict on a data set."""
    from gprann.evaluation.data_check import check as check_data
    from gprann.io import ReadOptions

    options = _section(arguments, ReadOptions).changes()
    result = check_data(arguments.data, test=arguments.test, output=arguments.output, **options)
    show(result.summary())
    if arguments.output is not None:
        show(f"written: {arguments.output}")
    return 1 if result.problems else 0


def select(arguments: argparse.Namespace) -> None:
    """Choose the structures that are most worth labelling."""
    from gprann.active.select import SelectOptions
    from gprann.active.select import select as select_structures
    from gprann.config import SurrogateSection
    from gprann.io import write
    from gprann.runtime.messages import progress_bar

    _check_output(arguments.output, (".extxyz", ".xyz", ""))
    options, surrogate = _section(arguments, SelectOptions), _section(arguments, SurrogateSection)
    candidates = _read(arguments, arguments.input, require=())
    model = _predictor(arguments, surrogate)
    with progress_bar(options.count, "selecting") as bar:
        chosen = select_structures(candidates, model, progress=bar.update, **options.to_dict())
    if len(chosen.structures) == 0:
        show(f"no candidate is less certain than {options.threshold:g} eV/atom: nothing was written")
        return
    write(arguments.output, chosen.structures)
    show(
        f"{arguments.output}: {len(chosen.structures)} of {len(candidates)} candidates, most informative first"
    )
    show(
        f"standard deviation of the first one: {1e3 * chosen.std[0]:.3g} meV/atom; of all candidates, once those are "
        f"labelled: {1e3 * chosen.std_left[-1]:.3g} meV/atom (root mean square)"
    )


def _predictor(
    arguments: argparse.Namespace, section: SurrogateSection
) -> Potential | Surrogate | SurrogateSet:
    """Return the model whose uncertainty counts."""
    from gprann.surrogate.sets.surrogate_set import fit_each

    if arguments.potential is None:
        train = _read(arguments, arguments.train)
        return fit_each(
            train,
            partial(section.build, seed=0),
            max_subset=arguments.max_subset,
            memory=section.memory,
        )
    given = [name for name in vars(arguments) if name.startswith(f"{type(section).__name__}.")]
    if given or arguments.max_subset is not None:
        option = option_name(given[0].partition(".")[2] if given else "max_subset")
        raise ConfigError(f"{option} is an option of the surrogate: it needs --train, not --potential")
    return _load(arguments)


def _load(arguments: argparse.Namespace) -> Potential | Surrogate | SurrogateSet:
    """Return the model of a model file, or of networks of ænet."""
    from gprann.formats.aenet import holds_networks, read_aenet
    from gprann.potential import load

    baseline = _baseline(arguments)
    if not holds_networks(arguments.potential):
        return load(arguments.potential, baseline=baseline)
    if baseline is not None:
        raise ConfigError("--calculator has no effect: networks of ænet build on no calculator; leave it out")
    return read_aenet(arguments.potential)


def _baseline(arguments: argparse.Namespace) -> CalculatorBaseline | None:
    """Return the calculator that is handed over beside a model file."""
    options = _calculator_options(arguments)
    if arguments.calculator is None:
        if options:
            raise ConfigError("--options are those of the calculator: give --calculator")
        return None
    from gprann.baselines import CalculatorBaseline

    return CalculatorBaseline(calculator=arguments.calculator, options=options or None)


def scan(arguments: argparse.Namespace) -> None:
    """Compare models and weights of the forces."""
    from gprann.config import DescriptorSection
    from gprann.pipeline.scan import scan as scan_models
    from gprann.training.closed_form import RATIOS

    data = _read(arguments, arguments.input)
    found = scan_models(
        data,
        _section(arguments, DescriptorSection).compress(data),
        models=[_widths(name) for name in arguments.models],
        ratios=arguments.ratios or RATIOS,
        folds=arguments.folds,
        seed=arguments.seed,
    )
    show(str(found))
    if arguments.output is not None:
        show("written: " + ", ".join(str(file) for file in found.save(arguments.output)))


def _widths(name: str) -> str | tuple[int, ...]:
    """Return the widths of a network that are written as 10-10, else the name."""
    parts = name.split("-")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else name


def locality(arguments: argparse.Namespace) -> None:
    """Show what forces a cutoff can never explain."""
    from gprann.baselines import CalculatorBaseline, Coulomb
    from gprann.electrostatics import HessianRows, fit_charges_to_locality
    from gprann.electrostatics import locality as test_locality

    calculator = CalculatorBaseline(
        calculator=arguments.calculator, options=_calculator_options(arguments) or None
    )
    charges = {name: _toml(text) for name, text in _pairs("--charges", arguments.charges).items()}
    if arguments.fit and not charges:
        raise ConfigError("--fit starts from formal charges: give --charges, for example Na=1 Cl=-1")
    data = _read(arguments, arguments.input, require=())
    rows = [HessianRows.of(item, calculator, arguments.atoms, seed=arguments.seed) for item in data]
    baseline = Coulomb(charges=charges) if charges else None
    if arguments.fit and baseline is not None:
        fitted = fit_charges_to_locality(rows, baseline, radius=arguments.radius)
        show(f"{fitted}\n")
        baseline = fitted.baseline
    for k, one in enumerate(rows):
        found = test_locality(one, baseline)
        show(f"{one.structure.origin}: {found.table()}")
        if found.warning:
            show(found.warning)
        if arguments.output is not None:
            folder = Path(arguments.output).expanduser()
            found.save(folder, "" if len(rows) == 1 else f"_{k}")
            show(f"written: {folder}")


def label(arguments: argparse.Namespace) -> None:
    """Label structures with an ASE calculator."""
    from gprann.data.structure import Dataset
    from gprann.io import write
    from gprann.labelling import LabelOptions, merge
    from gprann.labelling import label as label_structures

    running = _section(arguments, LabelOptions)
    _check_output(arguments.output, (".extxyz", ".xyz"))
    train = Dataset()
    if arguments.merge is not None:
        _check_output(arguments.merge[1], (".extxyz", ".xyz"), "--merge")
        train = _read(arguments, arguments.merge[:1])
    data = _read(arguments, arguments.input, require=())
    result = label_structures(
        data,
        arguments.calculator,
        arguments.output,
        options=_calculator_options(arguments),
        **running.to_dict(),
    )
    show(
        f"{arguments.output}: {len(result.labelled)} of {len(data)} structures, {result.computed} computed now"
    )
    if arguments.merge is not None and len(result.labelled):
        merged = merge(train, result.labelled)
        write(arguments.merge[1], merged)
        show(f"{arguments.merge[1]}: {len(train)} structures and {len(merged) - len(train)} new ones")
    if result.failures:
        raise GprannError(
            f"no labels for {len(result.failures)} of {len(data)} structures; the reasons stand in "
            f"{arguments.output}.failed.json, and the same command tries them again"
        )


def _calculator_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword options of the calculator: of a TOML file, then those of the command line."""
    options: dict[str, Any] = {}
    if arguments.options_file is not None:
        file = Path(arguments.options_file).expanduser()
        try:
            options = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"--options-file: {file} cannot be read as TOML ({error})") from error
    return options | {name: _toml(text) for name, text in _pairs("--options", arguments.options).items()}


def _toml(text: str) -> Any:
    """Return the number, truth value, text, list or table that a text stands for in TOML; else the text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str | list | dict) else text


def export(arguments: argparse.Namespace) -> None:
    """Write a potential in the files of another program."""
    from gprann.formats.aenet import check_document, write_aenet
    from gprann.model_file import read_model_file
    from gprann.potential import Potential

    file = Path(arguments.file).expanduser()
    check_document(file, read_model_file(file)[0])
    folder = file.with_name(f"{file.stem}_aenet") if arguments.output is None else arguments.output
    written = write_aenet(Potential.load(file), folder, ascii=arguments.ascii)
    show("written: " + ", ".join(str(path) for path in written))


def lammps(arguments: argparse.Namespace) -> int:
    """Compile the pair style for LAMMPS, or compare it with the ASE calculator."""
    from gprann.lammps import build
    from gprann.lammps import check as check_lammps

    if arguments.build:
        if arguments.structure is not None or arguments.ranks != 1:
            raise ConfigError("--structure and --ranks belong to --check")
        show(build(arguments.lammps).instructions())
        return 0
    atoms = None
    if arguments.structure is not None:
        from gprann.io import read

        data = read(arguments.structure, require=())
        atoms = data[0].to_ase()
    result = check_lammps(arguments.check, atoms, lammps=arguments.lammps, ranks=arguments.ranks)
    show(result.table())
    return 0 if result.good else 1


def interface(arguments: argparse.Namespace) -> None:
    """Show where header and library of the C interface are."""
    from gprann.libraries import c_interface

    found = c_interface()
    show(found.flags if arguments.flags else f"include: {found.include}\nlibrary: {found.library}")


def info(arguments: argparse.Namespace) -> None:
    """Describe a file."""
    from gprann.describe import describe

    show(describe(arguments.file))


# --------------------------------------------------------------- arguments
def _config(arguments: argparse.Namespace) -> str:
    """Return the configuration file of a command.

    Raises
    ------
    ConfigError
        If none was given: naming those in this folder, or how to make one.
    """
    if arguments.config is not None:
        return str(arguments.config)
    found = sorted(file.name for file in Path().glob("*.toml") if file.name != "pyproject.toml")
    command = f"gprann {arguments.command} {found[0] if found else 'config.toml'}"
    how = f"for example: {command}" if found else f"make one with: gprann init config.toml, then: {command}"
    raise ConfigError(f"{arguments.command}: give a configuration file; {how}")


def _section(arguments: argparse.Namespace, section: type[S]) -> S:
    """Return a section of the options given for it."""
    prefix = f"{section.__name__}."
    given = {
        name.removeprefix(prefix): value for name, value in vars(arguments).items() if name.startswith(prefix)
    }
    for name, value in given.items():
        if isinstance(value, list) and any("=" in item for item in value):
            given[name] = {key: _toml(text) for key, text in _pairs(option_name(name), value).items()}
    return section.from_texts(given)


def _pairs(option: str, items: Sequence[str]) -> dict[str, str]:
    """Return the mapping that NAME=VALUE arguments stand for."""
    pairs = [item.partition("=") for item in items]
    for item, (name, _, value) in zip(items, pairs, strict=True):
        if not (name and value):
            raise ConfigError(f"{option}: expected NAME=VALUE, got '{item}'")
    return {name: value for name, _, value in pairs}


def _read(
    arguments: argparse.Namespace, sources: Sequence[str], require: Sequence[str] = ("energy",)
) -> Dataset:
    from gprann.io import ReadOptions, read

    return read(list(sources), require=require, **_section(arguments, ReadOptions).to_dict())


def _check_output(path: str, suffixes: Sequence[str], option: str = "--output") -> None:
    """Refuse an output that could not be written, before the work is done."""
    target = Path(path).expanduser()
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{option}: the folder {target.parent} does not exist; make it first")
    if target.suffix.lower() not in suffixes:
        known = ", ".join(suffix or "a folder for ænet XSF files" for suffix in suffixes)
        raise ConfigError(f"{option}: {target} has the suffix '{target.suffix}'; expected {known}")
