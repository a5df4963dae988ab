"""Text that came from a user, made inert for the place it is shown in.

A label, a corpus or a parameter is data: it must never colour a terminal, end a LaTeX group, open an HTML tag, or run
in a spreadsheet. What each place takes for a command is in its own specification: ECMA-48, CommonMark and GitHub
Flavored Markdown, LaTeX, and OWASP's page on CSV injection.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_UNSEEN = ("Cc", "Cf", "Co", "Cs")
"""Control, format (text direction among them), private and surrogate characters: nothing that a label needs."""

_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    '"': '{"}',
    "β": r"$\beta$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "¶": r"\P{}",
    "§": r"\S{}",
    "◆": r"$\diamond$",
    "★": r"$\star$",
    "≠": r"$\ne$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "–": "--",
}
_MARKDOWN: Mapping[str, str] = {
    **{mark: f"\\{mark}" for mark in "\\*_[]~#!$"},
    **{mark: f"&#{ord(mark)};" for mark in "|`@"},
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
}
_FORMULA = re.compile("[=+\\-@\uff1d\uff0b\uff0d\uff20]")


def plain(text: str) -> str:
    r"""`text` on one line, without the characters that a terminal or a page would act on.

    >>> plain("a\x1b[31mb\u202ec\nd")
    'a[31mbc d'
    """
    seen = (mark for mark in text if mark.isspace() or unicodedata.category(mark) not in _UNSEEN)
    return " ".join("".join(seen).split())


def latex(text: str) -> str:
    r"""`text` as LaTeX that prints it, letters of mathematics included.

    >>> print(latex("β-VAE (50%) [k_1]"))
    $\beta$-VAE (50\%) {[}k\_1{]}
    """
    return "".join(_LATEX.get(mark, mark) for mark in plain(text))


def markdown(text: str) -> str:
    r"""`text` as Markdown that prints it, inside a table or out of it.

    >>> print(markdown("a|b <i> `c` www.d.e"))
    a&#124;b &lt;i&gt; &#96;c&#96; www&#46;d.e
    """
    marked = "".join(_MARKDOWN.get(mark, mark) for mark in plain(text))
    unlinked = re.sub(r"(?i)(www)\.", r"\1&#46;", marked).replace("://", "&#58;//")
    return re.sub(r"^(\d*)([-+.)])(?=\s|$)", lambda start: f"{start[1]}&#{ord(start[2])};", unlinked)


def csv(text: str) -> str:
    """`text` as a cell that a spreadsheet takes for text: what looks like a formula gets a leading apostrophe.

    >>> csv("=1+1"), csv("VAE")
    ("'=1+1", 'VAE')
    """
    cell = plain(text)
    return f"'{cell}" if _FORMULA.match(cell) else cell
