"""Datasets of the Hugging Face Hub: fetched into its cache, then read as the folder they are."""

import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.importer import Importer, ImportJob, Listing
from cnnclf.importers.source import Source
from cnnclf.packages import import_package
from cnnclf.progress import Progress

# hf://user/name or hf://name, with @ and a branch, tag or commit
_ADDRESS: Final = re.compile(r"hf://(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_SCHEME: Final = "hf://"
_ENDPOINT_VARIABLE: Final = "HF_ENDPOINT"


def hub_importer(choose: Callable[[Source, ImportConfig], Importer]) -> Importer:
    """Make the row of the table of importers for datasets of the hub."""

    def read(source: Source, job: ImportJob) -> Listing:
        """Fetch a dataset and list its images.

        Raises:
            DataError: The address is wrong, there is no such dataset, or the hub does not answer.
            MissingPackageError: huggingface_hub is not installed.
        """
        folder = Source.of(_fetch(source.text, job.progress))
        inner = job.replace_options(format=None)  # it named the hub
        importer = choose(folder, inner.options)
        listing = importer.read(folder, inner)
        listing.remarks.append(f"{source} was read as {importer.name}")
        return listing

    return Importer(
        "hf",
        "dataset of the Hugging Face Hub, such as hf://user/name (needs huggingface_hub)",
        _recognize,
        read,
        describe_state=_describe_state,
    )


def _recognize(source: Source) -> str | None:
    is_address = source.path is None and source.text.startswith(_SCHEME)
    return "its address begins with hf://" if is_address else None


def _describe_state(source: Source) -> Iterator[str]:
    # Asking the hub each time would need it each time; `cnnclf cache clear` fetches again.
    yield source.text


def _fetch(address: str, progress: Progress) -> Path:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise DataError(
            f"{address} is not an address of a dataset on the Hugging Face Hub",
            "write hf://user/name, or hf://user/name@revision",
        )
    hub = import_package("huggingface_hub", f"fetching {address}")
    progress.note(f"fetching {address}")
    importlib.import_module("huggingface_hub.utils").disable_progress_bars()
    try:
        folder = hub.snapshot_download(
            match["name"],
            repo_type="dataset",
            revision=match["revision"],
            endpoint=os.environ.get(_ENDPOINT_VARIABLE),
        )
    except (OSError, ValueError) as error:  # the hub's own errors are kinds of these
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise DataError(
            f"cannot fetch {address}: {reason}",
            "check the address and the connection; what was fetched is kept, so try again",
        ) from error
    return Path(folder)
