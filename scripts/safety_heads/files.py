"""Writing files so that a partial one never carries a final name."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safety_heads.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name only when the block ends well.

    Raises UserError when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        os.close(handle)
    except OSError as error:
        raise UserError(
            f"cannot write in {path.parent}: {error.strerror}; free space or mend its permissions"
        ) from error
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)  # mkstemp makes it private
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space or choose another disk") from error
    finally:
        partial.unlink(missing_ok=True)
