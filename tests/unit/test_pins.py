"""Pins: learned from real servers, written in place, compared byte by byte."""

from __future__ import annotations

import hashlib
import http.server
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from kiln import paths
from kiln.errors import KilnError, RefusedError, UsageError
from kiln.slicer import Download
from scripts import pins, yamledit

CONTENT = b"weights" * 1000
DEFAULTS = """---
# Address.
demo_host: 0.0.0.0   # all of them

# Files. `kiln pins add` fills them in.
demo_pins:
  - name: weights.pt   # the model
    url: https://example.org/weights.pt
    sha256: ""
    size: 0   # unset

# What follows the list stays behind it.
demo_port: 8000
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """A server with the moods of real ones."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        tries = self.seen.count(self.path)
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/busy" or (self.path == "/shy" and tries < 3):
            self.send_error(503)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.fixture
def role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(pins, "PAUSE_SECONDS", 0.01)
    path = tmp_path / "ansible/roles/demo/defaults/main.yml"
    path.parent.mkdir(parents=True)
    path.write_text(DEFAULTS)
    path.chmod(0o640)
    return path


def test_add_learns_and_writes_only_the_pin(server: str, role: Path) -> None:
    pins.add("demo", "weights.pt", f"{server}/w")
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert role.read_text() == DEFAULTS.replace("https://example.org/weights.pt", f"{server}/w").replace(
        'sha256: ""\n    size: 0', f'sha256: "{digest}"\n    size: 7000'
    )
    assert role.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in role.parent.iterdir()] == ["main.yml"]
    pins.check("demo")


def test_a_new_pin_goes_to_the_end_of_the_list(server: str, role: Path) -> None:
    pins.add("demo", "other.pt", f"{server}/o")
    before, _, after = role.read_text().partition("  - name: other.pt\n")
    assert before == DEFAULTS[: DEFAULTS.index("\n# What follows")]
    assert after.endswith(DEFAULTS[DEFAULTS.index("\n# What follows") :])


def test_add_without_url_takes_the_one_in_the_list(role: Path, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(CONTENT)
    role.write_text(DEFAULTS.replace("https://example.org/weights.pt", f"file://{tmp_path}/w"))
    pins.add("demo", "weights.pt", None)
    pins.check()
    with pytest.raises(UsageError, match="'nope' has no URL"):
        pins.add("demo", "nope", None)


def test_check_refuses_other_bytes(server: str, role: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pins.add("demo", "weights.pt", f"{server}/w")
    role.write_text(role.read_text().replace("size: 7000", "size: 7001"))
    with pytest.raises(RefusedError, match=r"demo weights\.pt"):
        pins.check("demo")
    assert "(7001 bytes), found" in capsys.readouterr().out


def test_check_refuses_an_unset_pin_with_the_command_that_sets_it(
    role: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RefusedError):
        pins.check()
    assert "kiln pins add demo weights.pt" in capsys.readouterr().out


@pytest.mark.parametrize(("path", "tries"), [("/gone", 1), ("/busy", 3), ("/cut", 3)])
def test_what_cannot_be_downloaded_has_not_passed(server: str, role: Path, path: str, tries: int) -> None:
    with pytest.raises(KilnError, match=path):
        pins.add("demo", "weights.pt", server + path)
    assert Handler.seen == [path] * tries
    assert role.read_text() == DEFAULTS
    role.write_text(
        DEFAULTS.replace('""', f'"{"0" * 64}"').replace("https://example.org/weights.pt", server + path)
    )
    with pytest.raises(KilnError, match="could not be compared") as caught:
        pins.check("demo")
    assert not isinstance(caught.value, RefusedError)


def test_a_passing_trouble_is_sat_out(server: str, role: Path) -> None:
    pins.add("demo", "weights.pt", f"{server}/shy")
    assert Handler.seen == ["/shy"] * 3


@pytest.mark.parametrize(
    "url", ["weights.pt", "ftp://host/w", "file:", "https://", "http://[::1", "data:text/plain,a", ""]
)
def test_other_urls_are_refused(role: Path, url: str) -> None:
    with pytest.raises(UsageError):
        pins.learn(url)


def test_nobody_listens(role: Path) -> None:
    with pytest.raises(KilnError, match="refused, 3 times"):
        pins.learn("http://127.0.0.1:1/w")


def test_a_missing_file_is_not_waited_for(role: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "PAUSE_SECONDS", 3600)
    with pytest.raises(KilnError, match="No such file"):
        pins.learn("file:///no/such/file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo_port: 1\n", "no list demo_pins"),
        ("demo_pins: [\n", "is no YAML"),
        ("demo_pins:\n  - nmae: a\n", "demo_pins: 0"),
        ("demo_pins:\n  - a\n", "demo_pins: 0"),
        ("- a\n", "no list demo_pins"),
        ("", "no list demo_pins"),
    ],
)
def test_broken_defaults_are_told(role: Path, text: str, message: str) -> None:
    role.write_text(text)
    with pytest.raises(KilnError, match=message):
        pins.add("demo", "a", "file:///etc/hostname")
    assert role.read_text() == text


def test_an_unknown_role_gets_the_known_ones(role: Path) -> None:
    with pytest.raises(UsageError) as caught:
        pins.add("dmeo", "a", "file:///etc/hostname")
    assert "did you mean 'demo'?" in caught.value.hint


@given(
    head=st.sampled_from(["---\n", "# start\n", "a: 1\nb:\n    - 1\n"]),
    body=st.sampled_from([
        " []\n", " []  # none yet\n", " [{name: a, url: u}]\n",
        '\n- name: a\n  url: "u"  # why\n', "\n    - {name: a, size: 3}\n",
        "\n  - name: a\n\n  # the other\n  - size: 4\n    name: b\n    sha256: ''\n",
    ]),
    tail=st.sampled_from(["", "# end", "\n# about c\nc: [1]\n", "...\n"]),
    name=st.sampled_from(["a", "b", "yes", "1.0", "a: b", "#x", "ä ö", 'q"\\'  ]),
    url=st.text(max_size=20),
    digest=st.sampled_from(["0" * 64, "1e" + "3" * 62, ""]),
)  # fmt: skip
def test_yamledit_writes_the_entry_and_nothing_else(
    head: str, body: str, tail: str, name: str, url: str, digest: str
) -> None:
    text = f"{head}x_pins:{body}{tail}"
    load = YAML(typ="safe").load
    before = load(text)
    names = [entry["name"] for entry in before["x_pins"]]
    place = names.index(name) if name in names else len(names)
    entry = {"name": name, "url": url, "sha256": digest, "size": 5}
    new = yamledit.put(text, "x_pins", place, entry)
    after = load(new)
    assert after["x_pins"][place] == entry
    before["x_pins"][place:] = after["x_pins"][place : place + 1] + before["x_pins"][place + 1 :]
    assert after == before
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in new.splitlines() if line.startswith("#")
    ]


def test_a_table_for_kiln_toml_is_printed(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    pins.print_table(f"{server}/slicer.tar.gz")
    said = tomllib.loads(f"pin = {capsys.readouterr().out}")["pin"]
    assert said == {"url": f"{server}/slicer.tar.gz", "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert Download.model_validate(said)


def test_what_kiln_toml_pins_is_compared_too(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pins, "roles", list)
    good = hashlib.sha256(CONTENT).hexdigest()
    toml = tmp_path / "kiln.toml"
    text = f"""
[project]
name = "kiln"
owner = "imaging"
[image.slicer]
playbook = "{paths.ROOT}/ansible/playbooks/slicer.yml"
template = "{paths.ROOT}/packer/slicer"
[image.slicer.slicer]
version = "5.10.0"
revision = "34045"
[image.slicer.slicer.linux]
slicer = {{ url = "{server}/slicer.tar.gz", sha256 = "{good}" }}
extension = {{ url = "{server}/extension.tar.gz", sha256 = "{good}" }}
"""
    toml.write_text(text)
    pins.check(config_path=toml)
    said = capsys.readouterr().out
    assert "same     image.slicer linux.slicer" in said and "2 pins compared" in said
    toml.write_text(text.replace(good, "a" * 64, 1))
    with pytest.raises(RefusedError, match=r"refused: image\.slicer linux\.slicer"):
        pins.check(config_path=toml)
