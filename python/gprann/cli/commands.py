"""The commands: each takes the parsed arguments, and imports and calls the Python interface that it needs."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gprann.cli.console import show
from gprann.cli.given import (
    calculator_baseline,
    calculator_options,
    check_output,
    config_file,
    load_model,
    pairs,
    read_data,
    section,
    toml_value,
)
from gprann.errors import ConfigError, GprannError
from gprann.explain import option_name

if TYPE_CHECKING:
    from gprann.config import AugmentationSection, SurrogateSection
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

    file = config_file(arguments)
    result = run_configuration(load_config(file), source=Path(file))
    show(result.summary)
    show(f"\npotential: {result.potential}\nreport:    {result.folder / 'report'}")


def explore(arguments: argparse.Namespace) -> int:
    """Explore until the simulations of a potential are stable."""
    from gprann.config import load_exploration
    from gprann.pipeline.exploration import explore as explore_configuration

    file = config_file(arguments)
    result = explore_configuration(load_exploration(file), source=Path(file))
    show(result.summary())
    show(f"potential: {result.potential}\nlabels:    {result.folder / 'train.extxyz'}")
    return 0 if result.converged else 1


def compare(arguments: argparse.Namespace) -> None:
    """Train with several methods and compare them."""
    from gprann.pipeline.comparison import compare_file

    result = compare_file(config_file(arguments), methods=arguments.methods)
    show("errors on the test structures\n")
    show(result.table())
    show("\nwritten: " + ", ".join(str(file) for file in result.files))


def augment(arguments: argparse.Namespace) -> None:
    """Add labelled copies to structures."""
    from gprann.config import AugmentationSection, SurrogateSection
    from gprann.io import write
    from gprann.pipeline.subsets import augment_data

    augmentation, surrogate = section(arguments, AugmentationSection), section(arguments, SurrogateSection)
    if augmentation.method == "none":
        raise ConfigError("--method = none: has no effect, no copies would be made; leave it out")
    augmentation.check_use(surrogate, lambda _, key: option_name(key))
    check_output(arguments.output, (".extxyz", ".xyz", ""))
    _check_label_next(arguments.label_next, augmentation)
    data = read_data(arguments, arguments.input)
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
    check_output(target, (".extxyz", ".xyz"), "--label-next")
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

    descriptor, training = section(arguments, DescriptorSection), section(arguments, TrainingSection)
    resources = section(arguments, ResourcesSection)
    check_output(arguments.output, (".gprann",))
    data = read_data(arguments, arguments.input)
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
    from gprann.pipeline.run import history
    from gprann.potential import Potential

    potential = load_model(arguments)
    report = evaluate_potential(potential, read_data(arguments, arguments.data))
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

    options = section(arguments, MdOptions)
    model = load(arguments.potential, baseline=calculator_baseline(arguments))
    data = read_data(arguments, [arguments.structure], require=())
    if len(data) != 1:
        raise ConfigError(
            f"{arguments.structure}: holds {len(data)} structures; choose the first one with --index 0"
        )
    result = run_md(model, data, arguments.output, **options.to_dict())
    show(result.summary())
    show(f"written: {result.folder}")
    return 1 if result.reason else 0


def properties(arguments: argparse.Namespace) -> int:
    """Measure properties of a structure."""
    from gprann.labelling.calculators import CalculatorSpec
    from gprann.pipeline.properties import measure_properties
    from gprann.potential import load
    from gprann.properties.options import PropertyOptions

    options = section(arguments, PropertyOptions)
    given = pairs("--reference-options", arguments.reference_options)
    reference: Any = arguments.reference
    if reference is None and given:
        raise ConfigError("--reference-options are those of the reference: give --reference")
    is_file = reference is not None and (Path(reference).is_file() or reference.endswith(".gprann"))
    if is_file and given:
        raise ConfigError("--reference-options have no effect: the reference is a model file; leave them out")
    if reference is not None and not is_file:
        reference = CalculatorSpec(reference, {name: toml_value(text) for name, text in given.items()})
    result = measure_properties(
        load(arguments.potential, baseline=calculator_baseline(arguments)),
        read_data(arguments, [arguments.structure], require=()),
        arguments.output,
        reference=reference,
        **options.to_dict(),
    )
    show(result.summary())
    show(f"written: {result.folder}")
    return 1 if result.failed else 0


def check(arguments: argparse.Namespace) -> int:
    """Show the verdict on a data set."""
    from gprann.evaluation.data_check import check as check_data
    from gprann.io import ReadOptions

    options = section(arguments, ReadOptions).changes()
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

    check_output(arguments.output, (".extxyz", ".xyz", ""))
    options, surrogate = section(arguments, SelectOptions), section(arguments, SurrogateSection)
    candidates = read_data(arguments, arguments.input, require=())
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
        train = read_data(arguments, arguments.train)
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
    return load_model(arguments)


def scan(arguments: argparse.Namespace) -> None:
    """Compare models and weights of the forces."""
    from gprann.config import DescriptorSection
    from gprann.pipeline.scan import scan as scan_models
    from gprann.training.closed_form import RATIOS

    data = read_data(arguments, arguments.input)
    found = scan_models(
        data,
        section(arguments, DescriptorSection).compress(data),
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
        calculator=arguments.calculator, options=calculator_options(arguments) or None
    )
    charges = {name: toml_value(text) for name, text in pairs("--charges", arguments.charges).items()}
    if arguments.fit and not charges:
        raise ConfigError("--fit starts from formal charges: give --charges, for example Na=1 Cl=-1")
    data = read_data(arguments, arguments.input, require=())
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

    running = section(arguments, LabelOptions)
    check_output(arguments.output, (".extxyz", ".xyz"))
    train = Dataset()
    if arguments.merge is not None:
        check_output(arguments.merge[1], (".extxyz", ".xyz"), "--merge")
        train = read_data(arguments, arguments.merge[:1])
    data = read_data(arguments, arguments.input, require=())
    result = label_structures(
        data,
        arguments.calculator,
        arguments.output,
        options=calculator_options(arguments),
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
