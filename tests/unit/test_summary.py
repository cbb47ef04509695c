"""The summary: an effect is printed as an effect, a null as a null; and the page made of it."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import synthetic_results as synthetic
from safety_heads import tables
from safety_heads.errors import UserError
from safety_heads.report_page import caption_for, markdown_to_html, page
from safety_heads.results import Results, primary
from safety_heads.summary import verdict, write_summary
from synthetic_results import results

ROOT = Path(__file__).parents[2]


def summary(of: Results) -> str:
    return write_summary(of, primary(of))


def test_an_effect_is_printed_as_an_effect():
    text = summary(results(effect=True))
    assert text.count("Verdict: effect found") == 2 and "no effect found" not in text
    assert "head **18-8** first of 270: 0.5 nats" in text and "-3.00: it carries refusal" in text
    assert "36,864 of 134,515,008 parameters (0.027 %)" in text
    assert "aligned-a and aligned-b share" in text and "chance alone gives 0.37 (0 to 2; p = " in text
    assert "more than chance. Rank-biased overlap of all heads: 0." in text
    assert (
        "Drawing its 4 queries anew (1,000 times), it is first in 100%; the harmful data sets' rankings agree" in text
    )
    assert "3 random heads give" in text and "an effect in 4 of 4 settings" in text
    assert "nan" not in text


def test_a_null_is_printed_as_a_null():
    text = summary(results(effect=False))
    assert text.count("Verdict: no effect found: the interval of the change includes 0.") == 2
    assert ": effect found" not in text and "| effect found" not in text and "an effect in 0 of 4 settings" in text


def test_random_heads_that_do_as_much_void_the_effect():
    judgements = synthetic.judgements()
    random = judgements["intervention"].eq("random-ua-1-draw2")
    text = summary(results(judged=judgements.assign(verdict=judgements["verdict"].mask(random, "complied"))))
    assert "Verdict: no effect found: a random head does as much." in text and ": effect found" not in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "effect found"),
        ({"low": -0.01}, "no effect found: the interval"),
        ({"low": 0.0}, "no effect found: the interval"),
        ({"q_value": 0.06}, "no effect found: the interval excludes 0, but"),
        ({"q_value": 0.06, "difference": -0.5, "low": -0.7, "high": -0.2}, "no effect found"),
        ({"random_high": 0.7}, "no effect found: a random head"),
        ({"n_random": 0, "random_high": float("nan")}, "compliance rises, but no random head"),
        ({"difference": -0.5, "low": -0.7, "high": -0.2}, "no loss of safety"),
        ({"difference": float("nan")}, "not measured"),
    ],
)
def test_verdicts(changed, said):
    row = {"difference": 0.5, "low": 0.3, "high": 0.7, "asr_after": 0.6, "random_high": 0.1, "n_random": 3}
    row["q_value"] = 0.01
    assert verdict(pd.Series({**row, **changed})).startswith(said)


def test_the_sign_is_told_and_its_absence_too():
    of = results()
    flipped = of.ships.assign(refusal_logodds_change=-of.ships["refusal_logodds_change"])
    assert "it suppresses refusal" in summary(dataclasses.replace(of, ships=flipped))
    unknown = of.ships.assign(refusal_logodds_change=float("nan"))
    assert "sign is unknown" in summary(dataclasses.replace(of, ships=unknown))


def test_unscored_answers_are_not_measured():
    text = summary(results(judged=synthetic.judgements().assign(verdict="unscored")))
    assert "not measured" in text and "effect found" not in text and "nan" not in text


def test_missing_pieces_are_named():
    of = results()
    with pytest.raises(UserError, match="'aligned-b'"):
        summary(dataclasses.replace(of, manifests={"aligned-a": synthetic.MANIFESTS["aligned-a"]}))
    with pytest.raises(UserError, match=r"run\.queries"):
        primary(dataclasses.replace(of, queries=synthetic.queries().assign(harmful=False)))
    with pytest.raises(UserError, match="format 'urial'"):
        primary(of, format="urial")


def test_one_model_has_nothing_to_share():
    of = results()
    names = ("ships", "subspace", "judgements", "asr")
    alone = {name: getattr(of, name).query("model == 'aligned-a'") for name in names}
    assert "nothing to compare" in summary(dataclasses.replace(of, **alone))


def test_markdown_subset_becomes_html_and_nothing_slips_through():
    html = markdown_to_html("## A <b>\n\n- **x** & y\n- z\n\n| a | b\\|c |\n| --- | --- |\n| 1 | 2 |\n\nplain\ntext\n")
    assert "<h3>A &lt;b&gt;</h3>" in html and "<li><strong>x</strong> &amp; y</li><li>z</li>" in html
    assert "<th>b|c</th>" in html and "<td>2</td>" in html and "<p>plain text</p>" in html
    html = markdown_to_html("| a |\n| --- |\n| **ships-ua-1** gives +0.50 [+0.31, +0.66], p = 0.1 |\n")
    assert "<strong><span>ships-ua-1</span></strong> gives <span>+0.50 [+0.31, +0.66]</span>, p = 0.1<" in html


def test_captions_go_to_their_figures(tmp_path):
    captions = []
    for stem in ("group_size", "group_size_query"):
        (tmp_path / f"{stem}.rst").write_text(f"caption of\n{stem}\n")
        captions.append(tmp_path / f"{stem}.rst")
    assert caption_for(Path("figures/group_size_query/m.png"), captions) == "caption of group_size_query"
    assert caption_for(Path("figures/group_size_m.png"), captions) == "caption of group_size"
    assert caption_for(Path("figures/sign.png"), captions) == ""


ROW = {"format": "chat", "n": 30, "refused": 0.9667, "low": 0.8333, "high": 0.9941}
CARD = {
    "exam": {"least_refusal": 0.9, "most_over_refusal": 0.1, "watched": []},
    "failures": ["good: too many"],
    "measured": [
        {"dataset": "bad", "harmful": True, **ROW},
        {"dataset": "good", "harmful": False, **ROW, "perplexity_before": 1.862, "perplexity_after": 1.611},
    ],
}


def test_the_page_needs_nothing_from_outside(tmp_path):
    image = tmp_path / "sign.png"
    image.write_bytes(b"\x89PNG")
    pictures, cards = [(image, "what <it> shows")], {"m": CARD}
    html = page({"Summary": "# Summary\n\n- a\n"}, pictures, cards, {"code_version": "v1"})
    assert "data:image/png;base64," in html and "what &lt;it&gt; shows" in html and "v1" in html
    assert "0.97 [0.83, 0.99]" in html and "1.86 before, 1.61 after" in html and "failed: good: too many" in html
    assert not re.search(r"(src|href)=.(?!data:|#)", html) and "<script" not in html and "http" not in html


def test_every_figure_has_a_caption():
    sys.path.insert(0, str(ROOT / "scripts"))
    import draw_figure

    missing = [name for name in draw_figure.FIGURES if not (ROOT / "report" / f"{name}.rst").is_file()]
    assert not missing


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tables on disk, as the programs read them."""
    place, of = tmp_path_factory.mktemp("results"), results()
    for name in ("ships", "subspace", "interventions", "judgements", "asr", "queries", "graded"):
        tables.write_table(getattr(of, name), getattr(tables, name.upper()), place / f"{name}.parquet")
    for manifest in synthetic.MANIFESTS.values():
        (place / f"{manifest['name']}.json").write_text(json.dumps(manifest))
    return place


def program(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / f"{name}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_programs_from_judgements_to_page(folder):
    def table(name):
        return folder / f"{name}.parquet"

    asr, figure = folder / "again.parquet", folder / "asr_bars.png"
    csv, text = folder / "table3.csv", folder / "table3.md"
    inputs = ("--judgements", table("judgements"), "--interventions", table("interventions"))
    scores = ("--ships", table("ships"), "--subspace", table("subspace"), "--asr", asr, "--queries", table("queries"))
    scores += ("--graded", table("graded"))
    judges, told_judges, judged = folder / "judges.csv", folder / "judges.md", folder / "asr_judges.png"
    drawn = ("--graded", table("graded"), "--labelled-set", "made", "--output", judged)
    manifests, captions = list(folder.glob("*.json")), (ROOT / "report").glob("*.rst")
    summary, page = folder / "summary.md", folder / "index.html"
    pictures = ("--figures", figure, "--captions", *captions)
    card, told, card_page = (folder / f"scorecard.{kind}" for kind in ("csv", "md", "html"))
    paper = ("--reference", ROOT / "data" / "paper_values.csv")
    one = synthetic.results().asr
    tables.write_table(one[one["model"] == "aligned-a"], tables.ASR, folder / "one.parquet")
    texts = (f"Summary={summary}", f"Changes={text}", f"Scorecard={told}")
    steps = [
        ("summarise_asr", *inputs, "--manifests", *manifests, "--output", asr),
        ("tabulate_asr", *inputs, "--manifests", *manifests, "--output-csv", csv, "--output-md", text),
        ("draw_figure", "--figure", "asr_bars", "--tables", asr, "--where", "model=aligned-a", "--output", figure),
        ("write_summary", *inputs, *scores, "--manifests", *manifests, "--output", summary),
        (
            "write_scorecard",
            *inputs,
            *scores,
            "--manifests",
            *manifests,
            *paper,
            "--output-csv",
            card,
            "--output-md",
            told,
            "--output-html",
            card_page,
        ),
        (
            "compare_judges",
            *inputs,
            *scores,
            "--manifests",
            *manifests,
            "--output-csv",
            judges,
            "--output-md",
            told_judges,
        ),
        ("draw_judges", "--asr", folder / "one.parquet", *drawn),
        (
            "tabulate_cards",
            "--graded",
            table("graded"),
            "--output-csv",
            folder / "cards.csv",
            "--output-categories",
            folder / "categories.csv",
            "--output-figure",
            folder / "cards.png",
        ),
        ("write_report_page", "--texts", *texts, "--asr", asr, *pictures, "--output", page),
    ]
    for step in steps:
        done = program(*step)
        assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(
        tables.read_table(tables.ASR, asr), tables.read_table(tables.ASR, table("asr")), check_like=True
    )
    assert figure.with_suffix(".pdf").is_file() and pd.read_csv(csv)["change_1"].notna().all()
    for drawing in (judged, folder / "cards.png"):
        assert drawing.is_file() and drawing.with_suffix(".pdf").is_file()
    assert len(pd.read_csv(folder / "cards.csv")) == 1 and "Judges against people" in told_judges.read_text()
    html = page.read_text()
    assert "<h3>The paper&#x27;s claims</h3>" in card_page.read_text()
    assert "one head&#x27;s ablation multiplies ASR" in html and len(pd.read_csv(card)) == 103
    assert "Verdict: effect found" in html and "Fig. 2 of the paper" in html and "pandas" in html


def test_programs_name_what_is_wrong(folder):
    done = program("draw_figure", "--figure", "sign", "--tables", folder / "asr.parquet", "--output", folder / "x.png")
    assert done.returncode == 1 and "is it a ships table" in done.stderr and "Traceback" not in done.stderr
    draw = ("draw_figure", "--figure", "sign", "--tables", folder / "ships.parquet", "--output", folder / "x.png")
    assert "column=value" in program(*draw, "--where", "modle=a").stderr
    assert "one dataset" in program(*draw).stderr
