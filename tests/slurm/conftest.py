"""Projects that run on the SLURM which `sinfo` finds: at least two nodes that share this folder's disk.

What the tests ask of the cluster: sbatch for this user; `scontrol` to drain a node; and, for the test that crashes one,
two commands that are given a node's name: SLURM_NODE_KILL and SLURM_NODE_START.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import Project, environment, tiny_project, values

MINUTES = 60
WAIT = 8 * MINUTES
NEEDED = (
    "these tests need a SLURM: sinfo, sbatch, squeue and scontrol on the PATH, a default partition with two nodes that "
    "are up, and a folder (TMPDIR) that all of them see"
)


@dataclass(frozen=True)
class Cluster:
    """The cluster's default partition, its nodes, and whether they count GPUs."""

    partition: str
    nodes: tuple[str, ...]
    has_gpus: bool


def ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, or the end of the session with a word about what is needed."""
    if missing := [name for name in ("sinfo", "sbatch", "squeue", "scontrol", "scancel") if not shutil.which(name)]:
        pytest.exit(f"{NEEDED}; {', '.join(missing)} not found", returncode=2)
    done = subprocess.run(["sinfo", "-hN", "-o", "%P|%N|%t|%G"], capture_output=True, text=True, timeout=60)
    rows = [line.split("|") for line in done.stdout.split()]
    default = [row for row in rows if row[0].endswith("*") and row[2].rstrip("*") in ("idle", "mix", "alloc")]
    if len(default) < 2:
        pytest.exit(f"{NEEDED}; sinfo says: {(done.stdout + done.stderr).strip() or 'nothing'}", returncode=2)
    nodes = tuple(row[1] for row in default)
    return Cluster(default[0][0].rstrip("*"), nodes, all("gpu" in row[3] for row in default))


@dataclass
class SlurmProject(Project):
    """A tiny project whose profile is the project's own, filled in for this cluster."""

    seen: dict[int, dict[str, str]] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake as a user starts it, in a session of its own; its output goes to `run.txt`."""
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/site", *arguments]
        with (self.folder / "run.txt").open("a") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return (self.folder / "run.txt").read_text()

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """What SLURM has told of this folder's jobs, oldest first, of one rule if it is named. It forgets old ones."""
        for line in ask("scontrol", "show", "job", "-do").splitlines():
            facts = dict(re.findall(r"(\w+(?::\w+)?)=(\S*)", line))
            if facts.get("WorkDir") == str(self.folder.resolve()):
                self.seen[int(facts["JobId"])] = facts
        found = [self.seen[job] for job in sorted(self.seen)]
        return [job for job in found if job.get("Comment", "").startswith(f"rule_{rule}")]

    def wait_for_job(self, rule: str, state: str = "RUNNING") -> dict[str, str]:
        """The first job of `rule` in `state`, as soon as there is one."""
        return until(lambda: next((job for job in self.jobs(rule) if job["JobState"] == state), None))

    def processes(self, program: str) -> list[int]:
        """Processes of a program of this folder on this machine."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                here = (folder / "cwd").resolve() == self.folder.resolve()
            except OSError:
                continue  # it has ended
            if here and len(words) > 1 and words[1].decode().endswith(program):
                found.append(int(folder.name))
        return found

    def set_profile(self, **changes: object) -> None:
        path = self.folder / "profiles/site/profile.yaml"
        profile = yaml.safe_load(path.read_text())
        for rule, resources in changes.pop("set_resources", {}).items():
            profile["set-resources"].setdefault(rule, {}).update(resources)
        path.write_text(yaml.safe_dump({**profile, **changes}))


def finish(*runs: tuple[SlurmProject, subprocess.Popen], timeout: int = 20 * MINUTES) -> None:
    """Wait for runs that must end well, and take note of their jobs meanwhile."""
    deadline = time.monotonic() + timeout
    try:
        while any(run.poll() is None for _, run in runs):
            assert time.monotonic() < deadline, [project.said()[-2000:] for project, _ in runs]
            for project, _ in runs:
                project.jobs()
            time.sleep(2)
        for project, run in runs:
            project.jobs()
            assert run.returncode == 0, project.said()[-5000:]
    finally:
        for project, run in runs:
            run.kill()
            cancel(project)


def until(look: Callable[[], object], seconds: int = WAIT) -> object:
    """What `look` returns once it is true. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.5)
    return found


def write_profile(folder: Path, cluster: Cluster) -> None:
    """profiles/slurm with this cluster's names and short waits, as a site would fill it in."""
    profile = yaml.safe_load((folder / "profiles/slurm/profile.yaml").read_text())
    account = os.environ.get("SLURM_TEST_ACCOUNT", "test")
    profile["default-resources"] |= {"slurm_account": account, "slurm_partition": cluster.partition, "mem_mb": 500}
    for resources in profile["set-resources"].values():
        resources["slurm_partition"] = cluster.partition
        if not cluster.has_gpus:
            del resources["gpu"]
    profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
    profile |= {"jobs": 6, "latency-wait": 10, "slurm-init-seconds-before-status-checks": 2}
    target = folder / "profiles/site/profile.yaml"
    target.parent.mkdir(exist_ok=True)
    target.write_text(yaml.safe_dump(profile))


@pytest.fixture(scope="session")
def reference(tmp_path_factory, cluster) -> Project:
    """The tiny project after an undisturbed run on this machine: one model in two shards, one data set."""
    project = tiny_project(tmp_path_factory.mktemp("reference"))
    config = project.config()
    config["run"] |= {"models": ["tiny-a"], "queries": ["bad"], "decodings": ["greedy"]}
    project.write_config(config)
    run = project.snakemake("ships", "asr")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-5000:]
    return project


@pytest.fixture
def project(reference, cluster, tmp_path) -> Iterator[SlurmProject]:
    """The same project, nothing run yet, with a profile for the cluster. Its jobs are cancelled in the end."""
    yield (own := fresh_copy(reference, cluster, tmp_path / "project"))
    cancel(own)


def cancel(project: SlurmProject) -> None:
    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
    for job in project.jobs():
        if job["JobState"] not in over:
            subprocess.run(["scancel", job["JobId"]], check=False)


@pytest.fixture
def prepared(reference, cluster, tmp_path) -> Iterator[SlurmProject]:
    """The project with its model prepared and everything after that still to do; see `project`."""
    yield (own := prepared_copy(reference, cluster, tmp_path / "project"))
    cancel(own)


def prepared_copy(reference: Project, cluster: Cluster, folder: Path) -> SlurmProject:
    """A copy with what came before the scores, and Snakemake's notes of it."""
    shutil.copytree(reference.folder, folder, ignore=shutil.ignore_patterns("profiles/site"))
    write_profile(folder, cluster)
    for path in folder.glob("results/scores/*/*"):
        if path.is_dir():
            shutil.rmtree(path)
    for name in ("generations", "judgements", "tables"):
        shutil.rmtree(folder / "results" / name)
    return SlurmProject(folder)


def fresh_copy(reference: Project, cluster: Cluster, folder: Path) -> SlurmProject:
    shutil.copytree(reference.folder, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    write_profile(folder, cluster)
    return SlurmProject(folder)


def assert_same_tables(project: Project, reference: Project) -> None:
    """Every table of scores, answers, verdicts and rates, value by value, and no half-written file."""
    assert_tables_are_among(project, reference)
    assert values(project).keys() == values(reference).keys()


def assert_tables_are_among(project: Project, reference: Project, n: int = 6) -> None:
    """At least `n` tables, each with the values of the reference's, and no half-written file."""
    expected, found = values(reference), values(project)
    assert len(found) >= n and found.keys() <= expected.keys()
    for name, frame in found.items():
        pd.testing.assert_frame_equal(frame, expected[name], obj=name)
    assert not list(project.folder.glob("results/**/*.partial"))
