"""`cnnclf doctor`: check this machine and suggest fixes."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnclf import hardware
from cnnclf.cli import options
from cnnclf.cli.output import out
from cnnclf.data.cache import cache_dir
from cnnclf.errors import CnnclfError, DeviceError, ExitCode, MissingPackageError
from cnnclf.files import format_bytes, free_bytes
from cnnclf.packages import install_command, read_versions
from cnnclf.runs.run_names import ENGINE_CACHE

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo


def doctor_command(
    *,
    verbose: options.Verbose = False,
) -> int:
    """Check this machine and suggest fixes.

    Shows versions, processor, memory, GPUs, engines and cache. If a GPU was found but cannot be
    used, the output says why and what to do, and the exit code is 6.
    """
    out.note("checking this machine")  # before anything that takes long
    gpus = hardware.find_nvidia_gpus()
    runtime, problem = _try_runtime(gpus, verbose=verbose)
    facts = {
        "versions": _describe_versions(runtime),
        "cpu": _describe_cpu(),
        "memory": vars(hardware.read_memory()),
        "gpus": [vars(gpu) for gpu in gpus],
        "backend": runtime.backend if runtime is not None else None,
        "device": runtime.summary if runtime is not None else None,
        "devices": runtime.devices if runtime is not None else [],
        "precision": runtime.precision if runtime is not None else None,
        "precision_reason": runtime.precision_reason if runtime is not None else None,
        "engines": _describe_engines(),
        "cache": _describe_cache(),
        "problem": None if problem is None else {"message": problem.message, "hint": problem.hint},
    }
    out.json(facts)
    _show(facts)
    if problem is None:
        out.line()
        out.line("no problems found")
        return ExitCode.OK
    out.error(problem.message)
    out.hint(problem.hint)
    return problem.exit_code


def _try_runtime(
    gpus: tuple[hardware.NvidiaGpu, ...], *, verbose: bool
) -> tuple["RuntimeInfo | None", CnnclfError | None]:
    """Set up the runtime as `train` does; return it, and the problem if there is one."""
    from cnnclf.runtime import setup_runtime, tensorflow_gpu_problem

    try:
        runtime = setup_runtime(device="auto", verbose=verbose, progress=out.progress())
    except (DeviceError, MissingPackageError) as error:
        return None, error
    if runtime.kind == "gpu" or not gpus:
        return runtime, None
    if runtime.backend != "tensorflow":
        return runtime, DeviceError(
            f"{gpus[0].name} was found, but {runtime.backend} cannot use it",
            f"install the CUDA build of {runtime.backend}, or unset KERAS_BACKEND",
        )
    why = tensorflow_gpu_problem()
    message = f"{gpus[0].name} was found, but it cannot be used: {why.reason}"
    return runtime, DeviceError(message, why.hint)


def _describe_versions(runtime: "RuntimeInfo | None") -> dict[str, str]:
    from cnnclf.runtime import RUNTIME_PACKAGES

    return dict(read_versions(RUNTIME_PACKAGES) if runtime is None else runtime.versions)


def _describe_cpu() -> dict[str, Any]:
    return {
        "name": hardware.read_cpu_name(),
        "usable_cores": hardware.count_usable_cpus(),
        "cores": os.cpu_count(),
        "features": list(hardware.read_cpu_features()),
    }


def _describe_engines() -> dict[str, Any]:
    from cnnclf.inference.engines.choosing import choose_engines
    from cnnclf.inference.engines.engine_table import ENGINES, find_missing, read_engine_version

    auto = choose_engines(device="auto")[0]
    engines: dict[str, Any] = {"auto": {"engine": auto.row.name, "precision": auto.precision}}
    for row in ENGINES:
        missing = find_missing(row)
        engines[row.name] = {
            "title": row.title,
            "version": None if missing else read_engine_version(row),
            "missing": list(missing),
            "cannot_convert_without": list(find_missing(row, converting=True)),
            "extra": row.extra,
            "precisions": list(row.precisions),
        }
    return engines


def _describe_cache() -> dict[str, Any]:
    directory = cache_dir()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return {
        "directory": str(directory),
        "size_bytes": _measure(directory),
        "engines_bytes": _measure(directory / ENGINE_CACHE),
        "free_bytes": free_bytes(directory),
        "writable": os.access(existing, os.W_OK),
    }


def _measure(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # another process may have removed it
                total += Path(folder, name).lstat().st_size
    return total


def _show(facts: dict[str, Any]) -> None:
    cpu, memory, cache = facts["cpu"], facts["memory"], facts["cache"]
    out.pairs("Versions", facts["versions"])
    features = ", ".join(cpu["features"]) or "no relevant ones"
    known = {name: value for name, value in memory.items() if value is not None}
    out.pairs(
        "Machine",
        {
            "processor": cpu["name"],
            "cores": f"{cpu['usable_cores']} usable of {cpu['cores']}",
            "instruction sets": features,
            "memory": ", ".join(
                f"{format_bytes(value)} {name.removesuffix('_bytes')}"
                for name, value in known.items()
            ),
            "GPUs": "; ".join(_gpu_words(gpu) for gpu in facts["gpus"]) or "no NVIDIA GPU",
        },
    )
    out.pairs(
        "Runtime",
        {
            "backend": facts["backend"],
            "device": facts["device"],
            "precision": facts["precision"]
            and f"{facts['precision']} ({facts['precision_reason']})",
        },
    )
    out.pairs("Engines", {name: _engine_words(engine) for name, engine in facts["engines"].items()})
    size, engines = format_bytes(cache["size_bytes"]), cache["engines_bytes"]
    if engines:
        size += f", including {format_bytes(engines)} of models converted for engines"
    writable = "" if cache["writable"] else " (not writable)"
    out.pairs(
        "Cache",
        {
            "directory": cache["directory"] + writable,
            "size": size,
            "free space": format_bytes(cache["free_bytes"]),
        },
    )


def _engine_words(engine: dict[str, Any]) -> str:
    if "engine" in engine:
        return " in ".join(filter(None, [engine["engine"], engine["precision"]]))
    install = install_command(f"cnnclf[{engine['extra']}]")
    if engine["missing"]:
        return f"not installed: {install}"
    words = f"{engine['version']} ({', '.join(engine['precisions'])})"
    if engine["cannot_convert_without"]:
        missing = ", ".join(engine["cannot_convert_without"])
        return f"{words}; cannot convert models without {missing}: {install}"
    return words


def _gpu_words(gpu: dict[str, Any]) -> str:
    parts = [gpu["name"]]
    if gpu["memory_bytes"]:
        parts.append(format_bytes(gpu["memory_bytes"]))
    if gpu["driver"]:
        parts.append(f"driver {gpu['driver']}")
    return ", ".join(parts)
