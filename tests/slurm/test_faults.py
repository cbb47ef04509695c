"""What may go wrong on a cluster: after each fault the run ends with the tables of an undisturbed one.

The model is prepared already; left to do are the two shards of its scores and their table (target `ships`).
"""

import os
import shutil
import signal
import subprocess
import time
from datetime import datetime

import pytest

from tests.slurm.conftest import (
    WAIT,
    ask,
    assert_tables_are_among,
    finish,
    prepared_copy,
    until,
)
from tests.workflow.conftest import environment

N_TABLES = 6  # openings, two shards of Ships and of generalised Ships, and the table of all
RUNNING = ("RUNNING",)


def both_running(project) -> list[dict[str, str]]:
    """The two scoring jobs once both run a Python program of ours, if that can be seen from here."""
    until(lambda: len(running(project)) == 2)
    for _ in range(240):  # in vain where the nodes are other machines
        if len(project.processes("score_ships.py")) == 2:
            break
        time.sleep(0.5)
    return running(project)


def running(project) -> list[dict[str, str]]:
    return [job for job in project.jobs("score_ships") if job["JobState"] in RUNNING]


def test_too_little_memory_or_time_is_retried_with_more(reference, cluster, tmp_path):
    """The first attempts get less memory than Python takes, or a minute for a job of two: twice in the same hour."""
    hungry, slow = (prepared_copy(reference, cluster, tmp_path / name) for name in ("hungry", "slow"))
    hungry.set_profile(set_resources={"score_ships": {"mem_mb": "400 if attempt == 1 else 2000"}})
    slow.set_profile(
        precommand="export HF_HUB_OFFLINE=1; sleep 110",
        set_resources={"score_ships": {"runtime": "1 if attempt == 1 else 20"}},
    )
    runs = [project.start("ships") for project in (hungry, slow)]
    finish(*zip((hungry, slow), runs, strict=True))
    cases = ((hungry, {"FAILED", "OUT_OF_MEMORY"}, "MinMemoryNode"), (slow, {"TIMEOUT"}, "TimeLimit"))
    for project, state, asked in cases:
        assert_tables_are_among(project, reference, N_TABLES)
        jobs = project.jobs("score_ships")
        first, second = jobs[:2], jobs[2:]
        assert {job["JobState"] for job in first} <= state and len(first) == len(second) == 2
        assert {job["JobState"] for job in second} == {"COMPLETED"}
        assert not {job[asked] for job in first} & {job[asked] for job in second}


def test_a_job_killed_with_kill_9_while_its_node_is_drained_comes_back_on_another(prepared, reference, cluster):
    """The drained node still ends the job that it has, and gets no other."""
    run = prepared.start("ships")
    jobs = both_running(prepared)
    drained = jobs[0]["NodeList"]
    ask("scontrol", "update", f"nodename={drained}", "state=drain", "reason=test of safety-heads")
    try:
        victims = prepared.processes("score_ships.py")
        if victims:
            os.kill(victims[0], signal.SIGKILL)
        else:  # the nodes are other machines
            ask("scancel", "--signal=KILL", jobs[0]["JobId"])
        finish((prepared, run))
    finally:
        ask("scontrol", "update", f"nodename={drained}", "state=resume")
    states = sorted(job["JobState"] for job in prepared.jobs("score_ships"))
    assert states == ["COMPLETED", "COMPLETED", "FAILED"]
    assert prepared.jobs("score_ships")[-1]["NodeList"] != drained
    assert_tables_are_among(prepared, reference, N_TABLES)


def test_a_node_that_crashes_with_its_jobs_is_left_out(prepared, reference, cluster):
    """slurmd and everything below it killed in the middle of a job; NODE_FAIL once the node is missed."""
    kill, start = (os.environ.get(f"SLURM_NODE_{what}") for what in ("KILL", "START"))
    if not kill or not start:
        pytest.skip("name the commands that crash and start a node: SLURM_NODE_KILL and SLURM_NODE_START")
    run = prepared.start("ships")
    lost = both_running(prepared)[0]["NodeList"]
    ask(*kill.split(), lost)
    try:
        finish((prepared, run))
    finally:
        ask(*start.split(), lost)
    jobs = prepared.jobs("score_ships")
    failed = [job for job in jobs if job["JobState"] == "NODE_FAIL"]
    assert failed and {job["NodeList"] for job in failed} == {lost}
    assert jobs[-1]["JobState"] == "COMPLETED" and jobs[-1]["NodeList"] != lost
    assert_tables_are_among(prepared, reference, N_TABLES)


@pytest.mark.short
def test_a_killed_controller_resumes_with_one_command(prepared, reference, cluster, tmp_path):
    """Finished shards are kept, the orphans end before their successors start, and nobody else's job is touched."""
    prepared.set_profile(jobs=1)  # so that one shard is finished while the other is still to come
    other = tmp_path / "other"
    other.mkdir()
    foreign = ["sbatch", "--parsable", "--job-name=safety-heads_foreign", f"--chdir={other}", "--mem=100", "--time=30"]
    stranger = ask(*foreign, "--output=/dev/null", "--wrap=sleep 1500").strip()
    run = prepared.start("ships")
    until(lambda: "1 of 3 steps" in prepared.said() or "1 of 4 steps" in prepared.said())
    kept = {path: path.stat().st_mtime_ns for path in prepared.folder.glob("results/scores/*/*/*/*.parquet")}
    orphan = prepared.wait_for_job("score_ships")
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL and len(kept) == 2
    try:
        again = subprocess.run(
            ["profiles/slurm/resume.sh", "profiles/site", "ships"],
            cwd=prepared.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=WAIT * 2,
        )
        assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-4000:]
        assert f"cancelling 1 job(s) of {prepared.folder.resolve()}: {orphan['JobId']}" in again.stdout
        assert ask("squeue", "-h", "-j", stranger, "-o", "%t").strip() in ("R", "PD")
    finally:
        subprocess.run(["scancel", stranger], check=False)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    first, cancelled, last = prepared.jobs("score_ships")
    assert [job["JobState"] for job in (first, cancelled, last)] == ["COMPLETED", "CANCELLED", "COMPLETED"]
    assert cancelled["Comment"] == last["Comment"] != first["Comment"]
    assert datetime.fromisoformat(cancelled["EndTime"]) <= datetime.fromisoformat(last["StartTime"])
    assert_tables_are_among(prepared, reference, N_TABLES)


def test_a_controller_that_still_runs_is_not_resumed(prepared):
    run = prepared.start("ships")
    try:
        until(lambda: prepared.jobs("score_ships"))
        refused = subprocess.run(
            ["profiles/slurm/resume.sh", "profiles/site"], cwd=prepared.folder, capture_output=True, text=True
        )
        assert refused.returncode == 1 and f"still runs in this folder (process {run.pid})" in refused.stderr
        assert {job["JobState"] for job in prepared.jobs()} <= {"PENDING", "RUNNING", "CONFIGURING"}
    finally:
        os.killpg(run.pid, signal.SIGTERM)  # as Ctrl-C, to which a background run may be deaf: its jobs are cancelled
        run.wait(120)


def test_a_full_disk_stops_the_run_in_words_and_freeing_it_lets_it_go_on(prepared, reference):
    """A small disk for the results, filled while the scores are computed. On this machine: nodes see no new mounts."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    results, aside = prepared.folder / "results", prepared.folder / "aside"
    results.rename(aside)
    results.mkdir()
    ask("mount", "-t", "tmpfs", "-o", "size=1100m", "tmpfs", str(results))
    try:
        shutil.copytree(aside, results, dirs_exist_ok=True, symlinks=True)
        command = ["snakemake", "--cores", "1", "ships"]
        how = {"cwd": prepared.folder, "env": environment(), "text": True}
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
        until(lambda: prepared.processes("score_ships.py"))
        time.sleep(0.5)  # its log is open by now
        filler = results / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], stderr=subprocess.DEVNULL, check=False)
        said = run.communicate(timeout=WAIT)[0]
        assert run.returncode != 0 and "No space left on device" in said, said[-3000:]
        assert not list(results.glob("**/ships-*.parquet")) and not list(results.glob("**/*.partial"))
        blocked = subprocess.run(command, capture_output=True, **how)
        assert blocked.returncode != 0 and "make room" in blocked.stdout + blocked.stderr
        filler.unlink()
        again = subprocess.run(command, capture_output=True, **how)
        assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-3000:]
        assert_tables_are_among(prepared, reference, N_TABLES)
    finally:
        ask("umount", str(results))
