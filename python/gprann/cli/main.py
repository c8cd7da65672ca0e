"""Entry point of the command `gprann`: runs a command, and turns errors into one clear message and an exit code.

0 success; 1 a fit or a file failed, or check has found something; 2 usage, configuration or data; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from gprann.cli.console import messages, show, show_error
from gprann.cli.parser import help_text, parse
from gprann.errors import ConfigError, DataError, GprannError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        Exit code.

    Examples
    --------
    >>> main(["info", "missing.gprann"])
    2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given:
            show(help_text())
            return 2
        namespace = parse(given)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except BrokenPipeError:
        return _end_of_pipe()
    except ConfigError as error:
        show_error(f"gprann: {error}")
        return 2
    except GprannError as error:
        show_error(f"gprann: {error}")
        return 1
    return _execute(namespace)


def _end_of_pipe() -> int:
    """End quietly: the reader of a pipe, such as `head`, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _execute(namespace: argparse.Namespace) -> int:
    try:
        from gprann.cli import commands

        with messages(namespace.level):
            code = int(getattr(commands, namespace.command)(namespace) or 0)
    except KeyboardInterrupt:
        show_error(f"\ngprann: interrupted; {_how_to_go_on(namespace)}")
        return 130
    except BrokenPipeError:
        return _end_of_pipe()
    except (ConfigError, DataError) as error:
        show_error(f"gprann: {error}")
        return 2
    except (GprannError, OSError, ImportError) as error:
        show_error(f"gprann: {error}")
        return 1
    except MemoryError:
        show_error(
            "gprann: the memory does not suffice; close other programs, or lower max_subset, copies or workers"
        )
        return 1
    return code


def _how_to_go_on(namespace: argparse.Namespace) -> str:
    command = namespace.command
    if command in ("run", "compare"):
        return f"what is finished is kept, go on with: gprann {command} {namespace.config}"
    if command == "label":
        return f"what is finished is kept in {namespace.output}, the same command goes on"
    if command == "train" and namespace.checkpoint is not None:
        return f"the state is kept in {namespace.checkpoint}, the same command goes on"
    if command == "train":
        return "nothing is kept; with --checkpoint FOLDER the same command goes on"
    return "nothing was written"
