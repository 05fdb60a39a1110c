"""Values that the shell completes: names of tables and runs. Nothing heavy is loaded for it."""

import os

_MAX_RUNS = 200
_RUN_FILES = ("run.json", "classifier.json")  # of a run, and of a checkpoint or export


def complete_backbone() -> list[str]:
    """Return the names of all backbones."""
    from cnnclf.models.backbones import BACKBONES

    return [row.name for row in BACKBONES]


def complete_command() -> list[str]:
    """Return the names of all commands."""
    from cnnclf.cli.app import COMMANDS

    return [name for name, *_ in COMMANDS]


def complete_weights() -> list[str]:
    """Return the values of `--weights` that are no path; for others the shell completes paths."""
    return ["imagenet", "none"]


def complete_run(incomplete: str) -> list[str]:
    """Return the runs whose path begins as typed; those in `runs` need no folder."""
    folder = os.path.dirname(incomplete)  # noqa: PTH120 - the spelling is kept
    parents = [folder] if folder else ["", "runs"]
    paths = [path for parent in parents for path in _list_folders(parent)]
    runs = [path for path in paths if path.startswith(incomplete) and _is_run(path)]
    return runs[:_MAX_RUNS]


def _is_run(path: str) -> bool:
    return any(os.path.isfile(f"{path}/{name}") for name in _RUN_FILES)  # noqa: PTH113


def _list_folders(parent: str) -> list[str]:
    try:
        with os.scandir(parent or ".") as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []
    return [os.path.join(parent, name) for name in sorted(names) if not name.startswith(".")]  # noqa: PTH118
