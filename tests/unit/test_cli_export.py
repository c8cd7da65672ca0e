"""`gprann export`, and commands that take networks of ænet instead of a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gprann
import samples
from gprann.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with structures, a single network and a committee."""
    gprann.write(tmp_path / "data.extxyz", samples.waters(3))
    samples.potential(members=1).save(tmp_path / "one.gprann")
    samples.potential(members=2).save(tmp_path / "two.gprann")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_export_beside_the_model_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, "export", "one.gprann", "--format", "aenet")
    assert code == 0
    assert sorted(file.name for file in (folder / "one_aenet").iterdir()) == [
        "H.fingerprint.stp",
        "H.nn",
        "O.fingerprint.stp",
        "O.nn",
    ]
    assert all(f"one_aenet/{name}" in out for name in ("H.nn", "O.nn", "O.fingerprint.stp"))
    data = gprann.read("data.extxyz")
    same = gprann.read_aenet("one_aenet").predict(data).energy
    np.testing.assert_allclose(same, samples.potential(members=1).predict(data).energy, rtol=1e-12)


def test_export_of_a_committee_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "two.gprann", "--format", "aenet", "--ascii", "--output", "a/b"]
    assert answer(capsys, *arguments)[0] == 0
    names = {str(file.relative_to(folder / "a/b")) for file in (folder / "a/b").rglob("*.nn.ascii")}
    assert names == {f"member_{k}/{symbol}.nn.ascii" for k in (0, 1) for symbol in "HO"}
    code, _, error = answer(capsys, *arguments)
    assert code == 2
    assert "a/b: has networks of ænet already" in error


def test_networks_stand_for_a_model_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert main(["export", f"{name}.gprann", "--format", "aenet"]) == 0
        capsys.readouterr()
        first = answer(capsys, "evaluate", f"{name}.gprann", "data.extxyz")
        assert answer(capsys, "evaluate", f"{name}_aenet", "data.extxyz") == first
        assert "3 structures, forces on 9 atoms" in first[1]
    code, out, _ = answer(capsys, "info", "two_aenet")
    assert code == 0
    assert "a committee of 2 networks for each element, 20-5-4-1 tanh" in out
    assert "ænet: H.nn, O.nn, H.nn, O.nn" in out
    code, out, _ = answer(
        capsys, "select", "data.extxyz", "--potential", "two_aenet", "--count", "1", "-o", "next.extxyz"
    )
    assert code == 0
    assert len(gprann.read("next.extxyz", require=())) == 1


def test_what_cannot_be_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples.potential(activation="silu").save("silu.gprann")
    gprann.Surrogate(**samples.FIXED).fit("data.extxyz").save("surrogate.gprann")
    on_emt = samples.potential()
    on_emt.baseline = gprann.CalculatorBaseline(calculator="emt")
    on_emt.save("emt.gprann")
    (folder / "broken.gprann").write_bytes((folder / "one.gprann").read_bytes()[:900])
    for file, message in (
        ("silu.gprann", 'activation = "silu": ænet has none like it'),
        ("surrogate.gprann", "surrogate.gprann: holds a surrogate, ænet has potentials of networks alone"),
        (
            "emt.gprann",
            "emt.gprann: builds on the calculator emt: ænet has no baseline but reference energies",
        ),
        ("broken.gprann", "broken.gprann: not a complete gprann model file"),
        ("missing.gprann", "missing.gprann: no such model file"),
    ):
        code, out, error = answer(capsys, "export", file, "--format", "aenet")
        assert (code, out) == (2, "")
        assert message in error
        assert len(error.splitlines()) == 1
    assert not list(folder.glob("*_aenet"))


def test_mistakes_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--format" in answer(capsys, "export", "one.gprann")[2]
    code, _, error = answer(capsys, "export", "one.gprann", "--format", "n2p2")
    assert code == 2
    assert "invalid choice: 'n2p2'" in error
    assert main(["export", "one.gprann", "--format", "aenet"]) == 0
    Path("one_aenet/O.nn").write_bytes(Path("one_aenet/O.nn").read_bytes()[:-9])
    for command in (["evaluate", "one_aenet", "data.extxyz"], ["info", "one_aenet"]):
        code, _, error = answer(capsys, *command)
        assert code == 2
        assert "one_aenet/O.nn: ends within the record" in error
    code, _, error = answer(capsys, "evaluate", "one_aenet", "data.extxyz", "--calculator", "emt")
    assert code == 2
    assert "--calculator has no effect: networks of ænet build on no calculator" in error
