"""Put a model folder in its place and describe it: from a folder, a hub snapshot, a GGUF file or an aligned model.

Weights of a folder are linked, not copied; a GGUF file and pickles are converted once. The manifest is written last.
"""

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path

from safety_heads import alignment_card, logs, models, sources
from safety_heads.errors import UserError
from safety_heads.files import atomic_path


def run(args: argparse.Namespace) -> None:
    folder = Path(args.output).parent
    if args.card:
        alignment_card.enforce(json.loads(Path(args.card).read_text(encoding="utf-8")), args.name)
    if args.member:
        with tempfile.TemporaryDirectory() as unpacked:
            file = Path(unpacked) / "model.gguf"
            sources.extract_member(sources.read_manifest(args.source), args.member, file)
            place(file, folder)
    else:
        origin = Path(args.path) if args.path else sources.read_manifest(args.source).location
        place(origin, folder, args.pickles, args.trust_remote_code)
    shape = models.describe(folder)
    models.check_size(shape, f"models.{args.name}", args.group_size, args.shards)
    with atomic_path(args.output) as partial:
        partial.write_text(models.manifest(args.name, folder), encoding="utf-8")
    logging.info("%s: %s", args.name, shape)


def place(origin: Path, folder: Path, pickles: bool = False, trusted: bool = False) -> None:
    """Convert a GGUF file or, if they are allowed, pickles; link a folder's safetensors, and code if trusted."""
    if origin.is_file():
        models.convert_gguf(origin, folder)
        return
    models.check_folder(origin, trusted)
    if not models.holds_safetensors(origin):
        if not pickles:
            raise UserError(
                f"{origin} holds pickles and no safetensors; if you trust it, allow them for this model: pickles: true"
            )
        models.convert_pickles(origin, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    results = folder.resolve().parents[1]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        if trusted:
            Path(partial, models.TRUSTED).touch()
        for file in models.model_files(origin, trusted):
            target = file.resolve()
            if results in target.parents:  # a relative link, so that the results can be moved
                target = Path(os.path.relpath(target, folder.resolve()))
            Path(partial, file.name).symlink_to(target)
        models.install_folder(Path(partial), folder)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", required=True, help="the model's name in the config")
    origin = options.add_mutually_exclusive_group(required=True)
    origin.add_argument("--path", metavar="DIR|FILE", help="a model folder as transformers saves it, or a GGUF file")
    origin.add_argument("--source", metavar="MANIFEST", help="of fetch_source.py")
    options.add_argument("--member", help="the GGUF file inside the source, if it is no model folder")
    options.add_argument("--pickles", action="store_true", help="convert weights that are pickles; refused otherwise")
    options.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    options.add_argument("--card", metavar="JSON", help="an alignment card whose gate the model must pass")
    options.add_argument("--group-size", type=int, default=1, help="heads that will be ablated together (default 1)")
    options.add_argument("--shards", type=int, default=1, help="jobs that its layers will be dealt to (default 1)")
    options.add_argument("--output", required=True, metavar="JSON", help="model.json, in the model's new folder")
    return options


if __name__ == "__main__":
    logs.main(run, parser())
