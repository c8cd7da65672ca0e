"""Completion in shells: the scripts are run by the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gprann.cli.arguments import COMMANDS
from gprann.cli.completion import script_of
from gprann.cli.main import _parser, main
from gprann.training.optimizers.base import OPTIMIZERS


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


def run(*command: str) -> list[str]:
    """Return the lines that a shell prints; nothing may come on standard error."""
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(script_of(shell) + "\n", encoding="utf-8")
    return {shell: folder / shell for shell in ("bash", "zsh", "fish")}


@needs("bash")
class TestBash:
    @staticmethod
    def offered(script: Path, *words: str) -> set[str]:
        code = (
            'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _gprann; '
            'for word in "${COMPREPLY[@]}"; do echo "$word"; done'
        )
        return set(run("bash", "--norc", "-c", code, str(script), "gprann", *words))

    def test_commands(self, scripts: dict[str, Path]) -> None:
        assert self.offered(scripts["bash"], "") == {*COMMANDS, "-h", "--help", "--version"}
        assert self.offered(scripts["bash"], "tr") == {"train"}
        assert self.offered(scripts["bash"], "--v") == {"--version"}

    def test_options_are_those_of_the_parser(self, scripts: dict[str, Path]) -> None:
        for name in ("train", "md", "init"):
            parser = _parser(name)[1][name]
            assert self.offered(scripts["bash"], name, "-") == set(parser._option_string_actions)
        assert self.offered(scripts["bash"], "train", "a.xyz", "--members", "3", "--hid") == {"--hidden"}

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            (["train", "--optimizer", ""], set(OPTIMIZERS)),
            (["train", "a.xyz", "--weights", "-1", "--optimizer", "lb"], {"lbfgs"}),
            (["train", "--optimizer", "=", "lb"], {"lbfgs"}),
            (["train", "--optimizer", "="], set(OPTIMIZERS)),
            (["train", "--optimizer", "lm", ""], set()),  # its only value has been given: files
            (["completion", ""], {"bash", "zsh", "fish"}),
            (["compare", "c.toml", "--methods", "gpr", "ta"], {"taylor"}),
            (["export", "p.gprann", "--format", ""], {"aenet"}),
            (["run", ""], set()),  # files, which bash offers by itself
        ],
    )
    def test_values(self, scripts: dict[str, Path], words: list[str], offered: set[str]) -> None:
        assert self.offered(scripts["bash"], *words) == offered

    def test_files_are_left_to_bash(self, scripts: dict[str, Path]) -> None:
        code = 'source "$0"; complete -p gprann'
        assert run("bash", "--norc", "-c", code, str(scripts["bash"])) == [
            "complete -o bashdefault -o default -F _gprann gprann"
        ]


@needs("fish")
def test_fish(scripts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    def offered(line: str) -> set[str]:
        code = f'source {scripts["fish"]}; complete -C "{line}"'
        return {text.partition("\t")[0] for text in run("fish", "--no-config", "-c", code)}

    assert offered("gprann tr") == {"train"}
    assert offered("gprann train --optimizer ") == set(OPTIMIZERS)
    assert offered("gprann completion ") == {"bash", "zsh", "fish"}
    assert offered("gprann train --optimiz") == {"--optimizer"}


@needs("zsh")
def test_zsh(scripts: dict[str, Path]) -> None:
    code = (
        "compdef() { }; _arguments() { print -rl -- $@ }; _describe() { print -rl -- ${(P)2} }; compadd() { }; "
        f"source {scripts['zsh']}; "
    )
    specs = run("zsh", "-f", "-c", code + "words=(gprann train ''); CURRENT=3; _gprann")
    parser = _parser("train")[1]["train"]
    assert {text.partition("[")[0] for text in specs} == {*parser._option_string_actions, "*:file:_files"}
    assert f"--optimizer[Optimiser]:value:({' '.join(OPTIMIZERS)})" in specs
    assert "--hidden[" in "".join(specs)
    names = run("zsh", "-f", "-c", code + "words=(gprann ''); CURRENT=2; _gprann")
    assert [text.partition(":")[0] for text in names] == list(COMMANDS)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script_of("bash") + "\n"
    assert main(["completion", "csh"]) == 2
    assert "argument shell: invalid choice: 'csh'" in capsys.readouterr().err
