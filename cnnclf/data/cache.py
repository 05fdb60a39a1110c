"""Where cnnclf keeps what it can make again: imported sources and decoded pixels."""

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "CNNCLF_CACHE_DIR"


def cache_dir() -> Path:
    """Return the cache directory: `CNNCLF_CACHE_DIR`, or else the user's cache of the system.

    It need not exist yet.
    """
    given = os.environ.get(CACHE_VARIABLE, "")
    if given:
        return Path(given).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("cnnclf", appauthor=False))
