"""One self-contained HTML page of the results: text, tables, figures as data, alignment cards, provenance.

No network, no scripts, no response text. The Markdown it reads is this project's own: headings, bullets, tables,
paragraphs and bold.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from safety_heads.errors import UserError

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem } a { color: #0173b2 }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto; margin: 1rem 0 }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .45rem; text-align: left }
td span { white-space: nowrap }
figure { margin: 2rem 0 } img { max-width: 100%; height: auto } figcaption { color: #555; font-size: .9rem }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .8rem }
"""

# A rate with its interval, a name with hyphens: no line of a cell breaks there.
WHOLE = r"[^\s<>]+ \[[^\]<>]*\]|[^\s<>]+-[^\s<>]+"


def page(
    texts: Mapping[str, str],
    figures: Sequence[tuple[Path, str]],
    cards: Mapping[str, dict],
    provenance: dict,
    config: str = "",
) -> str:
    """The page; `texts` is Markdown by section, `figures` are PNG files with captions, `cards` the alignment cards.

    The figures come behind the first text.
    """
    (first, opening), *others = [(title, markdown_to_html(re.sub(r"\A# .*\n", "", t))) for title, t in texts.items()]
    sections = {
        first: opening,
        "Figures": "".join(_figure(path, caption) for path, caption in figures),
        **dict(others),
        "How the models were aligned": "".join(_card(model, card) for model, card in cards.items()),
        "Provenance": _provenance(provenance, config),
    }
    sections = {title: body for title, body in sections.items() if body}
    links = " &middot; ".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in sections)
    body = "".join(f'<h2 id="{_anchor(title)}">{escape(title)}</h2>\n{html}' for title, html in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Safety heads</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Safety heads</h1>\n<p>{links}</p>\n{body}\n</body>\n</html>\n"
    )


def markdown_to_html(text: str) -> str:
    """HTML of this project's Markdown. Headings sink by one level, for the page has its own first."""
    blocks = []
    for block in re.split(r"\n{2,}", text.strip()):
        lines = block.splitlines()
        if not lines:
            continue
        if heading := re.match(r"(#+) (.*)", lines[0]):
            level = min(len(heading[1]) + 1, 6)
            blocks.append(f"<h{level}>{_inline(heading[2])}</h{level}>")
        elif lines[0].startswith("- "):
            blocks.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        elif lines[0].startswith("|"):
            blocks.append(_table([_cells(line) for line in lines if not line.startswith("| ---")]))
        else:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "\n".join(blocks) + "\n" if blocks else ""


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([re.sub(WHOLE, r"<span>\g<0></span>", _inline(cell)) for cell in row] for row in rows)
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
    return "<table><tr>" + "</tr>\n<tr>".join(lines) + "</tr></table>"


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _figure(path: Path, caption: str) -> str:
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise UserError(f"figure {path} cannot be read ({error.strerror}); draw it again") from error
    caption = escape(caption)
    name = escape(" / ".join([*path.parts[-2:-1], path.stem]).replace("_", " "))
    image = f'<img src="data:image/png;base64,{data}" alt="{name}">'
    return f"<figure>\n{image}\n<figcaption><strong>{name}.</strong> {caption}</figcaption>\n</figure>\n"


def _card(model: str, card: dict) -> str:
    """One alignment card: what was measured on held-out queries, and whether the gate was passed."""
    head = [model, "harmful", "format", "n", "refused", "perplexity of the base's answers"]
    rows = [head, *map(_card_row, card["measured"])]
    exam = card["exam"]
    gate = (
        f"at least {exam['least_refusal']:.2f} refused on harmful data sets, at most {exam['most_over_refusal']:.2f} "
    )
    gate += "on benign ones" + f", but for {', '.join(exam['watched'])}" * bool(exam["watched"])
    passed = "passed" if not card["failures"] else "failed: " + "; ".join(card["failures"])
    return f"{_table(rows)}\n<p>{escape(f'Gate ({gate}): {passed}.')}</p>\n"


def _card_row(row: dict) -> list[str]:
    rate = f"{row['refused']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    known = "perplexity_before" in row
    perplexity = f"{row['perplexity_before']:.2f} before, {row['perplexity_after']:.2f} after" if known else ""
    return [row["dataset"], "yes" if row["harmful"] else "no", row["format"], str(row["n"]), rate, perplexity]


def _provenance(stamp: dict, config: str) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in stamp.get("libraries", {}).items())
    rows = [["what", "version"], ["code", str(stamp.get("code_version", "unknown"))]]
    rows += [["Python", str(stamp.get("python", "unknown"))], ["libraries", libraries]]
    return _table(rows) + (f"\n<pre>{escape(config)}</pre>\n" if config else "\n")


def caption_for(figure: Path, captions: Sequence[Path]) -> str:
    """The text of the caption whose stem begins the figure's name or is one of its folders; "" if there is none.

    The longest such stem wins, so that `group_size_query.rst` is not taken for `group_size.rst`.
    """
    fitting = [path for path in captions if figure.stem.startswith(path.stem) or path.stem in figure.parts]
    if not fitting:
        return ""
    best = max(fitting, key=lambda path: len(path.stem))
    return " ".join(best.read_text(encoding="utf-8").split())
