from pathlib import Path

import pytest

from cnnclf.errors import DataError
from cnnclf.importers.importer import read_classes_file


def test_classes_file_gives_labels_in_order(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffT-shirt/top\r\n Käse \nb\n\n".encode())
    assert read_classes_file(path) == ("T-shirt/top", "Käse", "b")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a\nb\na\n", "line 3"),
        (b"a\n\nb\n", "line 2 of .* is empty"),
        (b"\n \n", "is empty"),
        (b"\xff\n", "cannot read"),
    ],
)
def test_faults_in_a_classes_file_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read_classes_file(path)
    assert str(path) in caught.value.message
    assert "--classes-file" in caught.value.hint
