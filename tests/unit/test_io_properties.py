"""Round trips of random structures, and damaged files: nothing but a clean result or a clean error."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import DataError
from gprann.io import DataWarning, read, write
from gprann.io.checks import close_pair

# tmp_path is one folder for all examples of a test, and each example writes its files anew.
quiet = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

finite = st.floats(-1e6, 1e6, allow_subnormal=True)
texts = st.text(max_size=12)
all_pbc = st.tuples(st.booleans(), st.booleans(), st.booleans())
xsf_pbc = st.sampled_from(
    [(True, True, True), (True, True, False), (True, False, False), (False, False, False)]
)


@st.composite
def structures(draw, pbc=all_pbc, plain=False) -> Structure:
    """A structure of 1-6 atoms in a cell that may be smaller than an atom, with or without labels."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(1, 6))
    periodic = draw(pbc)
    size = draw(st.sampled_from([0.3, 1.0, 8.0, 1e3]))
    cell = size * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
    if not any(periodic) and (plain or draw(st.booleans())):
        cell = np.zeros((3, 3))
    labels = {
        "energy": draw(st.none() | finite),
        "forces": draw(st.none() | st.just(rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-12, 6))),
    }
    if not plain:
        labels |= {
            "stress": draw(st.none() | st.just(rng.normal(size=6))),
            "weight": draw(st.floats(0, 1e9)),
            "energy_variance": draw(st.floats(0, 1e9)),
            "group": draw(texts),
            "origin": Origin(
                draw(texts), draw(st.integers(0, 10**9)), draw(st.sampled_from(["gpr", "reference"]))
            ),
        }
    symbols = tuple(draw(st.sampled_from(["H", "Li", "O", "Cl", "U"])) for _ in range(n))
    positions = rng.uniform(-1, 1, (n, 3)) * max(size, 2.0) * 2
    structure = Structure(symbols, positions, cell, np.array(periodic), **labels)
    assume(close_pair(structure, 0.21) is None)
    return structure


def _same(old: Structure, new: Structure, *names: str) -> None:
    assert (old.symbols, old.energy) == (new.symbols, new.energy)
    for name in ("positions", "cell", "pbc", "forces", *names):
        expected, found = getattr(old, name), getattr(new, name)
        assert (expected is None) == (found is None), name
        if expected is not None:
            np.testing.assert_array_equal(found, expected, err_msg=name)


@quiet
@given(data=st.lists(structures(), min_size=1, max_size=4))
def test_extended_xyz_keeps_every_bit(tmp_path, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        write(tmp_path / "a.extxyz", data)
        back = read(tmp_path / "a.extxyz", require=())
    assert len(back) == len(data)
    for index, (old, new) in enumerate(zip(data, back, strict=True)):
        _same(old, new, "stress", "weight", "energy_variance", "group")
        default = Origin(str(tmp_path / "a.extxyz"), index)
        assert new.origin == (default if old.origin == Origin() else old.origin)


@quiet
@given(structure=structures(pbc=xsf_pbc, plain=True))
def test_xsf_keeps_every_bit(tmp_path, structure):
    write(tmp_path / "a.xsf", structure)
    (back,) = read(tmp_path / "a.xsf", require=())
    _same(structure, back)


def _outcome(path) -> int | None:
    """Number of structures, or None for the error that damage deserves; any other error fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return len(read(path))
        except DataError as error:
            message = str(error)
    assert str(path) in message
    return None


def _labelled(rng: np.random.Generator, pbc: bool) -> Structure:
    positions = np.array([[0, 0, 0], [0, 0, 1.0], [0, 1.1, 0]]) + rng.normal(size=(3, 3)) * 0.05
    cell = np.diag([4.0, 5.0, 6.0]) if pbc else np.zeros((3, 3))
    return Structure(
        ("O", "H", "H"), positions, cell, np.full(3, pbc), energy=-14.5, forces=rng.normal(size=(3, 3))
    )


def _three_frames(tmp_path, pbc: bool) -> bytes:
    rng = np.random.default_rng(0)
    write(tmp_path / "a.xyz", Dataset(_labelled(rng, pbc) for _ in range(3)))
    return (tmp_path / "a.xyz").read_bytes()


@quiet
@given(data=st.data(), pbc=st.booleans())
def test_a_cut_extended_xyz_file(tmp_path, data, pbc):
    content = _three_frames(tmp_path, pbc)
    length = data.draw(st.integers(0, len(content)))
    (tmp_path / "a.xyz").write_bytes(content[:length])
    found = _outcome(tmp_path / "a.xyz")
    lines = content[:length].decode().split("\n")
    # A structure takes five lines; the last one counts as soon as all seven columns have begun.
    complete = (len(lines) - 1) // 5 + (len(lines) % 5 == 0 and len(lines[-1].split()) == 7)
    assert found in (None, complete)
    if length == len(content) or (
        complete and length == len("\n".join(content.decode().split("\n")[: 5 * complete])) + 1
    ):
        assert found == complete


@quiet
@given(data=st.data(), pbc=st.booleans())
def test_a_cut_xsf_file(tmp_path, data, pbc):
    write(tmp_path / "a.xsf", _labelled(np.random.default_rng(0), pbc))
    content = (tmp_path / "a.xsf").read_bytes()
    length = data.draw(st.integers(0, len(content)))
    (tmp_path / "a.xsf").write_bytes(content[:length])
    found = _outcome(tmp_path / "a.xsf")
    all_columns = (
        content[:length].count(b"\n") >= content.count(b"\n") - 1
        and len(content[:length].split(b"\n")[-1].split()) == 7
    )
    assert found == 1 if length == len(content) else found is None or all_columns


@settings(quiet, max_examples=400)
@given(data=st.data(), pbc=st.booleans(), suffix=st.sampled_from(["xyz", "xsf"]))
def test_changed_bytes(tmp_path, data, pbc, suffix):
    if suffix == "xyz":
        content, count = bytearray(_three_frames(tmp_path, pbc)), 3
    else:
        write(tmp_path / "a.xsf", _labelled(np.random.default_rng(0), pbc))
        content, count = bytearray((tmp_path / "a.xsf").read_bytes()), 1
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255) | st.sampled_from(b'0123456789 \n.-+eE"=nan*#'))
    (tmp_path / f"a.{suffix}").write_bytes(bytes(content))
    assert _outcome(tmp_path / f"a.{suffix}") in (None, count)


@settings(quiet, max_examples=150)
@given(data=st.data(), suffix=st.sampled_from(["xyz", "xsf"]))
def test_removed_and_repeated_pieces(tmp_path, data, suffix):
    if suffix == "xyz":
        content = _three_frames(tmp_path, True)
    else:
        write(tmp_path / "a.xsf", _labelled(np.random.default_rng(0), True))
        content = (tmp_path / "a.xsf").read_bytes()
    start, stop = sorted((data.draw(st.integers(0, len(content))), data.draw(st.integers(0, len(content)))))
    piece = content[start:stop] * data.draw(st.sampled_from([0, 2]))
    (tmp_path / f"a.{suffix}").write_bytes(content[:start] + piece + content[stop:])
    found = _outcome(tmp_path / f"a.{suffix}")
    assert found is None or found >= 1


@quiet
@given(content=st.binary(max_size=300), suffix=st.sampled_from(["xyz", "xsf", "traj"]))
def test_any_bytes(tmp_path, content, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    found = _outcome(tmp_path / f"a.{suffix}")
    assert found is None or found >= 1


@quiet
@given(comment=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=60))
def test_any_comment_line(tmp_path, comment):
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\nH 0 0 0\n", encoding="utf-8", newline="")
    assert _outcome(tmp_path / "a.xyz") in (None, 1)
