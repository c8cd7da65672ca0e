"""Damaged input: what fuzzing has found once, fresh mutations for every reader, and inputs that hypothesis makes up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if os.name == "nt":
    pytest.skip("the fuzzer watches over children that are forked", allow_module_level=True)

import gprann
from fuzz import parts, seeds
from fuzz.mutations import Mutator, smallest
from fuzz.targets import TARGETS
from gprann.config import Config, load_config, to_toml
from gprann.dynamics.files import GrowingFile
from gprann.errors import ConfigError, DataError, FormatError
from gprann.explain import keys
from gprann.sampling.records import read_record
from gprann.sampling.results import Generation

FOLDER = Path(__file__).parents[1] / "fuzz"
CORPUS = FOLDER / "corpus"
COUNT = 60  # mutations for each target


def run_fuzzer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "fuzz.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_was_found_once() -> None:
    found = run_fuzzer("--replay", str(CORPUS))
    assert found.stdout == ""
    assert found.returncode == 0, found.stderr
    files = [path for path in CORPUS.glob("*/*") if path.is_file()]
    assert len(files) >= 40
    assert {path.parent.name for path in files} <= TARGETS.keys()


def test_fresh_mutations() -> None:
    found = run_fuzzer("--inputs", str(COUNT), "--seed", "20", "--seconds", "5000")
    assert found.returncode == 0, found.stdout + found.stderr
    counts = re.findall(r"(?m)^(\w+): (\d+) inputs, (\d+) of them read, \d+/s, 0 findings$", found.stdout)
    assert [name for name, _, _ in counts] == list(TARGETS)
    assert all(int(inputs) == COUNT for _, inputs, _ in counts)
    assert sum(int(read) > 0 for _, _, read in counts) > len(counts) // 2  # mutations that go deep


WATCHDOG = """
import os, signal, sys, time
sys.path[:0] = [{tests!r}]
import numpy as np
from fuzz.targets import Target
from fuzz.watch import Watched
from gprann.errors import DataError

def read(path):
    what = path.read_bytes()
    if what == b"crash": os.kill(os.getpid(), signal.SIGSEGV)
    while what == b"hang": pass
    if what == b"memory": np.ones(2**28)
    if what == b"exception": raise KeyError("x")
    if what == b"message": raise DataError("something is wrong")
    if what == b"refused": raise DataError(f"{{path}}: is wrong")

for what in (b"crash", b"hang", b"memory", b"exception", b"message", b"refused", b"fine"):
    result = Watched(Target("file", list, read), limit=0.3).run(lambda: iter([what]), lambda _: None, 60.0)
    kinds = [(finding.kind, data == what) for finding, data in result.findings]
    print(what.decode(), result.inputs, result.read, result.finished, kinds)
"""


def test_the_watchdog_notices_everything() -> None:
    """Else no finding would mean nothing."""
    program = WATCHDOG.format(tests=str(FOLDER.parent))
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        "crash 1 0 False [('crash', True)]",
        "hang 1 0 False [('hang', True)]",
        "memory 1 0 True [('memory', True)]",
        "exception 1 0 True [('exception', True)]",
        "message 1 0 True [('message', True)]",
        "refused 1 0 True []",
        "fine 1 1 True []",
    ], found.stderr


def test_the_same_seed_gives_the_same_inputs() -> None:
    def first(seed: int) -> list[bytes]:
        mutator = Mutator([seeds.EXTXYZ, seeds.XSF], [b"word"], seed)
        return [mutator.next() for _ in range(300)]

    assert first(3) == first(3)
    assert first(3) != first(4)
    assert len(set(first(3))) > 250


def test_inputs_are_made_small() -> None:
    assert smallest(b"a" * 500 + b"needle" + b"b" * 300, lambda data: b"needle" in data) == b"needle"


def test_model_files_survive_being_taken_apart(tmp_path: Path) -> None:
    for content in (*seeds.potentials(), *seeds.surrogates()):
        (tmp_path / "model").write_bytes(parts.pack(parts.flatten(content)))
        gprann.load(tmp_path / "model")


# ------------------------------------------------------------- what was mended
def test_checkpoints_cut_no_other_files(tmp_path: Path) -> None:
    """The lengths in a checkpoint belong to the two files of a simulation, whatever names stand there."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 100)
    (tmp_path / "run").mkdir()
    content = (CORPUS / "md_checkpoint" / "lengths_of_another_file").read_bytes()
    content = content.replace(b'"../log."', b'"../victim"')
    (tmp_path / "run" / "checkpoint.npz").write_bytes(parts.pack_arrays(content))
    for name in ("trajectory.extxyz", "log.csv"):
        (tmp_path / "run" / name).write_bytes(b" " * 5000)
    model = gprann.Surrogate(kernel="pairs", length=3.0, energy_noise=1e-4, force_noise=2e-5)
    with pytest.raises(FormatError, match=r"checkpoint.npz: is no checkpoint, or damaged .*begin anew"):
        gprann.md(
            model.fit(gprann.examples.hydrogen(7)), seeds.MD_START, tmp_path / "run", **seeds.MD_OPTIONS
        )
    assert victim.read_bytes() == b"precious" * 100


def test_records_of_explorations(tmp_path: Path) -> None:
    file = tmp_path / "generation.json"
    file.write_bytes(seeds.GENERATION)
    found = read_record(file, Generation)
    assert (found.number, found.chosen, found.replicas[0].steps) == (0, ((0, 3), (1, 2)), 50)
    for damaged in (b"", b"[]", seeds.GENERATION[:-20], seeds.GENERATION.replace(b"50", b'"x"')):
        file.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"generation\.json: is no record .*; remove the file"):
            read_record(file, Generation)
    with pytest.raises(FormatError, match="none: cannot be read: No such file"):
        read_record(tmp_path / "none", Generation)


def test_growing_files_hold_what_was_written(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "a", 0)
    for k in range(3000):
        file.write(f"{k} Å\n")
    size = file.flush()
    file.write("lost")
    file.close()
    text = "".join(f"{k} Å\n" for k in range(3000))
    assert (tmp_path / "a").read_text(encoding="utf-8") == text + "lost"
    assert size == len(text.encode())
    again = GrowingFile(tmp_path / "a", size)
    again.close()
    assert (tmp_path / "a").read_text(encoding="utf-8") == text


# ------------------------------------------------------------------ hypothesis
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    TEXTS,
    st.sampled_from(["auto", "none", "atoms", "lm"]),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=5,
)
SECTIONS = sorted(name for name in Config.model_fields if name != "method")
NAMES = [*sorted({key.rpartition(".")[2] for key in keys(Config)}), "kind", "calculator", "hidden", "kernel"]


def toml(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return repr(value)


@quick
@given(
    st.dictionaries(st.tuples(st.sampled_from(SECTIONS), st.sampled_from(NAMES) | TEXTS), VALUES, max_size=3)
)
def test_configurations_are_read_or_refused(tmp_path: Path, entries: dict[tuple[str, str], Any]) -> None:
    """What is read is written and read again as the same; every line of a refusal begins with the file."""
    file = tmp_path / "config.toml"
    lines = [f"{section}.{json.dumps(name)} = {toml(value)}" for (section, name), value in entries.items()]
    file.write_text("\n".join(['data.train = "train.extxyz"', *lines]) + "\n", encoding="utf-8")
    try:
        config = load_config(file)
    except ConfigError as error:
        message = str(error)
        assert message.startswith(f"{file}: ")
        return
    file.write_text(to_toml(config), encoding="utf-8")
    assert load_config(file) == config


TOKENS = st.sampled_from(
    [
        "H",
        "O",
        "X",
        "8",
        "0",
        "0.5",
        "-1.5",
        "1e3",
        "1d0",
        "nan",
        "inf",
        "1e400",
        "T",
        "",
        "{",
        "_JSON {}",
        "é",
    ]
)
KEYS = st.sampled_from(
    [
        "energy",
        "forces",
        "stress",
        "virial",
        "Lattice",
        "pbc",
        "Properties",
        "weight",
        "energy_unit",
        "x",
        "charge",
    ]
)
COMMENTS = st.lists(
    st.tuples(KEYS, st.lists(TOKENS, max_size=9).map(" ".join) | st.just("species:S:1:pos:R:3")), max_size=5
).map(lambda entries: " ".join(f'{name}="{value}"' for name, value in entries))
ROWS = st.lists(
    st.tuples(TOKENS, st.lists(TOKENS, min_size=3, max_size=3)).map(lambda row: " ".join([row[0], *row[1]])),
    min_size=1,
    max_size=3,
)


@quick
@given(st.lists(st.tuples(COMMENTS, ROWS), min_size=1, max_size=2), st.integers(-1, 1))
def test_extended_xyz_is_read_or_refused(
    tmp_path: Path, frames: list[tuple[str, list[str]]], surplus: int
) -> None:
    """What is read survives being written; a refusal names the file, and the structure where there are several."""
    file = tmp_path / "data.extxyz"
    texts = ["\n".join([str(len(rows) + surplus), comment, *rows]) for comment, rows in frames]
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = gprann.read(file, require=())
        except DataError as error:
            message = str(error)
            assert message.startswith(str(file))
            assert "structure" in message
            return
        gprann.write(tmp_path / "again.extxyz", found)
        again = gprann.read(tmp_path / "again.extxyz", require=())
    assert [item.symbols for item in again] == [item.symbols for item in found]
    assert [item.energy for item in again] == [item.energy for item in found]


SECTION = st.sampled_from(
    ["ATOMS", "PRIMVEC", "PRIMCOORD", "CRYSTAL", "SLAB", "MOLECULE", "CONVVEC", "2 1", "ANIMSTEPS"]
)


@quick
@given(st.lists(SECTION | COMMENTS.map("# {}".format) | ROWS.map("\n".join), max_size=6))
def test_xsf_is_read_or_refused(tmp_path: Path, parts_of_file: list[str]) -> None:
    file = tmp_path / "data.xsf"
    file.write_text("\n".join(parts_of_file) + "\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = gprann.read(file, require=())
        except DataError as error:
            message = str(error)
        else:
            message = f"{file}: {len(found)} structure"
    assert message.startswith(str(file))
