import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from cnnclf import __version__, packages
from cnnclf.errors import MissingPackageError
from cnnclf.exporters.format_table import EXPORTERS
from cnnclf.inference.engines.engine_table import ENGINES
from cnnclf.packages import import_package, install_command, read_versions, suggest_install

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[\[<>=~ ]", each)[0] for each in requirements]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("PIL", "python -m pip install pillow"),
        ("PIL.Image", "python -m pip install pillow"),
        ("sklearn.metrics", "python -m pip install scikit-learn"),
        ("google.protobuf", "python -m pip install protobuf"),
        ("openvino", "python -m pip install 'cnnclf[openvino]'"),
        ("pyarrow.parquet", "python -m pip install 'cnnclf[parquet]'"),
        ("torch", "python -m pip install torch"),
    ],
)
def test_what_installs_a_module(module: str, command: str) -> None:
    assert suggest_install(module) == command


@pytest.mark.usefixtures("nothing_installed")
def test_every_dependency_is_installed_by_its_own_name() -> None:
    modules: dict[str, list[str]] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners:
            modules.setdefault(owner.casefold(), []).append(module)
    for name in names(PROJECT["dependencies"]):
        # tensorflow may be tensorflow-cpu; some packages bring private modules along.
        for module in modules.get(name, []):
            if not module.startswith("_") and module not in {"pylab", "mpl_toolkits", "tests"}:
                assert suggest_install(module) == install_command(name)


def test_an_incomplete_package_is_installed_again() -> None:
    assert suggest_install("PIL.gone") == "python -m pip install --force-reinstall pillow"


def test_a_namespace_of_several_packages_is_looked_up_in_the_table() -> None:
    assert suggest_install("google.gone") == "python -m pip install protobuf"


@pytest.mark.parametrize(("module", "extra"), packages.EXTRAS.items())
def test_each_extra_contains_its_modules(module: str, extra: str) -> None:
    assert module.replace("_", "-") in names(PROJECT["optional-dependencies"][extra])


@pytest.mark.usefixtures("nothing_installed")
def test_the_tables_of_engines_and_formats_name_the_same_extras() -> None:
    needed = [(row.extra, (*row.modules, *row.converting)) for row in ENGINES]
    for exporter in EXPORTERS:
        needed += [(each.extra, each.modules) for each in exporter.quantizations.values()]
        needed.append((exporter.needs.extra, exporter.needs.modules))
    core = names(PROJECT["dependencies"])
    for extra, modules in needed:
        for module in modules if extra else ():
            wanted = module if module in core else f"cnnclf[{extra}]"
            assert suggest_install(module) == install_command(wanted)


def test_versions_are_read_in_order_and_only_of_what_is_installed() -> None:
    found = read_versions(("python", "no-such-package", "numpy"))
    assert list(found) == ["cnnclf", "python", "numpy"]
    assert found["cnnclf"] == __version__


def test_a_missing_package_is_named_with_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = "fetching hf://a needs huggingface_hub, which is not installed"
    with pytest.raises(MissingPackageError, match=message) as caught:
        import_package("huggingface_hub.utils", "fetching hf://a")
    assert caught.value.hint == "install it with: python -m pip install 'cnnclf[hf]'"
