"""The device page in the visitor's language: English and German are shipped, others can be added."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import flask_babel
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po
from flask import request, session

from flask_mongo_session.contrib import devices
from flask_mongo_session.contrib.devices import devices_blueprint

FOLDER = Path(devices.__file__).parent
CATALOGUES = sorted((FOLDER / "translations").glob("*/LC_MESSAGES/flask_mongo_session.po"))
KEYWORDS = {"say": None, "say_many": (1, 2), "noted": None, "noted_many": (1, 2)}
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1"


@pytest.fixture
def make_site(make_app):
    """Makes applications with a device page that speaks the language that the browser asks for."""

    def make(**config):
        app = make_app(SESSION_TRACK_DEVICE=True, **config)
        app.register_blueprint(devices_blueprint(app.extensions["sessions"]), url_prefix="/devices")
        app.add_url_rule("/login", view_func=lambda: session.update(user_id="ada") or "welcome")
        flask_babel.Babel(app, locale_selector=lambda: request.accept_languages.best_match(["en", "de", "fr", "de_AT"]))
        return app

    return make


def plain(text):
    """A text, or its forms for one and many, as something to compare."""
    return text if isinstance(text, str) else tuple(text)


def placeholders(text):
    return sorted(re.findall(r"%\(\w+\)[sd]", text))


def texts_of(catalogue):
    return {plain(message.id): plain(message.string) for message in catalogue if message.id}


def page_of(app, language):
    """The page with another device, in *language*."""
    app.test_client().get("/login", headers={"User-Agent": PHONE})
    browser = app.test_client()
    browser.get("/login")
    return browser.get("/devices/", headers={"Accept-Language": language}).text, browser


@pytest.mark.parametrize("language", ["de", "de-AT"])
def test_in_german(make_site, language):
    """All of the page: headings, buttons, the name of a device, times, and messages."""
    page, browser = page_of(make_site(), language)

    assert f'<html lang="{language}"' in page
    for text in ("Ihre Geräte", "Dieses Gerät", "Neu", "Das war ich nicht", "Safari auf iPhone", "Aktiv: gerade eben"):
        assert text in page
    assert re.search(r"Angemeldet seit \d+\. \w+ \d{4}, \d\d:\d\d UTC", page)
    assert not re.search(r"\b(Your|Log out|Active|Logged|devices)\b", re.sub(r"<[^>]+>", "", page))

    token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]
    german = {"Accept-Language": language}
    answer = browser.post("/devices/end-others", data={"csrf_token": token}, headers=german, follow_redirects=True)
    assert "Alle anderen Sitzungen sind beendet." in answer.text


@pytest.mark.parametrize("language", ["en", "fr", "tlh"])
def test_in_english_where_there_is_no_catalogue(make_site, language):
    """The page says that it is in English, for those who have it read to them."""
    page, _ = page_of(make_site(), language)

    assert '<html lang="en"' in page
    assert "Your devices" in page


def test_an_application_adds_a_language(make_site, tmp_path):
    """A catalogue of the same name in the application's own folder of translations; it wins over ours."""
    for language, devices_are in (("fr", "Vos appareils"), ("de", "Deine Geräte")):
        folder = tmp_path / language / "LC_MESSAGES"
        folder.mkdir(parents=True)
        head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        source = f'{head}msgid "Your devices"\nmsgstr "{devices_are}"'
        with (folder / "flask_mongo_session.mo").open("wb") as compiled:
            write_mo(compiled, read_po(io.StringIO(source), locale=language))
    site = make_site(BABEL_TRANSLATION_DIRECTORIES=str(tmp_path))

    french, _ = page_of(site, "fr")
    german, _ = page_of(site, "de")
    assert "Vos appareils" in french
    assert '<html lang="fr"' in french
    assert "Deine Geräte" in german
    assert "Das war ich nicht" in german


def test_the_applications_own_texts_are_left_alone(make_site):
    """Messages that the application gives are its own business; its ``_()`` in its layout stays its own."""
    site = make_site()
    site.register_blueprint(
        devices_blueprint(site.extensions["sessions"], name="mine", messages={"gone": "New"}), url_prefix="/mine"
    )
    _, browser = page_of(site, "de")
    page = browser.get("/mine/", headers={"Accept-Language": "de"}).text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]

    answer = browser.post("/mine/end", data={"csrf_token": token}, headers={"Accept-Language": "de"})
    assert '<p class="devices-message devices-problem" role="alert">New</p>' in answer.text


def test_without_flask_babel_it_is_english():
    """Nothing of it is imported where the application does not use it."""
    program = (
        "import sys; sys.modules['flask_babel'] = sys.modules['babel'] = None; from flask import Flask;"
        "from flask_mongo_session.contrib.devices import texts;"
        "app = Flask('x'); app.app_context().push();"
        "print(texts.say('Active %(when)s', when='now'), texts.say_many('%(count)d day', '%(count)d days', 2),"
        " texts.language())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert done.stdout == "Active now 2 days en\n", done.stderr


def test_every_text_is_in_every_catalogue():
    """Translated, and with the placeholders of the original; no text is left over from before."""
    methods = [("**.py", "python"), ("**.html", "jinja2")]
    texts = {plain(text) for *_, text, _, _ in extract_from_dir(FOLDER, methods, keywords=KEYWORDS)}
    for path in (FOLDER / "translations" / "flask_mongo_session.pot", *CATALOGUES):
        with path.open("rb") as source:
            translated = texts_of(read_po(source))
        assert set(translated) == texts, path
        for asked, said in translated.items() if path in CATALOGUES else ():
            for one, other in [(asked, said)] if isinstance(asked, str) else zip(asked, said, strict=True):
                assert placeholders(one) == placeholders(other), other

    assert {path.parts[-3] for path in CATALOGUES} == {"de", "en"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_the_compiled_catalogues_are_the_written_ones(path):
    """``pybabel compile`` was run after the last change."""
    with path.open("rb") as source, path.with_suffix(".mo").open("rb") as compiled:
        written, packed = read_po(source), read_mo(compiled)

    assert texts_of(written) == texts_of(packed)
