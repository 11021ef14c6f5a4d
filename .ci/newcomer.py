"""Do what the documentation tells a newcomer, in the environment and the folder that this is started in.

``newcomer.py README.md`` runs the first example: put a message into the session, then get it back.
``newcomer.py docs/tutorial.md`` writes the files that the page shows: its Python blocks that begin with ``# name.py``.
"""

import re
import sys
import typing as t
from pathlib import Path


def follow(page: Path) -> None:
    """Write the page's files where it has some, else run its first example."""
    blocks: list[str] = re.findall(
        r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    named = [(re.match(r"# (\w+\.py)\n", block), block) for block in blocks]
    files = [(Path(name[1]), block) for name, block in named if name]
    for file in {file for file, _ in files}:
        file.write_text("\n\n".join(block for other, block in files if other == file), encoding="utf-8")
    if not files:
        run(blocks[0])


def run(example: str) -> None:
    """Use the example's application as a visitor; exit with a message where it answers something else."""
    names: dict[str, t.Any] = {"__name__": "readme"}
    exec(example, names)  # noqa: S102 - it is what readers paste
    browser = names["app"].test_client()
    said = [browser.get(path).text for path in ("/put", "/get")]
    print(said)
    if said != ["ok", "Hello from a session!"]:
        sys.exit("The README promises something else.")


follow(Path(sys.argv[1]))
