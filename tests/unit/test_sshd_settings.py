"""The settings of sshd as the checks of an image read them."""

from __future__ import annotations

from pathlib import Path

import pytest
import testinfra

from tests.image import sshd
from tests.image.tree import Entry, Tree
from tests.unit.roots import put


def read(root: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> sshd.Settings:
    """Settings of these files, which lie in /etc/ssh as a host knows it."""
    for name, said in files.items():
        put(root / name, said)
    listed = {f"/etc/ssh/{name}": Entry("f", 0o644, 0, 0, 1) for name in files}
    monkeypatch.setattr(sshd, "text", lambda _, path: (root / path.removeprefix("/etc/ssh/")).read_text())
    return sshd.settings(testinfra.get_host("local://"), Tree(listed))


def test_the_first_value_counts_in_the_order_of_inclusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "sshd_config": "UseDNS no\nInclude /etc/ssh/sshd_config.d/*.conf\nX11Forwarding yes\nBanner none\n",
        "sshd_config.d/10-b.conf": "UseDNS yes\nX11Forwarding=no # why\n",
        "sshd_config.d/00-a.conf": '  "Banner" "/a"\n#PermitRootLogin yes\n',
        "sshd_config.d/deeper/00.conf": "Port 1\n",
        "sshd_config.d/00-a.conf.bak": "Port 2\n",
    }
    found = read(tmp_path, files, monkeypatch)
    assert found.values == {"usedns": "no", "banner": "/a", "x11forwarding": "no"}
    assert found.matches == []


def test_a_block_is_for_some_and_ends_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "sshd_config": "Include sshd_config.d/*\nUseDNS no\nMatch all\nInclude other\nPort 1\n",
        "sshd_config.d/90.conf": "Match User admin\n  PasswordAuthentication yes\n  Banner x\n",
        "other": "UsePAM no\n",
    }
    found = read(tmp_path, files, monkeypatch)
    assert found.values == {"usedns": "no"}
    assert found.matches == [
        "Match User admin; passwordauthentication yes; banner x",
        "Match all; usepam no; port 1",
    ]


@pytest.mark.parametrize("files", [{"sshd_config": "Include sshd_config\n"}, {"sshd_config": "# nothing\n"}])
def test_what_says_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    with pytest.raises(AssertionError, match=r"includes itself|says nothing"):
        read(tmp_path, files, monkeypatch)
