"""Settings of Sphinx, which makes the documentation: ``sphinx-build -W -n docs OUTPUT``. Nothing is fetched for it."""

import flask_mongo_session

project = "flask-mongoengine-session"
author = "The flask-mongoengine-session developers"
copyright = author  # noqa: A001 - Sphinx's name
release = version = flask_mongo_session.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"

#: What other projects document: no inventory of theirs is fetched, so that the build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(blinker|bson|collections|datetime|enum|flask|mongoengine|pymongo|typing|weakref|werkzeug)\..*"),
    (r"py:.*", r"(TypeError|ValueError|RuntimeError|KeyError)"),
]

#: Names that docstrings take from elsewhere.
nitpick_ignore = [("py:data", "session"), ("py:data", "MESSAGES"), ("py:class", "MongoSession")]

copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "flask-mongoengine-session"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
