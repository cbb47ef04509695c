"""Write the manifest of a run: inputs, versions, seed, hardware, configuration, and the checksum of every result."""

import argparse
import json
from pathlib import Path

from safety_heads import logs, run_manifest
from safety_heads.files import atomic_path


def run(args: argparse.Namespace) -> None:
    manifest = run_manifest.record(Path(args.output).parent, json.loads(args.config))
    with atomic_path(args.output) as partial:
        partial.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(f"{len(manifest['files'])} files, {len(manifest['weights'])} models, {len(manifest['sources'])} sources")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", required=True, metavar="JSON", help="the run's whole configuration")
    options.add_argument("--output", required=True, metavar="JSON", help="in the run's results folder")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
