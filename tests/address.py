"""Put the repository's address where it stands: pyproject.toml has it; others repeat it.

python tests/address.py owner/repository
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTING = re.compile(r'^repository = "https://github\.com/([\w.-]+/[\w.-]+)"$', re.MULTILINE)


def places(root=ROOT):
    """The files that hold the address."""
    names = ("pyproject.toml", "README.md", "CITATION.cff", "docs/your_network.md")
    return [*(root / name for name in names), *sorted(root.glob("notebooks/*.ipynb"))]


def address(root=ROOT):
    """owner/repository, as pyproject.toml has it."""
    return SETTING.search((root / "pyproject.toml").read_text(encoding="utf-8"))[1]


def change(new, root=ROOT):
    """Write the address `new` (owner/repository) over the old one in all places."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise SystemExit(f"expected owner/repository, got {new!r}")
    old = address(root)
    for path in places(root):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(old, new), encoding="utf-8")
    print(f"{old} → {new} in {len(places(root))} files")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/address.py owner/repository")
    change(sys.argv[1])
