"""The commands that README, docs and presets give mean what they say: --configfile takes every word that follows it."""

import re
import shlex
import subprocess

import pytest
from snakemake.cli import get_argument_parser

from tests.workflow.conftest import ROOT

TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "config").glob("*.yaml"))]
WITH_PRESET = r"snakemake [^`#(\n]*--configfile[^`#(\n]*"
COMMAND = re.compile(rf"^(?:#\s+)?({WITH_PRESET})|`({WITH_PRESET})`", re.MULTILINE)
WRITTEN = [one or other for text in TEXTS for one, other in COMMAND.findall(text.read_text(encoding="utf-8"))]


def test_commands_with_a_preset_are_found():
    assert len(WRITTEN) >= 6


@pytest.mark.parametrize("command", WRITTEN)
def test_a_written_command_lays_one_preset_over_the_configuration(command):
    args = get_argument_parser().parse_args(shlex.split(command)[1:])
    assert [(ROOT / file).is_file() for file in args.configfile] == [True]


@pytest.mark.parametrize("target", ["slurm", "resume-slurm", "plan"])
def test_make_passes_a_preset_and_a_target(target):
    words = ["make", "--dry-run", target, "CONFIG=config/paper.yaml", "TARGET=paper", "PROFILE=profiles/slurm"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    start = "resume.sh profiles/slurm " if target == "resume-slurm" else "snakemake "  # it hands snakemake the rest
    [command] = [line.partition(start)[2] for line in shown.splitlines() if start in line]
    args = get_argument_parser().parse_args(shlex.split(command))
    assert list(map(str, args.configfile)) == ["config/paper.yaml"]
    assert set(args.targets) == {"plan" if target == "plan" else "paper"}
