"""The package's docstrings are plain text; this makes of them what Sphinx reads.

A docstring here is paragraphs, items ("images: (N, 3, H, W), normalised", continued on indented
lines) and indented parts: two columns, an equation, an example. No character in it means markup,
but `a name between backticks`.
"""

import inspect
import re

ITEM = re.compile(r"([a-z_]\w*(?:, [a-z_…]\w*)*): (?=\S)")
COLUMNS = re.compile(r"(\S(?:.*?\S)?)\s{2,}([^#\s].*)")
NEXT = re.compile(r"(?<=[.)]) (?=[a-z_]\w*(?:, [a-z_]\w*)*: )")
NAMES = re.compile(r"\w[\w,. ]*?\s{2,}\S")
CODE = re.compile(r"(?m)^(>>>|with |import |from |@|[\w.]+ = |[\w.]+\()|  #")
SPECIAL = re.compile(r"([\\*`_|])")


def rst(text: str, link=lambda name: None) -> list[str]:
    """The lines of reStructuredText for a plain docstring.

    link: name between backticks → role and target that it points to, or None.
    """
    lines = []
    for part in _parts(inspect.cleandoc(text)):
        if part[0].startswith(" "):
            lines += _indented(inspect.cleandoc("\n" + "\n".join(part)).splitlines(), link)
        elif part[0].startswith(">>>") or _in_columns(part):
            lines += _indented(part, link)
        elif ITEM.match(part[0]):
            lines += _items(part, link)
        else:
            lines += [_inline(" ".join(line.strip() for line in part), link), ""]
    return lines


def _parts(text):
    """Runs of lines without an empty one between, those that are indented apart from the rest."""
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        # an indented part may follow its paragraph without an empty line, but of a list it is
        # a line that goes on
        start = next((n for n, line in enumerate(lines) if line.startswith(" ")), len(lines))
        if 0 < start < len(lines) and not (ITEM.match(lines[0]) or NAMES.match(lines[0])):
            yield lines[:start]
            lines = lines[start:]
        while lines:
            ends = (n for n, line in enumerate(lines) if not line.startswith(" "))
            stop = next(ends, len(lines)) if lines[0].startswith(" ") else len(lines)
            yield lines[:stop]
            lines = lines[stop:]


def _in_columns(lines):
    """A list of names and what they are, as the faces of rooms have one."""
    rows = [line for line in lines if not line.startswith(" ")]
    return len(rows) > 1 and all(NAMES.match(row) for row in rows)


def _items(lines, link):
    """ "name: text" as a list of definitions."""
    found = []
    for line in lines:
        match = None if line.startswith(" ") else ITEM.match(line)
        if match:
            found.append([match[1], line[match.end() :]])
        else:
            found[-1][1] += " " + line.strip()
    # "network: in eval mode. images: (N, 3, H, W)": two in one line
    items = [part for name, text in found for part in NEXT.split(f"{name}: {text}")]
    return _definitions([item.split(": ", 1) for item in items], link)


def _indented(lines, link):
    """Two columns become definitions; code, equations and the rest stay as they are."""
    found = []
    for line in lines:
        match = COLUMNS.fullmatch(line)
        if match and not line.startswith(" "):
            found.append([match[1], match[2]])
        elif found and line.startswith("  "):
            found[-1][1] += " " + line.strip()
        else:
            found = []
            break
    if found and not CODE.search("\n".join(lines)):
        return _definitions(found, link)
    language = "python" if CODE.search("\n".join(lines)) else "text"
    return [f".. code-block:: {language}", "", *(f"   {line}" for line in lines), ""]


def _definitions(pairs, link):
    lines = []
    for name, words in pairs:
        lines += [f"``{name.replace('`', '')}``", f"   {_inline(words, link)}", ""]
    return lines


def _inline(text, link):
    """Text with nothing in it that is markup; `names` become links or code."""
    parts = re.split(r"`([^`]+)`", text)
    for n, part in enumerate(parts):
        if n % 2:
            parts[n] = link(part) or f"``{part}``"
            # a role ends only before a space or a mark
            if n + 1 < len(parts) and re.match(r"\w", parts[n + 1]):
                parts[n] += "\\ "
            if parts[n - 1] and re.search(r"[\w(]$", parts[n - 1]) and parts[n - 1][-1] != "(":
                parts[n] = "\\ " + parts[n]
        else:
            parts[n] = SPECIAL.sub(r"\\\1", part)
    return "".join(parts)
