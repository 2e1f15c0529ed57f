"""Formulas as MathML, which every browser draws by itself: no script, nothing to download."""

import re
from html import escape

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml

TAG = re.compile(r"\\tag\{([^{}]*)\}")


def markup(tex: str, block: bool = False) -> str:
    """LaTeX → HTML; \\tag{…} stands behind a displayed formula, in parentheses.

    A formula that cannot be read is a ValueError: the build should stop at it.
    """
    tags = TAG.findall(tex)
    plain = TAG.sub("", tex).replace(r"\dots", r"\ldots").strip()
    try:
        found = tex2mathml(plain, as_block=block)
    except (MathError, ValueError) as error:
        raise ValueError(f"formula {tex!r} cannot be read: {error}") from error
    if not block:
        return found
    label = f'<span class="eqno">({escape(tags[0])})</span>' if tags else ""
    return f'<div class="math formula" tabindex="0">{found}{label}</div>\n'


def _inline(translator, node):
    translator.body.append(markup(node.astext()))
    raise SkipNode


def _block(translator, node):
    translator.body.append(markup(node.astext(), block=True))
    raise SkipNode


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
