"""The whole chain on tiny random models: what comes out, what reruns, and what a kill costs."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import pandas as pd
import pytest

from safety_heads import tables
from tests.workflow.conftest import SECRET, Project, environment, values

TABLES = {
    "ships.parquet": tables.SHIPS,
    "subspace.parquet": tables.SUBSPACE,
    "asr.parquet": tables.ASR,
    "interventions.parquet": tables.INTERVENTIONS,
    "sahara.parquet": tables.SAHARA,
}
SHARDS = "results/scores/*/*/*/*.parquet"


@pytest.fixture(scope="module")
def done(tiny) -> Project:
    """The tiny project after its run."""
    run = tiny.snakemake()
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    assert "# Summary" in run.stdout + run.stderr
    return tiny


def test_every_table_fits_its_schema_and_tells_what_made_it(done):
    for name, table in TABLES.items():
        paths = list((done.folder / "results").glob(f"**/{name}"))
        assert len(paths) == 2, name  # one per model
        for path in paths:
            assert len(tables.read_table(table, path)) > 0
            stamp = tables.read_provenance(path)
            assert {"schema_version", "code_version", "libraries", "parameters"} <= set(stamp)
    path = next((done.folder / "results").glob("scores/tiny-a/**/ships-1.parquet"))
    stamp = tables.read_provenance(path)["parameters"]
    assert stamp["self_check"]["sweep_is_exact"] and not stamp["screened"]
    assert stamp["dtype"] == "float32" and stamp["seed"] == 0 and len(stamp["model_sha256"]) == 64
    assert list(stamp["queries_sha256"]) == ["bad.parquet"] or list(stamp["queries_sha256"]) == ["good.parquet"]


def test_every_head_is_scored_and_every_answer_judged(done):
    ships = tables.read_table(tables.SHIPS, done.folder / "results/tables/tiny-a/ships.parquet")
    assert len(ships) == 2 * 2 * 4 * 12  # data sets x ablations x queries x heads
    assert ships["kl_nats"].gt(0).mean() > 0.9
    asr = tables.read_table(tables.ASR, done.folder / "results/tables/tiny-a/asr.parquet")
    per_ablation = 2 + 2 + 1 + 2 * 3  # query and data set level of size 1 and 2, Ships' first, random draws
    assert len(asr) == 2 * 2 * (1 + 2 * per_ablation)  # judges x decodings x interventions
    assert set(asr.loc[asr["level"] == "query", "n"]) == {4}
    assert set(asr.loc[asr["level"] != "query", "n"]) == {6}
    assert ((asr["low"] <= asr["asr"]) & (asr["asr"] <= asr["high"])).all()


def test_the_report_opens_without_a_network(done):
    results = done.folder / "results"
    page = (results / "report/index.html").read_text()
    assert "<h1>Safety heads</h1>" in page and page.count("data:image/png") == len(
        list(results.glob("figures/**/*.png"))
    )
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert len(list(results.glob("figures/**/*.pdf"))) == len(list(results.glob("figures/**/*.png"))) == 2 * 7 + 3
    table3 = pd.read_csv(results / "tables/table3.csv")
    assert {"change_1", "change_2", "mean"} <= set(table3.columns)
    assert (results / "tables/table3.md").read_text().count("|") > 20


def test_answers_stay_in_their_tables(done):
    answers = pd.concat(pd.read_parquet(path) for path in (done.folder / "results/generations").glob("**/*.parquet"))
    long = {text for text in answers["response"] if len(text.strip()) > 4}
    assert long
    kinds = {".log", ".md", ".html", ".csv", ".rst"}
    others = [p for p in (done.folder / "results").glob("**/*") if p.suffix in kinds and p.parent.name != "annotation"]
    for path in others:
        text = path.read_text(errors="replace")
        assert not [answer for answer in long if answer in text], path


def test_the_summary_tells_of_over_refusal(done):
    summary = (done.folder / "results/summary.md").read_text()
    table = summary.partition("## Over-refusal")[2].partition("##")[0]
    assert table.count("| good |") == 2 * 2  # models, ablations
    judged = done.folder / "results/experiments/judgements/keyword-paper/tiny-a-benign.parquet"
    assert set(tables.read_table(tables.JUDGEMENTS, judged)["decoding"]) == {"greedy"}  # the headline's only


def test_labels_made_on_the_page_come_back_as_agreement(done, tmp_path):
    run = done.snakemake("annotate")
    assert run.returncode == 0, run.stderr[-6000:]
    html = (done.folder / "results/annotation/page.html").read_text()
    page = json.loads(re.search(r'application/json">(.*?)</script>', html, re.DOTALL)[1])
    assert len(page["rows"]) == 100 and not (done.folder / "results/judges/human.csv").exists()
    rows = [(page["sample"], row["id"], "refused", 1.0, row["weight"]) for row in page["rows"]]
    labels = pd.DataFrame(rows, columns=["sample", "id", "label", "seconds", "weight"])
    labels.loc[:9, ["label", "seconds"]] = ["", None]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    config = ("annotate", "--config", f"annotation={{labels: {tmp_path}/labels.csv}}")
    assert done.dry_jobs(*config) == {"annotate": 1, "compare_annotations": 1}
    run = done.snakemake(*config)
    assert run.returncode == 0, run.stderr[-6000:]
    row = pd.read_csv(done.folder / "results/judges/human.csv").iloc[0]
    assert (row["judge"], row["n"], row["n_unlabelled"], row["n_unscored"]) == ("keyword-paper", 90, 10, 0)
    text = (done.folder / "results/judges/human.md").read_text() + run.stdout + run.stderr
    assert not [row["response"] for row in page["rows"] if len(row["response"].strip()) > 4 and row["response"] in text]
    labels.loc[3, "id"] = "r0"
    labels.to_csv(tmp_path / "labels.csv", index=False)
    run = done.snakemake(*config)
    assert run.returncode != 0 and "labels.csv, line 5: id 'r0' is unknown" in run.stdout + run.stderr


def test_no_secret_of_the_environment_is_written_anywhere(done):
    """The chain ran with a token in its environment, and Snakemake kept notes of every job."""
    files = [path for name in ("results", ".snakemake") for path in done.folder.glob(f"{name}/**/*") if path.is_file()]
    assert len(files) > 200 and any(".snakemake/metadata" in str(path) for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_copied_project_and_moved_results_have_nothing_left_to_do(done, tmp_path):
    copy = Project(tmp_path / "elsewhere")
    shutil.copytree(done.folder, copy.folder, symlinks=True)
    assert copy.dry_jobs() == {}
    (copy.folder / "results").rename(tmp_path / "disk")
    copy.write_config({**copy.config(), "pathvars": {"results": str(tmp_path / "disk")}})
    assert copy.dry_jobs() == {}


def test_a_truncated_shard_is_named_set_aside_and_made_anew(done, tmp_path):
    other = Project(tmp_path / "project")
    shutil.copytree(done.folder, other.folder, symlinks=True)
    shard = other.folder / "results/scores/tiny-a/bad/chat/ships-2.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    run = other.snakemake("ships")
    assert run.returncode != 0 and "ships-2.parquet is damaged" in run.stdout + run.stderr
    assert not shard.exists() and shard.with_name("ships-2.parquet.damaged").exists()
    again = other.snakemake("ships")
    assert again.returncode == 0, again.stderr[-4000:]
    for name in ("scores/tiny-a/bad/chat/ships-2.parquet", "tables/tiny-a/ships.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(other.folder / "results" / name), pd.read_parquet(done.folder / "results" / name)
        )


def test_the_run_can_be_verified_and_a_difference_is_found(done, tmp_path):
    manifest = json.loads((done.folder / "results/manifest.json").read_text())
    assert manifest["seed"] == 0 and manifest["config"]["run"]["models"] == ["tiny-a", "tiny-b"]
    assert len(manifest["files"]) > 60 and set(manifest["weights"]) == {"tiny-a", "tiny-b"}
    assert {"bad", "good"} <= set(manifest["sources"]) and manifest["hardware"]["n_processors"] > 0
    run = done.snakemake("verify")
    assert run.returncode == 0 and "Nothing differs." in run.stdout, run.stdout + run.stderr[-3000:]
    other = Project(tmp_path / "project")
    shutil.copytree(done.folder, other.folder, symlinks=True)
    results = other.folder / "results"
    for path in results.glob("scores/*/*/*/ships-*.parquet"):
        changed = pd.read_parquet(path).assign(kl_nats=lambda frame: frame["kl_nats"] + 0.5)
        made = tables.read_provenance(path)["parameters"]
        tables.write_table(changed, tables.SHIPS, path, **{key: made[key] for key in made if key != "table"})
    (results / "summary.md").unlink()
    run = other.snakemake("verify")
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "summary.md is missing" in said and "ships-1.parquet has changed" in said and "stored, " in said


def test_snakemakes_own_report_can_be_made(done):
    run = done.snakemake("--report", "results/report.zip", cores=None)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (done.folder / "results/report.zip").stat().st_size > 10_000


def test_a_second_run_does_nothing_even_after_touching_every_source(done):
    assert done.dry_jobs() == {}
    for path in [*done.folder.glob("scripts/**/*.py"), *done.folder.glob("rules/*"), done.folder / "Snakefile"]:
        path.touch()
    assert done.dry_jobs() == {}


def jobs_after_editing(project: Project, name: str) -> dict[str, int]:
    """What a dry run announces while a module has one more line."""
    path = project.folder / "scripts/safety_heads" / name
    kept = path.read_text()
    path.write_text(kept + "\n# an edit\n")
    try:
        return project.dry_jobs()
    finally:
        path.write_text(kept)


def test_an_edit_of_the_figures_reruns_figures_only(done):
    jobs = jobs_after_editing(done, "figure_style.py")
    assert jobs and all(rule.startswith("draw_") or rule in ("write_report_page", "record_run") for rule in jobs)


def test_an_edit_of_the_engine_reruns_what_uses_it(done):
    jobs = jobs_after_editing(done, "sweep.py")
    assert jobs["score_ships"] == 6 and "prepare_queries" not in jobs and "prepare_model" not in jobs


def test_a_change_of_one_models_dtype_reruns_that_model_only(done):
    config = done.config()
    changed = done.config()
    changed["models"]["tiny-b"]["dtype"] = "float64"
    done.write_config(changed)
    try:
        run = done.snakemake("-n")
    finally:
        done.write_config(config)
    jobs = [line.strip() for line in run.stdout.splitlines() if line.strip().startswith("wildcards:")]
    assert any("model=tiny-b" in line for line in jobs)
    assert not [line for line in jobs if "model=tiny-a" in line]


def noted_shards(project: Project) -> list[Path]:
    """Parts of scores whose jobs snakemake knows to be finished: its notes are named after them."""
    notes = {note.name for note in project.folder.glob(".snakemake/metadata/*")}
    found = project.folder.glob(SHARDS)
    return [path for path in found if b64encode(str(path.relative_to(project.folder)).encode()).decode() in notes]


def test_a_killed_run_resumes_and_gives_the_same_values(done, tmp_path_factory):
    """kill -9 of jobs and controller; no finished part is computed again, and all values are those of `done`."""
    other = Project(tmp_path_factory.mktemp("killed") / "project")
    shutil.copytree(done.folder, other.folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    command = [sys.executable, "-m", "snakemake", "--cores", "2"]
    run = subprocess.Popen(
        command,
        cwd=other.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while len(finished := noted_shards(other)) < 8 and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.5)
    time.sleep(5)  # a job's other outputs are being noted
    finished = {path: path.stat().st_mtime_ns for path in finished}
    subprocess.run(["pkill", "-9", "--session", str(run.pid)], check=True)
    run.wait()
    assert run.returncode == -signal.SIGKILL
    assert len(finished) >= 8 and not (other.folder / "results/summary.md").exists()

    assert other.snakemake("--unlock", cores=None).returncode == 0
    again = other.snakemake()
    assert again.returncode == 0, again.stderr[-6000:]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not list(Path(other.folder, "results").glob("**/*.partial"))
    expected, found = values(done), values(other)
    assert found.keys() == expected.keys()
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, obj=name)


def test_the_map_has_a_rate_for_every_head_however_many_jobs_made_it(done):
    """tiny-a's heads are dealt to two jobs, tiny-b's to one."""
    run = done.snakemake("asr_map")
    assert run.returncode == 0, run.stderr[-6000:]
    for model in ("tiny-a", "tiny-b"):
        asr = tables.read_table(tables.ASR, done.folder / f"results/asr_map/{model}/bad/chat/asr-keyword-paper.parquet")
        assert sorted(asr["level"]) == ["map"] * 12 + ["none"] and set(asr["n"]) == {6}
        unablated = asr.set_index("intervention").loc["none", "n_complied"]
        chain = tables.read_table(tables.ASR, done.folder / f"results/tables/{model}/asr.parquet")
        of_run = chain.query("intervention == 'none' and decoding == 'greedy' and judge == 'keyword-paper'")
        assert of_run["n_complied"].tolist() == [unablated]
        assert (done.folder / f"results/figures/{model}/asr_map-bad-chat-keyword-paper.pdf").is_file()


def test_experiments_stand_beside_the_run(done):
    """tiny-a has a base, tiny-b has none, so it gets no foreign weights."""
    run = done.snakemake("experiments")
    assert run.returncode == 0, run.stderr[-6000:]
    results, names = done.folder / "results", {}
    for model in ("tiny-a", "tiny-b"):
        asr = tables.read_table(tables.ASR, results / f"tables/{model}/experiments.parquet")
        names[model] = set(asr["intervention"])
        assert set(asr["n"]) == {6} and set(asr["decoding"]) == {"greedy", "top5"}
        assert (results / f"figures/{model}/experiments-keyword-paper.pdf").is_file()
    both = {f"{label}+{name}" for label in ("sure", "benign") for name in ("none", "ships-ua-1", "ships-sc-1")}
    both |= {f"benign+random-ua-1-draw{draw}" for draw in (1, 2, 3)}
    for model, own in {"tiny-a": {"base-attention+none", "base-urial+none"}, "tiny-b": set()}.items():
        openings = tables.read_table(tables.OPENINGS, results / f"scores/{model}/openings-chat.parquet")
        refuses = len(openings) > 0  # only then is there a head that carries refusal
        signed = {"sign+carrier-ua-1", "sign+suppressor-ua-1"} if refuses else {"sign+none"}
        assert names[model] == both | own | signed

    def answers(path):
        return pd.read_parquet(results / path).query("decoding == 'greedy'").set_index("query_id")["response"]

    begun = answers("experiments/sure/tiny-a/bad/answers.parquet")
    assert begun.str.startswith("Sure, here is").all()
    mixed = answers("experiments/base-attention/tiny-a/bad/answers.parquet")
    whole = pd.read_parquet(results / "generations/tiny-a/bad/chat.parquet").query("intervention == 'none'")
    own = whole.query("decoding == 'greedy'").set_index("query_id")["response"]
    assert set(mixed.index) == set(own.index) and (mixed != own).any()
    stamp = tables.read_provenance(results / "experiments/base-attention/tiny-a/bad/answers.parquet")["parameters"]
    manifest = json.loads((results / "models/tiny-b/model.json").read_text())
    assert stamp["donor_sha256"] == manifest["weights_sha256"] and stamp["transplant"] == "attention"


def test_manifests_describe_the_models(done):
    for name in ("tiny-a", "tiny-b"):
        manifest = json.loads((done.folder / f"results/models/{name}/model.json").read_text())
        assert (manifest["name"], manifest["n_layers"], manifest["n_heads"]) == (name, 3, 4)
