"""Trained models in other formats, each compared with the model it was made from.

`cnnclf.export(...)` exports a model: the room has the name of the function, so it can be called.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    """A package that is called as `cnnclf.api.export`; importing its modules hides that name."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return import_module("cnnclf.api").export(*arguments, **settings)


sys.modules[__name__].__class__ = _CallableRoom
