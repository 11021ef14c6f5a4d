"""The security page is held against the tests: what it claims names one, and each one exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
[PAGE] = (TESTS.parent / "docs").rglob("security.md")
NAME = re.compile(r"`(test_\w+)`")
ADVICE = "<!-- advice -->"


def blocks(text):
    """The page's paragraphs, bullets and table rows, one by one; without headings, code, and heads of tables."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\|.*\n\| ?-.*\n", "", text, flags=re.MULTILINE)
    parts = re.split(r"\n\s*\n|\n(?=- )|\n(?=\|)", text)
    return [part.strip() for part in parts if part.strip() and not part.lstrip().startswith("#")]


def is_proven(block):
    """Whether a block names a test, or is the application's part, or says that it is advice."""
    if NAME.search(block) or block.endswith(ADVICE):
        return True

    cells = [cell.strip() for cell in block.strip("|").split("|")] if block.startswith("|") else []
    return "you" in cells or (bool(cells) and cells[0].startswith("AAL"))


def written_tests():
    """The names of all test functions."""
    files = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    return {name for file in files for name in re.findall(r"^def (test_\w+)\(", file, re.MULTILINE)}


def test_each_test_that_the_page_names_exists():
    """Nobody is told of a proof that is not there."""
    named = set(NAME.findall(PAGE.read_text(encoding="utf-8")))

    assert len(named) > 70
    assert named - written_tests() == set()


def test_no_claim_lacks_a_test():
    """Each paragraph, bullet and row names the test that fails where it is not so."""
    found = blocks(PAGE.read_text(encoding="utf-8"))

    assert len(found) > 60
    assert [block for block in found if not is_proven(block)] == []


def test_a_claim_without_a_test_is_found():
    """Else the test above would prove nothing."""
    page = "# Head\n\nA claim.\n\n- another\n- one (`test_it`)\n\n| a | b |\n|---|---|\n| x | package |\n| y | you |\n"

    assert [block for block in blocks(page) if not is_proven(block)] == ["A claim.", "- another", "| x | package |"]


def test_each_item_of_the_chapter_is_there():
    """Nineteen of chapter 7 and five of section 3.3."""
    page = PAGE.read_text(encoding="utf-8")

    assert len(re.findall(r"^\| 7\.\d\.\d \|", page, re.MULTILINE)) == 19
    assert len(re.findall(r"^\| 3\.3\.\d \|", page, re.MULTILINE)) == 5
