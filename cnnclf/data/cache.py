"""The cache directory: imported sources, decoded pixels and other files that can be recreated."""

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "CNNCLF_CACHE_DIR"


def cache_dir() -> Path:
    """Return the cache directory: `CNNCLF_CACHE_DIR`, or else the user cache of the system.

    It may not exist yet.
    """
    given = os.environ.get(CACHE_VARIABLE, "")
    if given:
        return Path(given).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("cnnclf", appauthor=False))
