"""Feed damaged inputs to the readers of the package.

    python tests/fuzz/fuzz.py --target extxyz --inputs 100000 --seed 1
    python tests/fuzz/fuzz.py --seconds 600 --corpus found            all targets, each its share of the time
    python tests/fuzz/fuzz.py --target run --engine atheris           guided by coverage; needs `pip install atheris`
    python tests/fuzz/fuzz.py --replay tests/fuzz/corpus              what was found once

The package is the one that Python imports. A finding is an exception that is none of the package's own, an error that
does not name the file, a crash, more than 5 s of the processor, or more than 1 GiB of memory for one input. Findings
go into the folder CORPUS/TARGET, made as small as they remain the same. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # modules that tests share, and not this folder


def instrumented() -> contextlib.AbstractContextManager[None]:
    """Let atheris, where it is asked for, follow the code of the package that is imported in the block."""
    if "atheris" not in sys.argv:
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["gprann"])  # type: ignore[no-any-return]


with instrumented():  # before anything else imports the package
    from fuzz.mutations import Mutator, smallest
    from fuzz.targets import TARGETS, Target
    from fuzz.watch import Finding, Runner, Watched, quiet, scratch

_MOST_ENDED = 20  # children of one target, after which its inputs are given up


def fuzz(target: Target, *, inputs: int, seed: int, seconds: float, memory: bool = True) -> dict[str, Any]:
    """Feed mutations to a target; return how many, and the findings by their keys with an input each."""
    watched, seeds = Watched(target, memory=memory), target.seeds()
    begin, done, read, ended = time.monotonic(), 0, 0, 0
    found: dict[str, tuple[Finding, bytes]] = {}
    while done < inputs and ended < _MOST_ENDED:
        left = seconds - (time.monotonic() - begin)
        if left <= 0:
            break
        mutator = Mutator(seeds, target.words, hash((seed, ended)))

        def source(mutator: Mutator = mutator, most: int = inputs - done) -> Iterator[bytes]:
            return islice(iter(mutator.next, None), most)

        result = watched.run(source, mutator.keep, left)
        done, read = done + result.inputs, read + result.read
        ended += not result.finished
        for finding, data in result.findings:
            found.setdefault(f"{finding.kind}: {finding.key}", (finding, data))
    return {"inputs": done, "read": read, "seconds": time.monotonic() - begin, "found": found}


def minimise(target: Target, finding: Finding, data: bytes) -> bytes:
    """Return a short input with the same finding."""
    if finding.kind in ("crash", "hang", "memory"):
        return data  # each try would cost a process

    def same(other: bytes) -> bool:
        outcome = runner.outcome(other)
        return isinstance(outcome, Finding) and outcome[:2] == finding[:2]

    with scratch() as folder, quiet():
        runner = Runner(target, folder)
        return smallest(data, same)


def store(folder: Path, name: str, finding: Finding, data: bytes) -> Path:
    """Write an input of a finding into the corpus, under a name that tells the finding."""
    words = re.sub(r"\W+", "_", finding.key).strip("_")[:60]
    path = folder / name / f"{finding.kind}-{words}-{hashlib.sha256(data).hexdigest()[:8]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def replay(folder: Path) -> int:
    """Feed all inputs of a corpus to their targets; return how many are findings."""
    count = 0
    for path in sorted(path for path in folder.glob("*/*") if path.is_file()):
        data = path.read_bytes()
        result = Watched(TARGETS[path.parent.name]).run(lambda data=data: iter([data]), lambda _: None, 60.0)
        for finding, _ in result.findings:
            count += 1
            say(f"{path}: {finding.kind}: {finding.key}: {finding.text}")
    return count


def run_atheris(name: str, arguments: argparse.Namespace) -> None:
    """Let atheris choose the inputs; it ends the process itself."""
    import atheris

    target = TARGETS[name]
    folder = Path(arguments.corpus or "corpus") / name
    folder.mkdir(parents=True, exist_ok=True)
    with scratch() as place, quiet():
        runner = Runner(target, place)
        with instrumented():  # modules that are imported at the first use
            for count, seed in enumerate(target.seeds()):
                (folder / f"seed-{count}").write_bytes(seed)
                runner.outcome(seed)

        def one(data: bytes) -> None:
            outcome = runner.outcome(data)
            if isinstance(outcome, Finding):
                store(folder.parent / "found", name, outcome, data)

        options = [f"-atheris_runs={arguments.inputs}", f"-seed={arguments.seed + 1}"]
        options += ["-timeout=5", "-rss_limit_mb=4000"]
        atheris.Setup([sys.argv[0], *options, f"-max_total_time={arguments.seconds:.0f}", str(folder)], one)
        atheris.Fuzz()


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--target", nargs="+", choices=TARGETS, default=list(TARGETS), help="readers; default: all"
    )
    parser.add_argument("--inputs", type=int, default=10**9, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--corpus", type=Path, help="folder for what is found")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--engine", choices=("own", "atheris"), default="own")
    parser.add_argument("--no-memory-limit", dest="memory", action="store_false", help="for sanitised code")
    parser.add_argument("--replay", type=Path, metavar="CORPUS", help="feed the inputs of a corpus instead")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = parse(words)
    if arguments.replay is not None:
        return min(1, replay(arguments.replay))
    if arguments.engine == "atheris":
        run_atheris(arguments.target[0], arguments)
    numbers: dict[str, Any] = {}
    findings = 0
    share = arguments.seconds / len(arguments.target)
    for name in arguments.target:
        target = TARGETS[name]
        options = {"inputs": arguments.inputs, "seed": arguments.seed, "memory": arguments.memory}
        result = fuzz(target, seconds=share, **options)
        found = result.pop("found")
        numbers[name] = {**result, "findings": {kind: finding.text for kind, (finding, _) in found.items()}}
        rate = result["inputs"] / max(1e-9, result["seconds"])
        say(
            f"{name}: {result['inputs']} inputs, {result['read']} of them read, {rate:.0f}/s, {len(found)} findings"
        )
        for finding, data in found.values():
            say(f"    {finding.kind}: {finding.key}: {finding.text[:300]}")
            if arguments.corpus is not None:
                store(arguments.corpus, name, finding, minimise(target, finding, data))
        findings += len(found)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return min(1, findings)


if __name__ == "__main__":
    sys.exit(main())
