"""The environments for the nodes hold the versions that were resolved and tested, no more and no less."""

import ast
import re
import sys

import yaml

from tests.workflow.conftest import ROOT

CONTROLLER = {"snakemake", "snakemake-executor-plugin-slurm"}  # jobs are started by them, and do not use them


def pins(lines) -> dict[str, str]:
    """`name==version` by normalised name; extras and comments left out."""
    found = re.findall(r"^\s*(?:- )?([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;#]+)", "\n".join(lines), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def text(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


REQUIRED, RESOLVED = pins(text("requirements.txt")), pins(text("constraints.txt"))


def test_everything_required_is_resolved_to_that_version():
    assert len(REQUIRED) >= 14 and set(REQUIRED) >= CONTROLLER
    assert {name: RESOLVED.get(name) for name in REQUIRED} == REQUIRED


def test_the_conda_environment_pins_what_the_jobs_use():
    declared = yaml.safe_load((ROOT / "envs/safety-heads.yaml").read_text())["dependencies"]
    from_pip = next(part["pip"] for part in declared if isinstance(part, dict))
    assert pins(from_pip) == {name: version for name, version in REQUIRED.items() if name not in CONTROLLER}
    assert len(pins(from_pip)) == len(from_pip)  # nothing is unpinned
    assert "python=3.11" in declared and "channels" in yaml.safe_load((ROOT / "envs/safety-heads.yaml").read_text())


def test_every_rule_names_an_environment_that_is_there():
    named = {
        name for path in (ROOT / "rules").glob("*.smk") for name in re.findall(r'"\.\./(envs/[^"]+)"', path.read_text())
    }
    assert named == {"envs/safety-heads.yaml"} and all((ROOT / name).is_file() for name in named)


def test_the_image_installs_the_resolved_versions_on_the_same_python():
    image = (ROOT / "envs/safety-heads.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n((?:    .*\n|\n)+)", image + "\n", re.MULTILINE))
    assert {"files", "post", "environment", "test"} <= set(sections)
    assert re.search(r"^Bootstrap: docker\nFrom: python:3\.11-slim-\w+$", image, re.MULTILINE)
    copied = dict(line.split() for line in sections["files"].split("\n") if line.strip())
    assert set(copied) == {"requirements.txt", "constraints.txt"} and all((ROOT / name).is_file() for name in copied)
    assert f"--requirement {copied['requirements.txt']} --constraint {copied['constraints.txt']}" in sections["post"]
    command = re.search(r'python -c "(.*)"', sections["test"])[1]
    assert isinstance(ast.parse(command).body[0], ast.Import)


def test_whatever_the_library_imports_is_declared():
    """Third-party modules that the package and the programs import, as distributions of requirements.txt."""
    imported = set()
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = (
        imported - set(sys.stdlib_module_names) - {"safety_heads", *(p.stem for p in (ROOT / "scripts").glob("*.py"))}
    )
    distributions = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
    names = {distributions.get(name, re.sub(r"[-_.]+", "-", name)) for name in foreign}
    assert names - set(REQUIRED) <= {"pil", "tokenizers", "safetensors"}  # these come with the others
