"""Runs command lines one after the other on the terminal that stdout is: imports are paid once.

Its argument is a JSON list of [width, words]; an exit code in separators follows each run.
"""

import fcntl
import json
import os
import struct
import sys
import termios
from collections.abc import Sequence

from cnnclf.cli.main import main
from cnnclf.cli.streams import secure_streams

END = "\x1f"  # unit separator: what the program shows never holds it


def run_each(calls: Sequence[tuple[int, list[str]]]) -> None:
    """Run each command at its width."""
    secure_streams()
    for width, words in calls:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        code = main(words)
        sys.stderr.flush()
        os.write(1, f"{END}{code}{END}".encode())


if __name__ == "__main__":
    run_each(json.loads(sys.argv[1]))
