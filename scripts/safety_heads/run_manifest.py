"""The record of a whole run as JSON: what it was made of, by what, on what, and the checksum of every file it left.

Paths are relative to the results folder, so that a copy elsewhere can be verified. Logs and benchmarks, which differ
from run to run, are left out; so are weights, whose checksums stand in the models' own manifests.
"""

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch

from safety_heads import sources, tables
from safety_heads.errors import UserError

NAME = "manifest.json"
LEFT_OUT = ("logs", "benchmarks")
WEIGHTS = (".safetensors", ".bin", ".gguf", ".whl")
CONTROLLER = ("snakemake", "snakemake-executor-plugin-slurm", "huggingface_hub", "matplotlib")


def record(results: str | Path, config: Mapping) -> dict:
    """The manifest of the run whose files are in `results` and whose configuration is `config`."""
    results = Path(results)
    made_by = {key: value for key, value in tables.provenance().items() if key != "parameters"}
    installed = {name: metadata.version(name) for name in CONTROLLER if _is_installed(name)}
    return {
        **made_by,
        "libraries": {**made_by["libraries"], **installed},
        "hardware": hardware(),
        "seed": config["seed"],
        "config": dict(config),
        "sources": {path.stem: _read(path)["checksums"] for path in sorted(results.glob("sources/*.json"))},
        "weights": {
            path.parent.name: _read(path)["weights_sha256"] for path in sorted(results.glob("models/*/model.json"))
        },
        "files": {name: sources.file_sha256(results / name) for name in result_files(results)},
    }


def result_files(results: Path) -> list[str]:
    """The files of a run that must stay as they are, sorted, relative to `results`."""
    found = (path.relative_to(results) for path in results.rglob("*") if path.is_file())
    kept = [
        path.as_posix()
        for path in found
        if path.parts[0] not in LEFT_OUT and path.suffix not in WEIGHTS and not path.name.startswith(".")
    ]
    return sorted(set(kept) - {NAME, "report.zip"})


def hardware() -> dict:
    """The machine that wrote the manifest; jobs on a cluster may have had others, which their logs name."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "n_processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def read_manifest(path: str | Path) -> dict:
    """A manifest that `record` made. Raises UserError for a file that is none."""
    manifest = _read(Path(path))
    if missing := [key for key in ("files", "weights", "config") if key not in manifest]:
        raise UserError(f"{path}: the manifest lacks {missing[0]!r}; run `snakemake` to make it anew")
    return manifest


def changes(manifest: Mapping, results: str | Path) -> list[str]:
    """In words: every file that is missing or no longer has its checksum."""
    found = []
    for name, checksum in manifest["files"].items():
        path = Path(results) / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif sources.file_sha256(path) != checksum:
            found.append(f"{name} has changed")
    return found


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run `snakemake` to make it anew") from error
