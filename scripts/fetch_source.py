"""Fetch a source's bytes and write a manifest that says where they lie and what their checksums are."""

import argparse
import json

from safety_heads import logs, sources

OUTPUT = """
The output is a JSON manifest: name, kind, location, revision, checksums (sha256 by file), declaration. Downloaded
bytes lie beside it in a folder of its name, and the manifest refers to them relative to itself; a `path` source is
referred to absolutely and stays where it is. A wheel with the right checksum is not downloaded again.
"""


def run(args: argparse.Namespace) -> None:
    sources.fetch(args.name, args.declaration, args.output, args.files)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, epilog=OUTPUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--name", required=True, help="the source's name in the config")
    options.add_argument("--declaration", required=True, type=json.loads, metavar="JSON", help="sources.<name>")
    options.add_argument("--files", nargs="*", default=[], metavar="PATTERN", help="members that are wanted (all)")
    options.add_argument("--output", required=True, metavar="JSON", help="the manifest")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
