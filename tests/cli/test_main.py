import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

import cnnclf
from cnnclf import errors
from cnnclf.cli import app as app_module
from cnnclf.cli.app import COMMANDS, load_command
from cnnclf.cli.completion import complete_run
from cnnclf.errors import CnnclfError, ExitCode
from cnnclf.exporters.format_table import EXPORTERS
from cnnclf.runs.run_opening import create_run
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]

ERRORS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, CnnclfError)
]

_action: Callable[[], object] = lambda: None  # noqa: E731 - what the command `probe` does


def probe_command(
    number: int = 1,
    *,
    choice: str = "a",
) -> object:
    """Do what the test put into `_action`."""
    return _action()


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Iterator[Cli]:
    """Call the command line with a command `probe`, whose body is the first argument."""
    row = ("probe", __name__, "probe_command", "A command for tests.")
    monkeypatch.setattr(app_module, "COMMANDS", (*COMMANDS, row))

    def call(action: Callable[[], object], *arguments: object) -> object:
        monkeypatch.setattr(sys.modules[__name__], "_action", action)
        return cli("probe", *arguments)

    return call  # type: ignore[return-value]


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def lines_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line]


# Exit codes


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_of_ours_is_two_lines_and_its_code(probe: Cli, kind: type[CnnclfError]) -> None:
    result = probe(raising(kind("expected a cat, received a dog", "feed it")))
    assert result.code == kind.exit_code
    assert result.stdout == ""
    assert lines_of(result.stderr) == [
        "error: expected a cat, received a dog",
        "hint: feed it",
    ]


def test_an_error_without_a_hint_is_one_line(probe: Cli) -> None:
    assert probe(raising(errors.DataError("no images"))).stderr == "error: no images\n"


def _named(name: str, module: str, text: str) -> BaseException:
    kind = type(name, (Exception,), {"__module__": module})
    error: BaseException = kind(text)
    return error


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (MemoryError("Unable to allocate 9 GiB"), 6, "9 GiB"),
        (_named("ResourceExhaustedError", "tensorflow.python.x", "OOM when"), 6, "OOM when"),
        (
            _named(
                "ResourceExhaustedError", "tensorflow.python.x", "a.index; No space left on device"
            ),
            6,
            "disk full: a.index",
        ),
        (_named("OutOfMemoryError", "torch", "CUDA out of memory"), 6, "CUDA out of memory"),
        (_named("XlaRuntimeError", "jaxlib.xla", "RESOURCE_EXHAUSTED: x"), 6, "RESOURCE"),
        (OSError(errno.ENOSPC, "No space left", "/data/x.bin"), 6, "disk full: /data/x.bin"),
        (OSError(errno.EDQUOT, "Quota exceeded", "/data/x.bin"), 6, "/data/x.bin"),
        (
            OSError(errno.EFBIG, "File too large", "/data/x.bin"),
            6,
            "size limit was reached: /data/x.bin",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/a"),
            3,
            "permission denied: /root/a",
        ),
        (FileNotFoundError(2, "No usable temporary directory found"), 6, "set TMPDIR to a wri"),
        (ModuleNotFoundError("No module named 'openvino'", name="openvino"), 5, "openvino"),
        (ModuleNotFoundError("No module named 'cnnclf.x'", name="cnnclf.x"), 1, "unexpected"),
        (ValueError("a\nb"), 1, "unexpected ValueError: a b"),
        (RecursionError(), 1, "unexpected RecursionError"),
        (DeprecationWarning("x is old"), 2, "a warning of Python was made an error"),
        (typer.Abort(), 130, "interrupted"),
        (_caused(ImportError("numpy"), KeyboardInterrupt()), 130, "interrupted"),
        (_caused(errors.MissingPackageError("no keras"), KeyboardInterrupt()), 130, "interrupted"),
        (_caused(errors.DataError("no images"), KeyboardInterrupt()), 3, "no images"),
        (typer.Exit(7), 7, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
        (SystemExit("text"), 1, ""),
        (typer.BadParameter("too small"), 2, "too small"),
    ],
)
def test_outcomes(probe: Cli, error: BaseException, code: int, words: str) -> None:
    result = probe(raising(error))
    assert result.code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(lines_of(result.stderr)) <= 2


def test_a_returned_code_is_the_exit_code(probe: Cli) -> None:
    assert probe(lambda: ExitCode.SOME_FAILED).code == 7
    assert probe(lambda: None).code == 0
    assert probe(lambda: {"a": "result"}).code == 0


def test_a_missing_package_names_the_command_that_installs_it(probe: Cli) -> None:
    result = probe(raising(ModuleNotFoundError("No module named 'skimage'", name="skimage.io")))
    assert result.code == ExitCode.MISSING_PACKAGE
    assert "hint: install it: python -m pip install scikit-image" in result.stderr


def test_a_bug_says_where_and_how_to_see_more(probe: Cli) -> None:
    result = probe(lambda: load_command(("x", "cnnclf.cli.app", "no_such", "")))
    assert result.code == ExitCode.BUG
    assert re.search(r"\(cnnclf/cli/app\.py:\d+\)", result.stderr)
    assert "--traceback" in result.stderr


# The traceback on demand


@pytest.mark.parametrize("arguments", [("--traceback",), ("--number", "2", "--traceback")])
def test_traceback_anywhere(probe: Cli, arguments: tuple[str, ...]) -> None:
    result = probe(raising(ValueError("deep")), *arguments)
    assert result.code == 1
    assert "Traceback" in result.stderr
    assert "error: unexpected ValueError: deep" in result.stderr


@pytest.mark.parametrize(("value", "is_shown"), [("1", True), ("0", False), ("", False)])
def test_traceback_by_environment(
    probe: Cli, monkeypatch: pytest.MonkeyPatch, value: str, is_shown: bool
) -> None:
    monkeypatch.setenv("CNNCLF_TRACEBACK", value)
    result = probe(raising(errors.DataError("no images")))
    assert ("Traceback" in result.stderr) is is_shown


def test_traceback_after_two_dashes_is_an_argument(cli: Cli) -> None:
    assert "Traceback" not in cli("doctor", "--", "--traceback").stderr


# Usage


def test_unknown_command_names_the_nearest(cli: Cli) -> None:
    result = cli("trian")
    assert result.code == 2
    assert re.search(r"^error: .*'trian'", result.stderr, re.MULTILINE)
    assert "hint: did you mean 'cnnclf train'?" in result.stderr


def test_unknown_command_like_no_other(cli: Cli) -> None:
    result = cli("zzz")
    assert result.code == 2
    assert "hint: cnnclf --help describes them" in result.stderr


def test_unknown_sub_command(cli: Cli) -> None:
    result = cli("runs", "lst")
    assert result.code == 2
    assert "did you mean 'cnnclf runs list'?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (
            ("--numbr", "2"),
            "error: cnnclf probe: no such option: --numbr",
            "did you mean --number?",
        ),
        (("--zzz",), "no such option: --zzz", "cnnclf probe --help lists the options"),
        (("--choice",), "--choice", "cnnclf probe --help lists the options"),
        (("extra",), "extra", "cnnclf probe --help lists the options"),
    ],
)
def test_wrong_arguments(probe: Cli, arguments: tuple[str, ...], error: str, hint: str) -> None:
    result = probe(lambda: None, *arguments)
    assert result.code == 2
    first, second = lines_of(result.stderr)
    assert first.startswith("error: cnnclf probe: ")
    assert error in first
    assert hint in second


def test_a_wrong_number_is_refused_as_a_setting_is(probe: Cli) -> None:
    result = probe(lambda: None, "--number", "x")
    assert result.code == 2
    first, second = lines_of(result.stderr)
    assert first == "error: --number x: expected a whole number"
    assert second == "hint: cnnclf probe --help lists the options"


def test_unknown_global_option(cli: Cli) -> None:
    result = cli("--versoin")
    assert result.code == 2
    assert "did you mean --version?" in result.stderr


def test_missing_argument(cli: Cli) -> None:
    result = cli("sample-data")
    assert result.code == 2
    assert lines_of(result.stderr)[0] == "error: cnnclf sample-data: missing DIR"


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (("adopt",), "MODEL, --labels, --scale, --out"),
        (("adopt", "model.onnx", "--scale", "0:1"), "--labels, --out"),
        (("adopt", "model.onnx", "--scale=0:1", "-o", "b"), "--labels"),
        (("export", "runs/a"), "--format"),
        (("predict", "runs/a"), "IMAGES"),
        (("train",), "DATASET"),
        (("finetune",), "DATASET"),
        (("explain", "runs/a"), "IMAGES"),
    ],
)
def test_all_that_is_missing_is_named_at_once(
    cli: Cli, arguments: tuple[str, ...], missing: str
) -> None:
    result = cli(*arguments)
    assert result.code == 2
    first, second = lines_of(result.stderr)
    assert first == f"error: cnnclf {arguments[0]}: missing {missing}"
    assert second.startswith("hint: ")


def test_a_missing_option_is_named_with_its_values(cli: Cli) -> None:
    formats = "|".join(row.name for row in EXPORTERS)
    hint = lines_of(cli("export", "runs/a").stderr)[1]
    assert hint == f"hint: --format {formats}; cnnclf export --help shows what it needs"
    assert "--to NAME:PLACE; " in cli("runs", "export", "runs/a").stderr


def test_no_arguments_show_help(cli: Cli) -> None:
    result = cli()
    assert result.code == 2
    assert "Usage: cnnclf" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_command(cli: Cli, option: str) -> None:
    result = cli(option)
    assert result.code == 0
    for name, _, _, summary in COMMANDS:
        assert name in result.stdout
        assert summary in " ".join(result.stdout.split())
    assert "--traceback" in result.stdout


@pytest.mark.parametrize("row", COMMANDS, ids=[row[0] for row in COMMANDS])
def test_help_of_every_command(cli: Cli, row: tuple[str, str, str, str]) -> None:
    result = cli(row[0], "-h")
    assert result.code == 0
    assert f"Usage: cnnclf {row[0]}" in result.stdout


def test_summaries_are_sentences() -> None:
    assert all(summary.endswith(".") and len(summary) <= 60 for _, _, _, summary in COMMANDS)


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.stdout.strip()) == (0, f"cnnclf {cnnclf.__version__}")


# Through a real process


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "cnnclf", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_process_ends_with_the_code() -> None:
    process = start("trian")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"did you mean" in stderr


def test_closed_pipe() -> None:
    process = start("--help")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 141
    assert stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_full_disk_under_stdout(argument: str, is_buffered: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cnnclf", argument],
            cwd=ROOT,
            env=environment if is_buffered else environment | {"PYTHONUNBUFFERED": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 6
    assert done.stderr.count(b"disk full") == 1
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


_WAITING = """
import atexit, os, signal, sys, threading, time
# in the background of a shell tests and their children ignore Ctrl-C, below nohup SIGHUP
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
{before}
from cnnclf.cli import app, main
def wait_command() -> None:
    print("ready", flush=True)
    {body}
app.COMMANDS = (("wait", "__main__", "wait_command", "Wait."),)
sys.argv[1:] = ["wait"]
main.run()
"""


def start_waiting(body: str = "time.sleep(60)", before: str = "") -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITING.format(body=body, before=before)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.05)
    return process


_STOPS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@pytest.mark.parametrize("number", _STOPS)
def test_stopped_from_outside(number: signal.Signals) -> None:
    process = start_waiting()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b"error: interrupted\n"


@pytest.mark.parametrize(
    "before",
    [
        "",
        "atexit.register(time.sleep, 1)",
        # the process would wait for it, if it were not stopped again
        "threading.Thread(target=lambda: (time.sleep(60), os._exit(1))).start()",
    ],
    ids=["quick", "at exit", "thread"],
)
def test_stopped_again_and_again(before: str) -> None:
    process = start_waiting(before=before)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b"error: interrupted\n"


def test_an_interrupt_that_python_drops_shows_no_traceback() -> None:
    body = (
        "thing = type('Thing', (), {'__del__': lambda _: (print('go', flush=True), "
        "time.sleep(60))})(); del thing"
    )
    process = start_waiting(body)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0  # such work checks `Interrupts`
    assert stderr == b""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a signal of posix")
def test_a_signal_that_is_ignored_stays_so() -> None:
    process = start_waiting("time.sleep(1)", "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


@pytest.mark.parametrize("error", ["ImportError('numpy is broken')", "SystemError('odd')"])
def test_what_a_library_makes_of_an_interrupt_is_one(error: str) -> None:
    process = start_waiting(
        f"try: time.sleep(60)\n    except KeyboardInterrupt: raise {error} from None"
    )
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b"error: interrupted\n"


_LOADING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from cnnclf.__main__ import run
from cnnclf.signals import process_end
process_end.take_signals()
print("ready", flush=True)
sys.argv[1:] = ["doctor"]
run()
"""


@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.2, 0.4])
def test_stopped_while_the_command_line_is_loaded(delay_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _LOADING], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    assert stderr.endswith(b"error: interrupted\n")


@pytest.mark.parametrize("step", ["secure_streams", "use_own_temporary_directory", "main"])
def test_stopped_in_any_step_of_the_start(step: str) -> None:
    """An interrupt is one line and 130, wherever it comes between the import and the command."""
    code = f"""
import signal
from cnnclf.cli import main
def interrupt():
    raise KeyboardInterrupt
main.{step} = interrupt
from cnnclf.__main__ import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 130
    assert done.stderr == b"error: interrupted\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_consoles_that_cannot_show_everything(tmp_path: Path, encoding: str) -> None:
    name = os.fsdecode(b"r\xff-\xe2\x9c\x93")  # a byte that is not UTF-8, then a tick
    done = subprocess.run(
        [sys.executable, "-m", "cnnclf", "runs", "list", str(tmp_path / name)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "40"},
    )
    assert done.returncode == 4
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


def start_in(place: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """List the cache with `python -m cnnclf` in another directory."""
    return subprocess.run(
        [sys.executable, "-m", "cnnclf", "cache", "list"],
        cwd=place,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["random", "signal", "typer", "platform"])
def test_a_file_of_the_user_is_no_module_of_the_program(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("print('mine')")
    done = start_in(tmp_path, CNNCLF_CACHE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, f"0 entries with 0 bytes in {tmp_path}\n")
    assert "mine" not in done.stdout


_ELSEWHERE = """
import {module}
def fail(*_):
    raise {error}
{module}.{name} = fail
"""


@pytest.mark.skipif(os.name != "posix", reason="users of posix")
def test_a_user_without_a_home_has_the_cache_of_the_root_directory(tmp_path: Path) -> None:
    _patch_at_start(tmp_path, "pwd", "getpwuid", "KeyError(0)")
    done = start_in(tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert done.returncode == 0
    assert " in /.cache/cnnclf\n" in done.stderr


def test_a_machine_without_a_place_for_temporary_files_runs_what_needs_none(tmp_path: Path) -> None:
    error = "FileNotFoundError(2, 'No usable temporary directory found in')"
    _patch_at_start(tmp_path, "tempfile", "_get_default_tempdir", error)
    done = start_in(
        tmp_path,
        PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}",
        CNNCLF_CACHE_DIR=str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, f"0 entries with 0 bytes in {tmp_path}\n")


def _patch_at_start(place: Path, module: str, name: str, error: str) -> None:
    """Let a function fail in each interpreter with this directory in PYTHONPATH."""
    code = _ELSEWHERE.format(module=module, name=name, error=error)
    (place / "sitecustomize.py").write_text(code)


def test_a_current_directory_that_was_removed_is_no_bug(tmp_path: Path) -> None:
    code = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
    code += "os.execv(sys.executable, [sys.executable, '-m', 'cnnclf', 'version'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# Shell completion


def complete(*words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "cnnclf"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            **os.environ,
            "_CNNCLF_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["cnnclf", *words]),
            "COMP_CWORD": str(len(words)),
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_of_commands() -> None:
    assert complete("tr") == ["train"]
    assert complete("help", "tr") == ["train"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli: Cli, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: shell)
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    result = cli("--show-completion")
    assert result.code == 0
    assert "_CNNCLF_COMPLETE" in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_of_a_named_shell(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("_CNNCLF_COMPLETE", "")  # restored afterwards
    monkeypatch.delenv("_CNNCLF_COMPLETE")
    result = cli("--show-completion", shell)
    assert result.code == 0
    assert f"complete_{shell}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--show-completion", "tcsh"), "expected one of bash, zsh, fish"),
        (("--install-completion", "zsh"), "cnnclf --show-completion zsh prints"),
    ],
)
def test_completion_of_the_wrong_shell(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert words in result.stderr


def test_completion_of_options_and_sub_commands() -> None:
    assert "--sort" in complete("runs", "list", "--so")
    assert set(complete("runs", "")) >= {"list", "show", "compare"}


def test_completion_of_values(tmp_path: Path) -> None:
    assert "resnet50" in complete("finetune", "pets", "--backbone", "res")
    assert "deep" in complete("train", "pets", "--preset", "")
    assert "duplicates" in complete("import", "pets", "--drop", "dup")
    assert complete("weights", "pull", "mobilenetv2-0.3") == ["mobilenetv2-0.35"]


def test_completion_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/pets-001", "runs/pets-002", "tuned"):
        create_run(tmp_path / name)
    (tmp_path / "runs" / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete_run("") == ["tuned", "runs/pets-001", "runs/pets-002"]
    assert complete_run("runs/pets") == ["runs/pets-001", "runs/pets-002"]
    assert complete_run("t") == ["tuned"]
    assert complete_run("ru") == ["runs/pets-001", "runs/pets-002"]
    assert complete_run("nowhere/") == []
