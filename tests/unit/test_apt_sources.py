"""Apt's sources as the checks of an image read them, and what the roles write."""

from __future__ import annotations

import pytest
from jinja2 import Environment

from kiln import paths
from tests.image import apt, openpgp
from tests.image.apt import Keys, Source

FINGERPRINT = "45C0B2A191069542EB6224D803B884ECEB3A86CC"
KEY = (paths.ROOT / "tests/fixtures/nvidia_repository/keyring.asc").read_text()
ROLES = paths.ROOT / "ansible/roles"


def one(text: str, path: str = "/etc/apt/sources.list.d/x.sources") -> Source:
    (found,) = apt.sources(path, text)
    return found


def line(text: str) -> Source:
    return one(text, "/etc/apt/sources.list")


def test_a_line_and_a_paragraph_say_the_same() -> None:
    short = line("deb [arch=amd64 signed-by=/k.gpg] http://x.example/debian/ sid main # a comment\n")
    long = one(
        "# a comment\nTypes: deb\nURIs: http://x.example/debian\nSuites: sid\n"
        "Components: main\nSigned-By: /k.gpg\n"
    )
    for source in (short, long):
        assert source.repositories == {"http://x.example/debian sid"}
        assert source.signed_by == Keys(keyrings=("/k.gpg",))
        assert source.loose == []


def test_paragraphs_are_apart_and_name_every_pair() -> None:
    paragraph = "Types: deb\nURIs: http://a.example http://b.example\nSuites: one\n two\n"
    found = list(apt.sources("x.sources", f"{paragraph} \t\n{paragraph}\n\n\n# nothing\n"))
    assert len(found) == 2
    assert found[0].repositories == {
        f"http://{host}.example {suite}" for host in "ab" for suite in ("one", "two")
    }


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("/a.gpg", Keys(("/a.gpg",))),
        (f"/a.gpg,{FINGERPRINT.lower()}!", Keys(("/a.gpg",), (FINGERPRINT,))),
        (f"/a.gpg /b.asc\n {FINGERPRINT}", Keys(("/a.gpg", "/b.asc"), (FINGERPRINT,))),
        ("", Keys()),
    ],
)
def test_signed_by_names_keyrings_and_fingerprints(value: str, keys: Keys) -> None:
    assert one(f"Types: deb\nURIs: http://x\nSuites: /\nSigned-By: {value}\n").signed_by == keys


@pytest.mark.parametrize("value", ["vendor.gpg", FINGERPRINT[:-1], f"{FINGERPRINT}?"])
def test_signed_by_anything_else_is_refused(value: str) -> None:
    with pytest.raises(AssertionError, match="neither a keyring nor a fingerprint"):
        _ = line(f"deb [signed-by={value}] http://x /").signed_by


@pytest.mark.parametrize(
    "option",
    [
        "trusted=yes", "trusted=on", "Trusted=Enable", "trusted=with", "trusted=1", "trusted+=yes",
        "trusted=", 'trusted="yes"', "allow-insecure=true", "allow-weak=on",
        "allow-downgrade-to-insecure=maybe", "check-valid-until=no",
    ],
)  # fmt: skip
def test_what_loosens_apt_is_seen(option: str) -> None:
    assert line(f"deb [arch=amd64 {option}] http://x.example sid main").loose
    name, _, value = option.replace("+", "").partition("=")
    assert one(f"Types: deb\nURIs: http://x\nSuites: /\n{name}: {value}\n").loose


@pytest.mark.parametrize("value", ["no", "False", "0", "off"])
def test_what_is_plainly_off_is_not(value: str) -> None:
    assert (
        line(f"deb [trusted={value} allow-weak={value} check-date=yes] http://x.example sid main").loose == []
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("x.list", "deb http://x.example\n"),
        ("x.list", "deb [trusted=no trusted=yes] http://x.example sid\n"),
        ("x.sources", "URIs: http://x.example\nSuites: /\n"),
        ("x.sources", "Types: deb\nURIs: http://x\nSuites: /\n\nTrusted: yes\n"),
        ("x.sources", "Types: deb\nURIs: http://x\nSuites: /\nTrusted: no\nTrusted: yes\n"),
        ("x.sources", " Types: deb\n"),
        ("x.sources", "deb http://x.example sid main\nURIs\n"),
    ],
)
def test_what_is_no_source_is_refused(path: str, text: str) -> None:
    with pytest.raises(AssertionError, match=path):
        list(apt.sources(path, text))


def rendered(template: str, **variables: object) -> Source:
    text = (ROLES / template).read_text(encoding="utf-8")
    made = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(text)
    return one(made.render(ansible_managed="by Ansible", **variables))


def test_the_key_that_agents_write_into_their_source_is_read() -> None:
    repository = {"uri": "https://x.example", "suite": "stable", "component": "main", "key": KEY}
    found = rendered("agents/templates/kiln-agents.sources.j2", agents_repository=repository)
    assert [key for block in found.signed_by.blocks for key in openpgp.fingerprints(block.encode())] == [
        FINGERPRINT
    ]
    assert found.repositories == {"https://x.example stable"}


def test_the_fingerprints_that_nvidia_writes_are_read() -> None:
    found = rendered(
        "nvidia/templates/nvidia.sources.j2",
        nvidia_repository_url="https://x.example",
        __nvidia_keyring="/usr/share/keyrings/nvidia.gpg",
        nvidia_repository_fingerprints=[FINGERPRINT],
    )
    assert found.signed_by == Keys(("/usr/share/keyrings/nvidia.gpg",), (FINGERPRINT,))
