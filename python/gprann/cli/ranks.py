"""Commands whose work is divided among the ranks of MPI."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

from gprann.cli.answer import Answer
from gprann.cli.inputs import read_section

Command = Callable[[argparse.Namespace], Answer]


def over_ranks(command: Command) -> Command:
    """Let rank 0 carry out a command with the options of `[resources]`, and the others serve it, if --mpi is given."""

    @functools.wraps(command)
    def call(arguments: argparse.Namespace) -> Answer:
        from gprann.config import ResourcesSection

        if not read_section(arguments, ResourcesSection).mpi:
            return command(arguments)
        from gprann.training.ranks import lead

        return lead(lambda: command(arguments))

    return call
