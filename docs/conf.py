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
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

#: What other projects document: no inventory of theirs is fetched, so that the build needs no network.
_ELSEWHERE = "blinker|bson|collections|datetime|dt|enum|flask|mongoengine|pathlib|pymongo|t|typing|weakref|werkzeug"
#: Types of arguments that users get from the package or need not know.
_INSIDE = r"flask_mongo_session\.(config|contrib|document|extension|management|mongo|session|storage|web)\..*"
nitpick_ignore_regex = [
    ("py:.*", rf"({_ELSEWHERE})\..*"),
    ("py:.*", "(Key|Runtime|Type|Value)Error"),
    ("py:class", _INSIDE),
    (
        "py:class",
        "AuditRecord|Client|Connection|Database|Finding|Flask|Migration|MongoSession|NewLogin|Series|SessionConfig|Store",
    ),
    ("py:(data|exc|func)", "MESSAGES|session|ConfigurationError|is_new"),
]

copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "flask-mongoengine-session"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
