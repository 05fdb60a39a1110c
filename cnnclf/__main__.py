"""Runs the command line as `python -m cnnclf`."""

from cnnclf.cli.main import run

if __name__ == "__main__":
    run()
