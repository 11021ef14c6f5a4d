"""The security page names tests: they exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "security.md"


def test_each_test_that_the_page_names_exists():
    """Nobody is told of a proof that is not there."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    written = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert len(named) > 30
    assert named - written == set()


def test_each_item_of_the_chapter_is_there():
    """Nineteen of chapter 7 and five of section 3.3."""
    page = PAGE.read_text(encoding="utf-8")

    assert len(re.findall(r"^\| 7\.\d\.\d \|", page, re.MULTILINE)) == 19
    assert len(re.findall(r"^\| 3\.3\.\d \|", page, re.MULTILINE)) == 5
