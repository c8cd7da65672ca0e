"""The commands: each takes the parsed arguments, and imports and calls the Python interface that it needs."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gprann.cli.answer import Answer
from gprann.cli.inputs import (
    calculator_options,
    check_output,
    config_file,
    load_model,
    pairs,
    read_baseline,
    read_data,
    read_section,
    toml_value,
)
from gprann.cli.ranks import over_ranks
from gprann.errors import ConfigError
from gprann.explain import option_name

if TYPE_CHECKING:
    from gprann.config import AugmentationSection, SurrogateSection
    from gprann.data.structure import Dataset
    from gprann.potential import Potential
    from gprann.surrogate import Surrogate, SurrogateSet


def demo(arguments: argparse.Namespace) -> Answer:
    """Run the H2 experiment."""
    from gprann.demo import run_demo

    result = run_demo(seed=arguments.seed, members=arguments.members, output=arguments.output)
    lines = [
        "H2 from 7 structures; errors on 200 bond lengths from 0.95 to 2.05 Å (force: magnitude)\n",
        result.table(),
        "",
        *result.notes,
        "written: " + ", ".join(str(file) for file in result.files),
    ]
    methods = {one.name: {"structures": one.structures, **one.metrics} for one in result.methods}
    return Answer("\n".join(lines), {"methods": methods, "notes": result.notes, "files": result.files})


def init(arguments: argparse.Namespace) -> Answer:
    """Write a commented configuration."""
    from gprann.config import default_config, default_exploration, to_toml
    from gprann.io import atomic_write

    file = Path(arguments.file).expanduser()
    if file.exists() and not arguments.force:
        raise ConfigError(f"{file}: exists; give another name, or --force to replace it")
    with atomic_write(file) as stream:
        stream.write(to_toml(default_exploration() if arguments.explore else default_config()))
    next_step = f"name your files under [data], then: gprann run {file}"
    if arguments.explore:
        next_step = f"name structures under [start] and a calculator, then: gprann explore {file}"
    return Answer(f"{file}: {next_step}", {"file": file})


def run(arguments: argparse.Namespace) -> Answer:
    """Run the whole pipeline."""
    from gprann.config import load_config
    from gprann.pipeline.run import run as run_configuration

    file = config_file(arguments)
    if arguments.dry_run:
        from gprann.pipeline.preview import preview

        found = preview(load_config(file), source=Path(file))
        return Answer(
            f"{found}\nnothing was computed or written; to run it: gprann run {file}", found.to_dict()
        )
    result = run_configuration(load_config(file), source=Path(file))
    page = result.folder / "report" / "report.html"
    facts = {"folder": result.folder, "potential": result.potential, "report": page}
    return Answer(
        f"{result.summary.rstrip()}\n\npotential: {result.potential}\nreport:    {page}",
        facts | {"skipped": result.skipped, "metrics": result.metrics},
    )


def report(arguments: argparse.Namespace) -> Answer:
    """Write the report of a run as one HTML file."""
    from gprann.pipeline.page import report_run

    file = report_run(arguments.run, arguments.output)
    return Answer(f"written: {file}", {"report": file})


def explore(arguments: argparse.Namespace) -> Answer:
    """Explore until the simulations of a potential are stable."""
    from gprann.config import load_exploration
    from gprann.pipeline.exploration import explore as explore_configuration

    file = config_file(arguments)
    result = explore_configuration(load_exploration(file), source=Path(file))
    labels = result.folder / "train.extxyz"
    facts: dict[str, Any] = {"folder": result.folder, "potential": result.potential, "labels": labels}
    facts |= {"converged": result.converged, "reason": result.reason}
    return Answer(
        f"{result.summary().rstrip()}\npotential: {result.potential}\nlabels:    {labels}",
        facts | {"generations": [one.to_dict() for one in result.generations]},
        0 if result.converged else 1,
    )


def augment(arguments: argparse.Namespace) -> Answer:
    """Add labelled copies to structures."""
    from gprann.config import AugmentationSection, SurrogateSection
    from gprann.io import write
    from gprann.pipeline.subsets import augment_data

    augmentation, surrogate = (
        read_section(arguments, AugmentationSection),
        read_section(arguments, SurrogateSection),
    )
    if augmentation.method == "none":
        raise ConfigError("--method = none: has no effect, no copies would be made; leave it out")
    augmentation.check_use(surrogate, lambda _, key: option_name(key))
    check_output(arguments.output, (".extxyz", ".xyz", ""))
    _check_label_next(arguments.label_next, augmentation)
    data = read_data(arguments, arguments.input)
    copies = augment_data(data, augmentation, surrogate)
    write(arguments.output, data + copies.accepted)
    lines = [f"{arguments.output}: {len(data)} structures and {len(copies.accepted)} copies"]
    uncertain = f"{copies.left_out} copies exceed the threshold"
    if arguments.label_next is None and copies.left_out:
        lines.append(f"{uncertain} and were left out; --label-next FILE keeps those worth labelling")
    elif arguments.label_next is not None and len(copies.uncertain):
        write(arguments.label_next, copies.uncertain)
        lines.append(
            f"{arguments.label_next}: {len(copies.uncertain)} of the {uncertain}; compute and add them next"
        )
    elif arguments.label_next is not None:
        lines.append(f"{arguments.label_next}: not written, no copy exceeds the threshold")
    facts = {"output": arguments.output, "structures": len(data), "copies": len(copies.accepted)}
    facts |= {
        "left_out": copies.left_out,
        "label_next": len(copies.uncertain),
        "surrogates": copies.surrogates,
    }
    return Answer("\n".join(lines), facts)


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


@over_ranks
def train(arguments: argparse.Namespace) -> Answer:
    """Train a potential."""
    from gprann.config import DescriptorSection, ResourcesSection, TrainingSection
    from gprann.pipeline.run import train_potential

    descriptor, training = (
        read_section(arguments, DescriptorSection),
        read_section(arguments, TrainingSection),
    )
    resources = read_section(arguments, ResourcesSection)
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
    training = potential.provenance.get("training", {})
    facts = {"output": arguments.output, "potential": repr(potential), "members": len(potential)}
    return Answer(f"{arguments.output}: {potential!r}", facts | {"training": training})


def md(arguments: argparse.Namespace) -> Answer:
    """Run molecular dynamics."""
    from gprann.dynamics import MdOptions
    from gprann.dynamics import md as run_md
    from gprann.potential import load

    options = read_section(arguments, MdOptions)
    model = load(arguments.potential, baseline=read_baseline(arguments))
    data = read_data(arguments, [arguments.structure], require=())
    if len(data) != 1:
        raise ConfigError(
            f"{arguments.structure}: holds {len(data)} structures; choose the first one with --index 0"
        )
    result = run_md(model, data, arguments.output, **options.to_dict())
    facts = {"folder": result.folder, "complete": not result.reason, "reason": result.reason}
    facts |= {"atom": result.atom, "steps": result.steps, "drift_meV_per_atom_per_ps": result.drift}
    means = {f"mean_{name}": values.mean() for name, values in result.log.items() if len(values)}
    return Answer(
        f"{result.summary().rstrip()}\nwritten: {result.folder}", facts | means, 1 if result.reason else 0
    )


def properties(arguments: argparse.Namespace) -> Answer:
    """Measure properties of a structure."""
    from gprann.labelling.calculators import CalculatorSpec
    from gprann.pipeline.properties import measure_properties
    from gprann.potential import load
    from gprann.properties.options import PropertyOptions

    options = read_section(arguments, PropertyOptions)
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
        load(arguments.potential, baseline=read_baseline(arguments)),
        read_data(arguments, [arguments.structure], require=()),
        arguments.output,
        reference=reference,
        **options.to_dict(),
    )
    facts = {"folder": result.folder, "results": result.results}
    facts |= {"left_out": result.left_out, "failed": result.failed}
    return Answer(f"{result.summary().rstrip()}\nwritten: {result.folder}", facts, 1 if result.failed else 0)


def check(arguments: argparse.Namespace) -> Answer:
    """Show the verdict on a data set."""
    from gprann.evaluation.data_check import check as check_data
    from gprann.io import ReadOptions

    options = read_section(arguments, ReadOptions).changes()
    result = check_data(arguments.data, test=arguments.test, output=arguments.output, **options)
    written = "" if arguments.output is None else f"\nwritten: {arguments.output}"
    facts = {"structures": len(result.data), "species": result.data.species, "problems": result.problems}
    return Answer(
        result.summary() + written, facts | {"left_out": result.left_out}, 1 if result.problems else 0
    )


def select(arguments: argparse.Namespace) -> Answer:
    """Choose the structures that are most worth labelling."""
    from gprann.active.select import SelectOptions
    from gprann.active.select import select as select_structures
    from gprann.config import SurrogateSection
    from gprann.io import write
    from gprann.runtime.messages import progress_bar

    check_output(arguments.output, (".extxyz", ".xyz", ""))
    options, surrogate = read_section(arguments, SelectOptions), read_section(arguments, SurrogateSection)
    candidates = read_data(arguments, arguments.input, require=())
    model = _predictor(arguments, surrogate)
    if arguments.by_grade or arguments.least_grade is not None:
        return _select_by_grade(arguments, candidates, model)
    with progress_bar(options.count, "selecting") as bar:
        chosen = select_structures(candidates, model, progress=bar.update, **options.to_dict())
    if len(chosen.structures) == 0:
        text = f"no candidate is less certain than {options.threshold:g} eV/atom: nothing was written"
        return Answer(text, {"output": None, "chosen": 0, "candidates": len(candidates)})
    write(arguments.output, chosen.structures)
    facts = {"output": arguments.output, "chosen": len(chosen.structures), "candidates": len(candidates)}
    facts |= {"std_eV_per_atom": chosen.std, "std_left_eV_per_atom": chosen.std_left}
    return Answer(
        f"{arguments.output}: {len(chosen.structures)} of {len(candidates)} candidates, most informative first\n"
        f"standard deviation of the first one: {1e3 * chosen.std[0]:.3g} meV/atom; of all candidates, once those are "
        f"labelled: {1e3 * chosen.std_left[-1]:.3g} meV/atom (root mean square)",
        facts,
    )


def _select_by_grade(
    arguments: argparse.Namespace, candidates: Dataset, model: Potential | Surrogate | SurrogateSet
) -> Answer:
    """Choose the structures that lie farthest outside the training set."""
    from gprann.active.grades import select_by_grade
    from gprann.active.select import SelectOptions
    from gprann.io import write
    from gprann.potential import Potential as PotentialClass

    options = read_section(arguments, SelectOptions)
    if not arguments.by_grade:
        raise ConfigError("--least-grade belongs to --by-grade")
    if not isinstance(model, PotentialClass):
        raise ConfigError(
            "--by-grade needs --potential with a potential; surrogates have standard deviations instead"
        )
    if options.threshold:
        raise ConfigError("--threshold is a standard deviation; with --by-grade give --least-grade")
    least = 1.0 if arguments.least_grade is None else arguments.least_grade
    chosen = select_by_grade(candidates, model, options.count, least=least)
    facts: dict[str, Any] = {"output": None, "chosen": len(chosen.structures), "candidates": len(candidates)}
    if len(chosen.structures) == 0:
        return Answer(f"no candidate has a grade of {least:g} or more: nothing was written", facts)
    write(arguments.output, chosen.structures)
    facts |= {"output": arguments.output, "grades": chosen.grades, "grades_left": chosen.grades_left}
    return Answer(
        f"{arguments.output}: {len(chosen.structures)} of {len(candidates)} candidates, most unknown first\n"
        f"grade of the first one: {chosen.grades[0]:.3g}; largest of all candidates, once those are labelled: "
        f"{chosen.grades_left[-1]:.3g}",
        facts,
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


def scan(arguments: argparse.Namespace) -> Answer:
    """Compare models and weights of the forces."""
    from gprann.config import DescriptorSection
    from gprann.pipeline.scan import scan as scan_models
    from gprann.training.closed_form import RATIOS

    data = read_data(arguments, arguments.input)
    found = scan_models(
        data,
        read_section(arguments, DescriptorSection).compress(data),
        models=[_widths(name) for name in arguments.models],
        ratios=arguments.ratios or RATIOS,
        folds=arguments.folds,
        seed=arguments.seed,
    )
    files = [] if arguments.output is None else found.save(arguments.output)
    written = "\nwritten: " + ", ".join(map(str, files)) if files else ""
    facts = {"points": [asdict(one) for one in found.points], "front": [asdict(one) for one in found.front]}
    return Answer(f"{found}{written}", facts | {"files": files})


def _widths(name: str) -> str | tuple[int, ...]:
    """Return the widths of a network that are written as 10-10, else the name."""
    parts = name.split("-")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else name


def locality(arguments: argparse.Namespace) -> Answer:
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
    lines: list[str] = []
    if arguments.fit and baseline is not None:
        fitted = fit_charges_to_locality(rows, baseline, radius=arguments.radius)
        lines.append(f"{fitted}\n")
        baseline = fitted.baseline
    tables: list[dict[str, object]] = []
    for k, one in enumerate(rows):
        found = test_locality(one, baseline)
        lines += [f"{one.structure.origin}: {found.table()}", *([found.warning] if found.warning else [])]
        tables.append(
            {
                "structure": str(one.structure.origin),
                "radii_A": found.radii,
                "without_eV_per_A": found.without,
                "with_baseline_eV_per_A": found.with_baseline,
                "warning": found.warning,
            }
        )
        if arguments.output is not None:
            folder = Path(arguments.output).expanduser()
            found.save(folder, "" if len(rows) == 1 else f"_{k}")
            lines.append(f"written: {folder}")
    used = {} if baseline is None else baseline.charges
    return Answer("\n".join(lines), {"charges": used, "structures": tables})


def label(arguments: argparse.Namespace) -> Answer:
    """Label structures with an ASE calculator."""
    from gprann.data.structure import Dataset
    from gprann.io import write
    from gprann.labelling import LabelOptions, merge
    from gprann.labelling import label as label_structures

    running = read_section(arguments, LabelOptions)
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
    lines = [
        f"{arguments.output}: {len(result.labelled)} of {len(data)} structures, {result.computed} computed now"
    ]
    if arguments.merge is not None and len(result.labelled):
        merged = merge(train, result.labelled)
        write(arguments.merge[1], merged)
        lines.append(f"{arguments.merge[1]}: {len(train)} structures and {len(merged) - len(train)} new ones")
    failed = len(result.failures)
    facts = {"output": arguments.output, "structures": len(data), "labelled": len(result.labelled)}
    facts |= {"computed": result.computed, "failed": failed}
    reason = (
        f"no labels for {failed} of {len(data)} structures; the reasons stand in {arguments.output}.failed.json, and "
        "the same command tries them again"
    )
    return Answer("\n".join(lines), facts, 1 if failed else 0, reason if failed else "")


def export(arguments: argparse.Namespace) -> Answer:
    """Write a potential in the files of another program."""
    from gprann.formats.aenet import check_document, write_aenet
    from gprann.model_file import read_model_file
    from gprann.potential import Potential

    file = Path(arguments.file).expanduser()
    check_document(file, read_model_file(file)[0])
    folder = file.with_name(f"{file.stem}_aenet") if arguments.output is None else arguments.output
    written = write_aenet(Potential.load(file), folder, ascii=arguments.ascii)
    return Answer("written: " + ", ".join(str(path) for path in written), {"files": written})


def lammps(arguments: argparse.Namespace) -> Answer:
    """Compile the pair style for LAMMPS, or compare it with the ASE calculator."""
    from gprann.lammps import build
    from gprann.lammps import check as check_lammps

    if arguments.build:
        if arguments.structure is not None or arguments.ranks != 1:
            raise ConfigError("--structure and --ranks belong to --check")
        plugin = build(arguments.lammps)
        return Answer(plugin.instructions(), {"file": plugin.file, "lammps": plugin.installation.name})
    atoms = None
    if arguments.structure is not None:
        from gprann.io import read

        data = read(arguments.structure, require=())
        atoms = data[0].to_ase()
    result = check_lammps(arguments.check, atoms, lammps=arguments.lammps, ranks=arguments.ranks)
    facts = {"good": result.good, "differences": result.differences, "limits": result.limits}
    return Answer(result.table(), facts, 0 if result.good else 1)


def interface(arguments: argparse.Namespace) -> Answer:
    """Show where header and library of the C interface are."""
    from gprann.libraries import c_interface

    found = c_interface()
    text = found.flags if arguments.flags else f"include: {found.include}\nlibrary: {found.library}"
    return Answer(text, {"include": found.include, "library": found.library, "flags": found.flags})


def info(arguments: argparse.Namespace) -> Answer:
    """Describe a file."""
    from gprann.describe import describe, facts_of

    if arguments.json:
        return Answer("", facts_of(arguments.file))
    return Answer(describe(arguments.file))
