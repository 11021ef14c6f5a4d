"""The example application while its database hangs, as a person meets it: in Chromium."""

from __future__ import annotations

import typing as t
import uuid
from pathlib import Path

import pytest
from flask import Flask
from test_shop import look_at, prefer, refused_by_the_policy

if t.TYPE_CHECKING:
    from conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.soak]


@pytest.fixture
def shop_app(mongo_server_own: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Flask]:
    """The example application on a server of its own, which the test stops."""
    from example_app import create_app

    monkeypatch.setenv("SHOP_INSTANCE_PATH", str(tmp_path / "instance"))
    database = f"outage_{uuid.uuid4().hex[:12]}"
    app = create_app({"SESSION_MONGODB_URI": mongo_server_own.uri, "SESSION_MONGODB_DB": database})
    yield app
    app.extensions["mongo_session"].store.stop_cleanup()


def test_an_outage_fits_a_phone_and_everybody(visitor: Visitor, mongo_server_own: t.Any, axe: str) -> None:
    """Products without the cart, error pages that stand on their own: light and dark, allowed by the shop's policy."""
    visitor.register(name="Ada Lovelace").open("/product/morning-mug").press("Put into the cart")
    visitor.open("/")
    pages = {"catalogue": "/", "product": "/product/morning-mug", "cart": "/cart"}
    mongo_server_own.pause()
    try:
        for scheme in ("light", "dark"):
            prefer(visitor, scheme)
            look_at(visitor, axe, f"outage-{scheme}", pages)
            assert "closed for a moment" in visitor.text
            assert visitor.all("link") == []
    finally:
        mongo_server_own.resume()
        prefer(visitor, "")

    assert refused_by_the_policy(visitor) == []
