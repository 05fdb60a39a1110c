"""Runs the command line, as `cnnclf` and as `python -m cnnclf`."""

import sys

from cnnclf.signals import process_end


def run() -> None:
    """Take signals before anything is imported, so that Ctrl-C never shows a traceback."""
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


if __name__ == "__main__":
    run()
