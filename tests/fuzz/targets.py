"""What is read: each reader of the package with the files from which its inputs are made.

An input passes if it is read, or refused by an error of the package that names the file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gprann
import samples
from fuzz import parts, seeds
from gprann.config import load_config, to_toml
from gprann.config.exploration import load_exploration
from gprann.errors import ConfigError, GprannError

WATERS = samples.waters(1)


class Target(NamedTuple):
    """A reader.

    Attributes
    ----------
    file : str
        Name of the file that it reads.
    seeds : callable
        Gives inputs that can be read.
    read : callable
        Reads a file, and uses what it holds.
    wrap : callable
        Makes the content of the file of an input.
    words : tuple of bytes
        Words of its language.
    """

    file: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    wrap: Callable[[bytes], bytes] = bytes
    words: tuple[bytes, ...] = ()


def read_structures(path: Path) -> None:
    gprann.read(path)


def read_all_that_is_good(path: Path) -> None:
    gprann.read(path, skip_bad=True, index="::2", keys={"energy": "E0"})


def read_run(path: Path) -> None:
    config = load_config(path)
    to_toml(config)
    for source in (*config.data.train, *(config.data.test or ())):
        if not set("*?[") & set(source):
            _refused_for_the_path(lambda source=source: gprann.read(source))


def _refused_for_the_path(read: Callable[[], Any]) -> None:
    """A file of an input is not there: the error names it, and not the file of the input."""
    try:
        read()
    except GprannError:
        return


def read_exploration(path: Path) -> None:
    to_toml(load_exploration(path))


def predict(path: Path) -> None:
    """Read a model and use it, if it knows hydrogen and oxygen."""
    model = gprann.load(path)
    one = next(iter(model))[0] if isinstance(model, gprann.SurrogateSet) else model
    species = one.training_set.species if isinstance(one, gprann.Surrogate) else one.species
    data = WATERS if "O" in species else gprann.examples.hydrogen(1)
    _refused_for_the_path(lambda: model.predict(data))


@cache
def _library() -> Any:
    import c_library

    return c_library


def read_in_c(path: Path) -> None:
    """Read a potential by the library of the C interface and evaluate three atoms with it."""
    library = _library()
    try:
        potential = library.CPotential(path)
    except library.CFailureError as error:
        if error.code not in range(1, 5):
            raise
        raise GprannError(str(error)) from None
    others = [np.array([j for j in range(3) if j != i], np.int32) for i in range(3)]
    kinds = np.arange(3, dtype=np.int32) % len(potential.species)
    lists = library.Lists(np.array(WATERS[0].positions), kinds, np.arange(3), others)
    guard = () if potential.has_guard else ("grades",)
    wanted = tuple(name for name in library.QUANTITIES if name not in guard)
    try:
        potential.evaluate(lists, wanted=wanted)
    except library.CFailureError:
        return


def read_aenet(path: Path) -> None:
    potential = gprann.read_aenet([path])
    _refused_for_the_path(lambda: potential.predict(gprann.examples.hydrogen(1)))


def read_n2p2(path: Path) -> None:
    descriptor = gprann.SymmetryFunctionDescriptor.from_n2p2(path, length_unit="bohr")
    if descriptor.cutoff < 20:
        descriptor.values(descriptor.neighbours(WATERS))


@cache
def _md_model() -> Any:
    return gprann.Surrogate(kernel="pairs", **samples.FIXED).fit(gprann.examples.hydrogen(7))


def resume_md(path: Path) -> None:
    """Begin where the checkpoint is, without making a step."""
    from gprann.dynamics.options import MdOptions
    from gprann.dynamics.run import Simulation

    for name in ("trajectory.extxyz", "log.csv"):
        (path.parent / name).write_bytes(b" " * 5000)
    try:
        simulation = Simulation(_md_model(), seeds.MD_START, path.parent, MdOptions(**seeds.MD_OPTIONS))
    except ConfigError as error:
        if "give another folder" not in str(error):  # of a run with other options, which names the option
            raise
        return
    for file in simulation._files.values():
        file.close()


def read_optimizer_state(path: Path) -> None:
    from gprann.training.optimizers.base import OptimizerState

    OptimizerState.load(path, "identity")


def read_hessians(path: Path) -> None:
    from gprann.augmentation.taylor import read_hessians

    read_hessians(path, gprann.examples.hydrogen(2))


def read_log(path: Path) -> None:
    from gprann.dynamics.results import read_log

    read_log(path)


def read_stage(path: Path) -> None:
    """A record that is damaged counts as none."""
    from gprann.pipeline.checkpoints import Stages

    Stages(path.parent.parent).find("stage", "d")


def read_labels(path: Path) -> None:
    """Go on with the labels of an earlier call."""
    from gprann.labelling.record import Record

    Record(path)


def read_generation(path: Path) -> None:
    from gprann.sampling.records import read_record
    from gprann.sampling.results import Generation

    read_record(path, Generation)


def read_outcome(path: Path) -> None:
    from gprann.sampling.records import read_record
    from gprann.sampling.replica import Outcome

    read_record(path, Outcome)


_XYZ = (
    *b"Properties Lattice pbc energy forces stress virial species pos move_mask".split(),
    b":R:3",
    b"_JSON {",
)
_XSF = tuple(b"ATOMS PRIMVEC PRIMCOORD CRYSTAL SLAB BEGIN_BLOCK END_BLOCK ANIMSTEPS CONVCOORD".split())
_TOML = (
    *b"[data] [[data]] kind auto mlp linear quadratic lm atoms pairs 1979-05-27 a.b.c=1".split(),
    *(b"'''x'''", b'"a\\u0000b"', b'{kind="zbl"}'),
)
_JSON = tuple(b'{} [] "x" [[1]] {"a":1} {"__array__":"parameters"} -1 1e999 NaN Infinity kind'.split())
_NPY = (
    b"'<f8'",
    b"'|O'",
    b"'<i8'",
    b"True",
    b"(1000000000000,)",
    b"(0,)",
    b"(2,2)",
    b"(-1,)",
    b"'<U1000000000'",
)

TARGETS: dict[str, Target] = {
    "extxyz": Target("input.extxyz", seeds.extxyz, read_structures, words=_XYZ),
    "extxyz_skip": Target("input.extxyz", seeds.extxyz, read_all_that_is_good, words=_XYZ),
    "xsf": Target("input.xsf", seeds.xsf, read_structures, words=_XSF),
    "outputs": Target("input.cfg", seeds.outputs, read_structures, words=_JSON),
    "vasp": Target("OUTCAR", seeds.vasp, read_structures),
    "vasprun": Target(
        "vasprun.xml", seeds.vasprun, read_structures, words=(b"&x;", b"<!ENTITY a 'b'>", b"</v>")
    ),
    "run": Target("input.toml", seeds.run_configurations, read_run, words=_TOML),
    "explore": Target("input.toml", seeds.explorations, read_exploration, words=_TOML),
    "model_file": Target("input.gprann", seeds.potentials, predict),
    "model": Target(
        "input.gprann",
        lambda: list(map(parts.flatten, seeds.potentials())),
        predict,
        parts.pack,
        (*_JSON, *_NPY),
    ),
    "model_file_c": Target("input.gprann", seeds.potentials, read_in_c),
    "model_c": Target(
        "input.gprann",
        lambda: list(map(parts.flatten, seeds.potentials())),
        read_in_c,
        parts.pack,
        (*_JSON, *_NPY),
    ),
    "surrogate_file": Target("input.gprs", seeds.surrogates, predict),
    "surrogate": Target(
        "input.gprs",
        lambda: list(map(parts.flatten, seeds.surrogates())),
        predict,
        parts.pack,
        (*_JSON, *_NPY),
    ),
    "aenet": Target("H.nn", seeds.aenet_binary, read_aenet),
    "aenet_text": Target("H.nn.ascii", seeds.aenet_text, read_aenet),
    "aenet_setup": Target("H.stp", lambda: [seeds.SETUP], gprann.read_aenet_setup),
    "n2p2": Target(
        "input.nn", seeds.n2p2, read_n2p2, words=(b"symfunction_short", b"cutoff_type", b"elements")
    ),
    "md_checkpoint": Target(
        "checkpoint.npz",
        lambda: list(map(parts.flatten_arrays, seeds.md_checkpoints())),
        resume_md,
        parts.pack_arrays,
        (*_JSON, *_NPY),
    ),
    "optimizer_state": Target(
        "member.gprann",
        lambda: list(map(parts.flatten, seeds.optimizer_states())),
        read_optimizer_state,
        parts.pack,
        (*_JSON, *_NPY),
    ),
    "hessians": Target(
        "hessians.npz",
        lambda: list(map(parts.flatten_arrays, seeds.hessians())),
        read_hessians,
        parts.pack_arrays,
        _NPY,
    ),
    "log": Target("log.csv", seeds.logs, read_log),
    "stage": Target("checkpoints/stage.json", seeds.stage_records, read_stage, words=_JSON),
    "labels": Target("labels.extxyz", seeds.extxyz, read_labels, words=_XYZ),
    "generation": Target("generation.json", lambda: [seeds.GENERATION], read_generation, words=_JSON),
    "outcome": Target("outcome.json", lambda: [seeds.OUTCOME], read_outcome, words=_JSON),
}
