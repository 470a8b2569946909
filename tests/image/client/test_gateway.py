"""What the real client got from the gateway: it logs in by its own calls, and a label notes who saved it."""

import json
import os
from pathlib import Path

import pytest

from scripts import annotate

GUEST = Path(os.environ.get("KILN_CLIENT", "."))


@pytest.fixture(scope="module")
def answers():
    return json.loads((GUEST / "answers.json").read_text())


def test_client_is_told_to_log_in(answers):
    login = answers["login"]
    assert login["enabled"] is True, "GET /auth/ does not tell the client to log in"
    assert login["anonymous"] == 401, f"without a log-in the client gets {login['anonymous']}"


def test_log_in_counts(answers):
    assert answers["login"]["valid"] is True, "the token of a log-in does not count"


def test_label_notes_who_saved_it(answers):
    label = answers["datastore"]["objects"][annotate.IMAGE]["labels"]["final"]
    found = label["info"].get("user", "nobody")
    assert found == answers["login"]["name"], f"the label was saved by {found}, it says"
