"""The tiny chain through SLURM: the same tables as on one machine, on two nodes, with what was asked for."""

import time

import pytest

from tests.slurm.conftest import SlurmProject, assert_same_tables, finish, fresh_copy
from tests.workflow.conftest import SECRET

pytestmark = pytest.mark.short


def test_two_folders_at_once_give_the_tables_of_one_machine(reference, cluster, tmp_path):
    """And the scheduler was asked for memory, time and GPUs, by count and by gres, as the rules need them."""
    projects = [fresh_copy(reference, cluster, tmp_path / name) for name in ("one", "two")]
    if cluster.has_gpus:
        projects[1].set_profile(set_resources={"score_ships": {"gpu": 0, "gres": "gpu:1"}})
    runs = []
    for project in projects:
        runs.append(project.start("ships", "asr"))
        time.sleep(1)  # so that their starts do not fall into the same second
    finish(*zip(projects, runs, strict=True))
    for project in projects:
        assert_same_tables(project, reference)
        assert {job["JobState"] for job in project.jobs()} == {"COMPLETED"}
        files = [path for name in ("results", ".snakemake") for path in project.folder.glob(f"{name}/**/*")]
        assert not [path for path in files if path.is_file() and SECRET.encode() in path.read_bytes()]
        assert {job["JobName"].split("_")[0] for job in project.jobs()} == {"safety-heads"}
    assert {job["NodeList"] for project in projects for job in project.jobs()} >= set(cluster.nodes[:2])
    check_requests(projects[0], projects[1], cluster.has_gpus)


def check_requests(by_count: SlurmProject, by_gres: SlurmProject, has_gpus: bool) -> None:
    scores, judge = by_count.jobs("score_ships"), by_count.jobs("judge_responses")[0]
    assert len(scores) == 2
    for job in scores:
        assert int(job["MinMemoryNode"].rstrip("M").split(".")[0]) >= 1000 and job["TimeLimit"] == "00:15:00"
        assert job["JOB_GRES"].startswith("gpu:") == has_gpus
        assert not has_gpus or job["TresPerJob"] == "gres:gpu:1"
    assert judge["JOB_GRES"] == "(null)" and judge["MinMemoryNode"] == "1700M" and judge["TimeLimit"] == "00:15:00"
    if has_gpus:
        assert {job["TresPerNode"] for job in by_gres.jobs("score_ships")} == {"gres:gpu:1"}
        assert all(job["JOB_GRES"].startswith("gpu:") for job in by_gres.jobs("score_ships"))
