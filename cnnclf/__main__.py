"""Runs the command line, as `cnnclf` and as `python -m cnnclf`."""

import os
import sys


def run() -> None:
    """Take signals before anything is imported, so that Ctrl-C never shows a traceback."""
    from cnnclf.signals import process_end

    process_end.take_signals()
    try:
        from cnnclf.cli.main import run as run_command

        run_command()
    except KeyboardInterrupt:  # before the command has begun, or after it has ended
        process_end.report()  # what is imported now is not interrupted again
        from cnnclf.cli.output import out
        from cnnclf.errors import ExitCode

        out.error("interrupted")
        sys.exit(ExitCode.INTERRUPTED)


def _search_here_last() -> None:
    """Let no module of the user, such as `random`, take the place of a module that is needed."""
    try:
        if sys.path[0] == os.getcwd():  # noqa: PTH109 - pathlib imports what may be shadowed
            sys.path.append(sys.path.pop(0))
    except FileNotFoundError:  # it was removed
        return


if __name__ == "__main__":
    _search_here_last()
    run()
