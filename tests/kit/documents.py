"""Examples in the documents."""

import re

from tools.docs import ROOT


def examples(page: str, language: str) -> list[str]:
    """Return the code blocks of a language in a page of docs/, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
