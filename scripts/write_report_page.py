"""Write one HTML page with the summary, figures, tables and provenance; it opens in a browser without a network."""

import argparse
import json
from pathlib import Path

from safety_heads import logs, tables
from safety_heads.errors import UserError
from safety_heads.files import atomic_path
from safety_heads.report_page import caption_for, page


def run(args: argparse.Namespace) -> None:
    captions = [Path(path) for path in args.captions]
    figures = [(Path(path), caption_for(Path(path), captions)) for path in args.figures]
    cards = {
        Path(path).name.removesuffix(".json").removesuffix(".card"): json.loads(_text(path)) for path in args.cards
    }
    config = _text(args.config) if args.config else ""
    stamp = tables.read_provenance(args.asr)
    texts = {title: _text(path) for title, _, path in (pair.partition("=") for pair in args.texts)}
    html = page(texts, figures, cards, stamp, config)
    with atomic_path(args.output) as partial:
        partial.write_text(html, encoding="utf-8")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); run the step that makes it") from error


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", required=True, nargs="+", metavar="TITLE=MD", help="the first before the figures")
    options.add_argument("--asr", required=True, metavar="PARQUET", help="its provenance goes on the page")
    options.add_argument("--figures", nargs="*", default=[], metavar="PNG", help="in the order of the page")
    options.add_argument("--captions", nargs="*", default=[], metavar="RST", help="named as the figure or its folder")
    options.add_argument("--cards", nargs="*", default=[], metavar="JSON", help="alignment cards, named by model")
    options.add_argument("--config", metavar="FILE", help="the run's configuration, shown as it is")
    options.add_argument("--output", required=True, metavar="HTML")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
