"""Writes event files that TensorBoard shows, with the names that Keras writes."""

import json
import struct
from itertools import count
from pathlib import Path
from typing import Any

from cnnclf.files import write_text_atomic
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runtime import quiet
from cnnclf.tracking.tracker import list_images, read_figures, read_settings

_VALIDATION = "val_"
_OWNER_FILE = "run.txt"  # says which run is in a directory: others may have its name


def find_place(run: RunDirectory, directory: Path | None) -> Path:
    """Return where a run is written: in the run itself, or below `directory`.

    There it is the directory with its name, or the first numbered one that has no other run.
    """
    if directory is None:
        return run.tensorboard
    names = (f"{run.title}-{number}" if number > 1 else run.title for number in count(1))
    places = (directory / name for name in names)
    return next(each for each in places if not each.exists() or _holds(each, run))


def _holds(place: Path, run: RunDirectory) -> bool:
    owner = place / _OWNER_FILE
    return owner.is_file() and owner.read_text("utf-8", "surrogateescape") == _sign(run)


def _sign(run: RunDirectory) -> str:
    return f"{run.path.resolve()}\n{run.read_record().get('created')}\n"


class TensorboardTracker:
    """Event files in `train` and `validation` of a directory.

    Args:
        directory: Where; None for `tensorboard` in the run.
    """

    errors: tuple[type[Exception], ...] = (OSError, struct.error)  # of a figure that was cut

    def __init__(self, directory: Path | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer_class, self._event, self._summary = EventFileWriter, Event, Summary
        self._directory = directory
        self._writers: dict[str, Any] = {}
        self._epoch = 0

    def start(self, run: RunDirectory, *, time_s: float) -> None:
        """Open the files, and write the settings as text."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        place = find_place(run, self._directory)
        for name in ("train", "validation"):  # TensorFlow's error of a closed folder is no OSError
            (place / name).mkdir(parents=True, exist_ok=True)
        write_text_atomic(place / _OWNER_FILE, _sign(run))
        with quiet():  # TensorBoard loads TensorFlow, if it is not loaded yet
            self._writers = {
                name: self._writer_class(str(place / name)) for name in ("train", "validation")
            }
        settings = "    " + json.dumps(read_settings(run), indent=2).replace("\n", "\n    ")
        self._write("train", text_pb("settings", settings).value[0], time_s)

    def log(self, figures: dict[str, float], *, epoch: int, time_s: float) -> None:
        """Write the numbers of an epoch, and flush."""
        self._epoch = epoch
        for name, value in figures.items():
            split = "validation" if name.startswith(_VALIDATION) else "train"
            tag = f"epoch_{name.removeprefix(_VALIDATION)}"
            self._write(split, self._summary.Value(tag=tag, simple_value=value), time_s)
        for writer in self._writers.values():
            writer.flush()

    def end(self, run: RunDirectory, *, time_s: float) -> None:
        """Write metrics and figures, and close the files."""
        for name, value in read_figures(run).items():
            self._write("train", self._summary.Value(tag=name, simple_value=value), time_s)
        for name, path in list_images(run).items():
            data = path.read_bytes()
            width, height = struct.unpack(">II", data[16:24])  # of the header of our PNG files
            image = self._summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=data
            )
            self._write("train", self._summary.Value(tag=name, image=image), time_s)
        for writer in self._writers.values():
            writer.close()

    def _write(self, split: str, value: Any, time_s: float) -> None:
        summary = self._summary(value=[value])
        event = self._event(wall_time=time_s, step=self._epoch, summary=summary)
        self._writers[split].add_event(event)
