"""A copy of the project in which two tiny random models and neutral queries stand in for the real ones."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

import labelled_rows
import tiny_models

ROOT = Path(__file__).parents[2]
SECRET = "hf_planted" + "0123456789abcdef"


@dataclass
class Project:
    """A checkout in which snakemake can be run."""

    folder: Path

    def snakemake(self, *arguments: str, cores: int | None = 2, timeout: int = 900) -> subprocess.CompletedProcess:
        """Run snakemake in the checkout with the interpreter of the tests; its output is kept, not printed."""
        command = [sys.executable, "-m", "snakemake", *arguments, *(["--cores", str(cores)] if cores else [])]
        return subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=timeout
        )

    def dry_jobs(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a dry run announces. After a run, only --forceall plans what is already there."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        if "Job stats:" not in lines:
            return {}
        table = lines[lines.index("Job stats:") + 3 :]
        rows = [line.split() for line in table[: table.index("")]]
        return {rule: int(count) for rule, count in rows if rule not in ("total", "all")}

    def config(self) -> dict:
        return yaml.safe_load((self.folder / "config.yaml").read_text())

    def write_config(self, config: dict) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def environment() -> dict[str, str]:
    """The caller's environment with this interpreter's programs first, offline, and a secret that must not leak."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "HF_TOKEN": SECRET}


def checkout(folder: Path) -> Project:
    """The project's files as git sees them, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return Project(folder)


def tiny_config(config: dict) -> dict:
    """The project's configuration with a run that takes seconds: tiny models, queries from files, few of everything."""
    config["sources"] |= {name: {"kind": "path", "path": f"own/{name}.csv"} for name in ("bad", "good")}
    config["queries"] |= {
        name: {"source": name, "column": "query", "rows": 40, "harmful": name != "good"} for name in ("bad", "good")
    }
    config["sources"]["people"] = {"kind": "path", "path": "own/people.csv"}
    columns = {"query": "query", "response": "response", "label": "complied", "category": "category"}
    config["labelled"]["people"] = {"source": "people", **columns, "complied": ["True"], "refused": ["False"]}
    config["judges"]["fitted"] = {"kind": "fitted", "labelled": "people"}
    config["models"] |= {
        "tiny-a": {"path": "own/tiny-a", "head_shards": 2, "base": "tiny-b"},
        "tiny-b": {"path": "own/tiny-b", "system_prompt": "be brief"},
    }
    kept = ("sure", "base-attention", "base-urial", "sign", "benign")
    config["experiments"] = {name: how for name, how in config["experiments"].items() if name in kept}
    config["decodings"] = {"greedy": {"max_new_tokens": 6, "top_k": 1}, "top5": {"max_new_tokens": 5, "top_k": 5}}
    config["run"] |= {
        "models": ["tiny-a", "tiny-b"],
        "queries": ["bad", "good"],
        "formats": ["chat"],
        "judges": ["keyword-paper", "fitted"],
        "labelled": ["people"],
        "side": "all",
        "score_queries": 4,
        "generate_queries": 6,
        "group_size": 2,
        "candidates": None,
        "screen": "none",
        "random_draws": 3,
    }
    return config


def values(project: Project) -> dict[str, pd.DataFrame]:
    """Every table of scores, answers and rates; provenance is in the metadata and not compared."""
    folder = project.folder / "results"
    found = [
        path
        for name in ("scores", "generations", "judgements", "tables")
        for path in folder.glob(f"{name}/**/*.parquet")
    ]
    return {str(path.relative_to(folder)): pd.read_parquet(path) for path in sorted(found)}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Project:
    """The tiny project, nothing run yet. Shared by the tests: those that change it say so."""
    return tiny_project(tmp_path_factory.mktemp("tiny"))


def tiny_project(folder: Path) -> Project:
    """A checkout in `folder` with the tiny models, queries and configuration."""
    project = checkout(folder)
    for seed, name in enumerate(("tiny-a", "tiny-b")):
        tiny_models.save("llama-gqa", project.folder / "own" / name, seed=seed)
    for name in ("bad", "good"):
        kind = "benign" if name == "good" else "harmful"
        texts = [f"{kind} query {number} of {name}" for number in range(40)]
        pd.DataFrame({"query": texts}).to_csv(project.folder / "own" / f"{name}.csv", index=False)
    labelled_rows.labelled().to_csv(project.folder / "own" / "people.csv", index=False)
    project.write_config(tiny_config(project.config()))
    return project
