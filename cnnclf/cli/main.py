"""Runs a command and turns every outcome into an exit code and at most two lines on stderr."""

import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer

from cnnclf.cli.app import build_root
from cnnclf.cli.option_hints import find_run, suggest_for_extra, suggest_option, suggest_use
from cnnclf.cli.output import out
from cnnclf.cli.streams import secure_streams
from cnnclf.cli.typer_errors import ClickException, NoArgsIsHelpError, NoSuchOption, describe_number
from cnnclf.errors import (
    CnnclfError,
    ExitCode,
    MissingPackageError,
    UsageError,
    is_out_of_memory,
    one_line,
    with_causes,
)
from cnnclf.full_disks import TEMPORARY_HINT, is_disk_full, is_temporary
from cnnclf.names import name_some
from cnnclf.packages import suggest_install
from cnnclf.signals import process_end
from cnnclf.workspaces import use_own_temporary_directory

PROGRAM = "cnnclf"
_COMPLETE = f"_{PROGRAM.upper()}_COMPLETE"
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def run() -> None:
    """Run the console script: the arguments of the process, then exit."""
    process_end.take_signals()
    try:
        secure_streams()
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # libraries warn developers; users read our own lines
        if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path.expanduser raises an error then
            os.environ["HOME"] = os.sep  # as Docker does for a user without a home
        use_own_temporary_directory()
        code = main()
    except KeyboardInterrupt as error:  # before the work, or between its end and its report
        code = _settled(_report(error))
    process_end.leave(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments without the program's name; None takes those of the process.

    Returns:
        An `ExitCode`, also for errors: they are written to stderr as `error:` and `hint:`.
    """
    arguments, show_traceback = _take_traceback(sys.argv[1:] if argv is None else argv)
    out.reset()
    try:
        return _settled(_invoke(arguments))
    except typer.Exit as stop:
        return _settled(stop.exit_code)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):
            return _broken_pipe()
        return _settled(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
    except BrokenPipeError:
        return _broken_pipe()
    except NoArgsIsHelpError as error:
        out.data(error.message + "\n")
        return _settled(ExitCode.USAGE)
    except BaseException as error:  # noqa: BLE001 - the outermost boundary: every outcome gets a code
        process_end.report()
        if show_traceback:
            out.trace(traceback.format_exception(error))
        return _settled(_report(error))


def _invoke(arguments: list[str]) -> int:
    root = build_root()
    arguments = _take_shell(arguments)
    if _COMPLETE in os.environ:
        root.main(args=arguments, prog_name=PROGRAM)  # a request of the shell; ends in SystemExit
    with root.make_context(PROGRAM, arguments) as context:
        result = root.invoke(context)
    return result if isinstance(result, int) else ExitCode.OK


def _take_shell(arguments: list[str]) -> list[str]:
    """Turn `--show-completion SHELL` into a request of that shell; Typer would ignore the name.

    Raises:
        UsageError: There is no completion for the shell, or it is to be installed for another one.
    """
    option, shell = (*arguments, "", "")[:2]
    if not shell or option not in ("--show-completion", "--install-completion"):
        return arguments
    if option == "--install-completion":
        raise UsageError(
            f"{option} {shell}: it installs for the shell that it runs in, without a name",
            f"{PROGRAM} --show-completion {shell} prints what that shell has to run",
        )
    if shell not in _SHELLS:
        raise UsageError(f"{option} {shell}: expected one of {', '.join(_SHELLS)}")
    os.environ[_COMPLETE] = f"source_{shell}"
    return []


def _take_traceback(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Accept --traceback anywhere, since it is added at the end of a command that just failed."""
    arguments = list(argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    wanted = "--traceback" in arguments[:end]
    kept = [each for each in arguments[:end] if each != "--traceback"] + arguments[end:]
    return kept, wanted or os.environ.get("CNNCLF_TRACEBACK", "0") not in ("", "0")


def _settled(code: int) -> int:
    try:  # a closed pipe or a full disk must be met here, not at the interpreter's end
        sys.stdout.flush()
    except BrokenPipeError:
        return _broken_pipe()
    except OSError as error:
        _drop_stdout()
        return code or _report(error)  # an error that came before was reported
    return code


def _broken_pipe() -> int:
    _drop_stdout()
    return ExitCode.BROKEN_PIPE


def _drop_stdout() -> None:
    """Send what is left nowhere: Python flushes stdout once more, with a message, when it ends."""
    with suppress(OSError, ValueError):  # ValueError: a stand-in stream without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: BaseException) -> int:
    """Say what went wrong and choose the exit code."""
    code, message, hint = _describe(error)
    if isinstance(error, CnnclfError | KeyboardInterrupt):  # a command may add how to continue
        hint = "; ".join(filter(None, [hint, *getattr(error, "__notes__", ())]))
    if message:
        out.error(message)
    if hint:
        out.hint(hint)
    return code


def _describe(error: BaseException) -> tuple[ExitCode, str, str]:
    """Return the exit code, the message and the hint of an error; first match wins."""
    if isinstance(error, KeyboardInterrupt | typer.Abort) or _follows_interrupt(error):
        return ExitCode.INTERRUPTED, "interrupted", ""
    if isinstance(error, CnnclfError):
        return error.exit_code, error.message, error.hint
    if isinstance(error, ClickException):
        return ExitCode.USAGE, *_describe_usage(error)
    if not isinstance(error, OSError) and is_disk_full(error):
        code, words, hint = _OS_ERRORS[errno.ENOSPC]
        return code, f"{words}: {one_line(error)}", hint
    if is_out_of_memory(error):
        return (
            ExitCode.DEVICE,
            f"not enough memory: {one_line(error)}",
            "try a smaller --batch-size, a smaller --image-size or --cache disk",
        )
    if isinstance(error, OSError) and (known := _describe_os_error(error)):
        return known
    if isinstance(error, ImportError) and not (error.name or "").startswith("cnnclf"):
        return (
            ExitCode.MISSING_PACKAGE,
            f"a Python package could not be imported: {one_line(error)}",
            f"install it: {suggest_install(error.name)}" if error.name else "run cnnclf doctor",
        )
    return _describe_unexpected(error)


def _describe_unexpected(error: BaseException) -> tuple[ExitCode, str, str]:
    if isinstance(error, Warning):  # only a filter of the user raises them
        return (
            ExitCode.USAGE,
            f"a warning of Python was made an error: {type(error).__name__}: {one_line(error)}",
            "unset PYTHONWARNINGS, or set it to default: libraries warn of what does no harm",
        )
    return (
        ExitCode.BUG,
        f"unexpected {type(error).__name__}: {one_line(error)}{_place(error)}",
        "this is a bug in cnnclf; add --traceback (or set CNNCLF_TRACEBACK=1) to see where",
    )


def _describe_os_error(error: OSError) -> tuple[ExitCode, str, str] | None:
    if is_temporary(error):
        return ExitCode.DEVICE, str(error.strerror), TEMPORARY_HINT
    if error.errno not in _OS_ERRORS:
        return None
    code, words, hint = _OS_ERRORS[error.errno]
    return code, _with_path(words, error), hint


_OS_ERRORS: dict[int | None, tuple[ExitCode, str, str]] = {
    errno.ENOSPC: (ExitCode.DEVICE, "disk full", "free some space, or write to another disk"),
    errno.EDQUOT: (ExitCode.DEVICE, "disk quota exceeded", "free some space, or use another disk"),
    errno.EFBIG: (ExitCode.DEVICE, "the file size limit was reached", "raise it with ulimit -f"),
    errno.EBADF: (ExitCode.DEVICE, "cannot be written", "redirect it: > FILE or > /dev/null"),
    errno.ENOMEM: (ExitCode.DEVICE, "not enough memory", "close other programs"),
    errno.EMFILE: (ExitCode.DEVICE, "too many open files", "raise the limit: ulimit -n 4096"),
    errno.EACCES: (ExitCode.DATA, "permission denied", "check the owner and mode of the file"),
    errno.EPERM: (ExitCode.DATA, "operation not permitted", "check the owner and mode of the file"),
    errno.EROFS: (ExitCode.DATA, "the file system is read-only", "write to another directory"),
}


def _follows_interrupt(error: BaseException) -> bool:
    """Tell what a library made of Ctrl-C: an import that failed, or an error nobody foresaw."""
    if isinstance(error, OSError | MemoryError | ClickException) or (
        isinstance(error, CnnclfError) and not isinstance(error, MissingPackageError)
    ):
        return False
    if process_end.is_noted:
        return True
    return any(isinstance(cause, KeyboardInterrupt) for cause in with_causes(error))


def _describe_usage(error: ClickException) -> tuple[str, str]:
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    hint = f"{path} --help lists the options"
    if isinstance(error, NoSuchOption):
        near = suggest_option(
            error.option_name,
            _long_options(context),
            path=path,
            arguments=_arguments(context),
        )
        return f"{path}: no such option: {error.option_name}", f"{near} {hint}" if near else hint
    if (number := describe_number(error)) is not None:
        return number, hint
    text = one_line(error.format_message()).rstrip(".")
    extra = _EXTRA.match(error.format_message())  # all of them: a line may be cut
    if extra:
        given = [str(value) for value in _argument_values(context) if value is not None]
        typed, more = [*given, *extra[1].split()], extra[1].split()
        if "--resume" in _long_options(context) and (run := find_run(typed)):
            return f"{path}: {run} is a run, not a dataset", suggest_use(run)
        text = f"got unexpected extra argument{'s' * (len(more) > 1)}: {name_some(more)}"
        near = suggest_for_extra(more, _long_options(context), path=path, given=given)
        hint = f"{near}{hint}"
    return (f"{path}: {text[:1].lower()}{text[1:]}" if text else ""), (hint if text else "")


_EXTRA = re.compile(r"Got unexpected extra argument\S* \((.*)\)")


def _long_options(context: Any) -> list[str]:
    if context is None:
        return []
    names = (
        name
        for each in context.command.get_params(context)
        for name in (*each.opts, *each.secondary_opts)
    )
    return [name for name in names if name.startswith("--")]


def _arguments(context: Any) -> list[str]:
    params = [] if context is None else context.command.get_params(context)
    return [each.metavar for each in params if each.param_type_name == "argument" and each.metavar]


def _argument_values(context: Any) -> list[Any]:
    params = [] if context is None else context.command.get_params(context)
    names = [each.name for each in params if each.param_type_name == "argument"]
    return [context.params.get(name) for name in names]


def _with_path(words: str, error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{words}: {' -> '.join(names)}" if names else f"{words} ({one_line(error)})"


def _place(error: BaseException) -> str:
    """Name the last line of ours that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}cnnclf{os.sep}" in frame.filename]
    if not ours:
        return ""
    path = ours[-1].filename.rpartition(f"{os.sep}cnnclf{os.sep}")[2]
    return f" (cnnclf/{path}:{ours[-1].lineno})"
