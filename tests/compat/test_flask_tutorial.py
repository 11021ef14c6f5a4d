"""The blog of Flask's tutorial, out of Flask's source distribution, with our sessions."""

import pymongo
import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]

#: The lines that ``flaskr/__init__.py`` gets, each with the line that it follows.
NEW_LINES = {
    "from flask_mongo_session import MongoSession\n": "from flask import Flask\n",
    '        SESSION_MONGODB_URI=os.environ["COMPAT_MONGODB_URI"],\n': '        SECRET_KEY="dev",\n',
    "    MongoSession(app)\n": "    os.makedirs(app.instance_path, exist_ok=True)\n",
}


def test_flasks_tutorial_keeps_its_sessions_here_after_three_new_lines(unpack, run_suite, mongo_server):
    """The application's own tests pass as they are, with every warning an error; the log-ins are in the database."""
    folder = unpack("Flask", wanted="examples/tutorial/") / "examples" / "tutorial"
    plain = run_suite(folder)
    factory = folder / "flaskr" / "__init__.py"
    source = factory.read_text(encoding="utf-8")
    for line, before in NEW_LINES.items():
        assert source.count(before) == 1
        source = source.replace(before, before + line)
    factory.write_text(source, encoding="utf-8")

    ours = run_suite(folder, database="compat_tutorial", changed=True)

    assert not ours.failed, ours.output
    assert ours.passed == plain.passed
    assert len(ours.passed) >= 20
    with pymongo.MongoClient(mongo_server.uri) as client:
        stored = client["compat_tutorial"]["sessions"]
        assert stored.count_documents({"user_id": "1"}) > 0
        assert stored.count_documents({"ended_at": {"$exists": True}}) > 0, "the log-out left no tombstone"
