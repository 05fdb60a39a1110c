"""Shows the bar of a training that never trains; TASK and TEXT are its arguments."""

import sys
import time

from cnnclf.cli.output import out


def show(name: str, words: str) -> None:
    """Advance for a second."""
    with out.progress().task(name, 3_600_000, unit="images") as task:
        task.describe(words)
        for _ in range(20):
            task.advance(30_000)
            time.sleep(0.05)


if __name__ == "__main__":
    show(*sys.argv[1:])
