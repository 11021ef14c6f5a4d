"""Run the README's first example as a newcomer does: put a message into the session, then get it back."""

import re
import sys
import typing as t
from pathlib import Path

readme = Path(sys.argv[1]).read_text(encoding="utf-8")
example = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[0]
names: dict[str, t.Any] = {"__name__": "readme"}
exec(example, names)  # noqa: S102 - it is what readers paste
browser = names["app"].test_client()
said = [browser.get(path).text for path in ("/put", "/get")]
print(said)
if said != ["ok", "Hello from a session!"]:
    sys.exit("The README promises something else.")
