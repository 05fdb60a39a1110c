"""Images as text for terminals."""

import base64
import io
import re

import numpy as np
import pyte
import pytest
from PIL import Image

from cnnclf.cli.output import Output
from cnnclf.cli.terminal_images import encode_image, find_protocol

PIXELS = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 255, 0], [255, 255, 255]]], np.uint8)


@pytest.mark.parametrize(
    ("environment", "colors", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "truecolor", "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "256", "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "truecolor", "kitty"),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, "truecolor", "truecolor"),
        ({"TERM": "foot"}, "truecolor", "sixel"),
        ({"TERM": "xterm-sixel"}, "256", "sixel"),
        ({"TERM": "mlterm", "TMUX": "x"}, "256", "256"),
        ({"TERM": "xterm-256color"}, "256", "256"),
        ({}, "standard", None),
        ({}, None, None),
    ],
)
def test_the_best_protocol_is_chosen(
    environment: dict[str, str], colors: str | None, protocol: str | None
) -> None:
    assert find_protocol(environment, colors) == protocol


@pytest.mark.parametrize("protocol", ["truecolor", "256"])
def test_half_blocks_show_two_pixels_each(protocol: str) -> None:
    screen = pyte.Screen(8, 4)
    text = encode_image(PIXELS, protocol, columns=2, rows=1)  # type: ignore[arg-type]
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    cells = [screen.buffer[0][column] for column in range(3)]
    assert [cell.data for cell in cells] == ["\N{UPPER HALF BLOCK}"] * 2 + [" "]
    assert [(cell.fg, cell.bg) for cell in cells[:2]] == [
        ("ff0000", "00ff00"),
        ("0000ff", "ffffff"),
    ]
    assert cells[2].bg == "default"


def test_large_images_shrink_and_small_ones_grow_by_whole_pixels() -> None:
    large = encode_image(np.zeros((300, 600, 3), np.uint8), "truecolor", columns=40, rows=30)
    assert large.count("\n") == 10
    assert large.count("\N{UPPER HALF BLOCK}") == 10 * 40
    small = encode_image(PIXELS, "truecolor", columns=7, rows=30)
    assert small.count("\n") == 3
    assert small.count("\N{UPPER HALF BLOCK}") == 3 * 6


def test_kitty_gets_a_png_in_chunks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    text = encode_image(pixels, "kitty", columns=80, rows=24)
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert len(parts) > 1
    assert parts[0][0] == "a=T,f=100,c=8,m=1"
    assert [keys for keys, _ in parts[1:]] == ["m=1"] * (len(parts) - 2) + ["m=0"]
    assert all(len(data) <= 4096 for _, data in parts)
    data = base64.standard_b64decode("".join(data for _, data in parts))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "is_drawn"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_images_appear_only_on_terminals_with_colors(
    variables: dict[str, str], is_drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLORTERM", "NO_COLOR", "FORCE_COLOR", "KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    assert Output().image(PIXELS) is is_drawn
    assert bool(stream.getvalue()) is is_drawn


def test_pipes_and_json_get_no_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Output().image(PIXELS) is False
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    output = Output()
    output.json_mode = True
    assert output.image(PIXELS) is False
    assert stream.getvalue() == ""


def test_sixels_hold_every_pixel() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array([0, 255], np.uint8), (13, 20, 3))
    text = encode_image(pixels, "sixel", columns=80, rows=24)
    start = re.fullmatch(r'\x1bP0;1q"1;1;20;13(.*)\x1b\\\n', text, flags=re.DOTALL)
    assert start is not None
    shown = np.zeros_like(pixels)
    body = re.sub(r"!(\d+)(.)", lambda run: int(run[1]) * run[2], start[1])
    colors = {
        number: [round(int(part) * 2.55) for part in parts.split(";")]
        for number, parts in re.findall(r"#(\d+);2;([\d;]+)", body)
    }
    bands = re.sub(r"#\d+;2;[\d;]+", "", body).split("-")
    for top, band in enumerate(bands):
        for color, codes in re.findall(r"#(\d+)([?-~]+)", band):
            for column, code in enumerate(codes):
                for bit in range(6):
                    if (ord(code) - 63) >> bit & 1:
                        shown[6 * top + bit, column] = colors[color]
    assert (shown == pixels).all()
