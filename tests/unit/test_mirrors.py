"""What the build machine lends to a build: its own mirrors and proxies, in a folder that no image keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiln.errors import KilnError
from scripts import mirrors
from tests.image.static.test_seal import FOREIGN


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's apt, with a mirror and a proxy of our own."""
    sources = tmp_path / "sources.list"
    lines = [f"deb http://mirror.example/{suite} {suite} main" for suite in mirrors.SUITES]
    sources.write_text("\n".join(lines) + "\n")
    settings = tmp_path / "apt.conf"
    settings.write_text(
        f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(settings))
    return sources


def test_the_machines_mirrors_are_used(apt: Path) -> None:
    assert mirrors.apt_sources() == {suite: f"http://mirror.example/{suite}" for suite in mirrors.SUITES}


def test_a_missing_suite_is_told(apt: Path) -> None:
    apt.write_text(apt.read_text().replace("bookworm-security main", "trixie main"))
    with pytest.raises(KilnError, match="bookworm-security"):
        mirrors.apt_sources()


def test_the_proxy_goes_along_and_sources_are_signed_by_debian(apt: Path, tmp_path: Path) -> None:
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in mirrors.apt_config(Path("/x"))
    assert all("signed-by=/usr/share/keyrings/debian" in line for line in mirrors.source_lines({"a": "b"}))


def test_the_base_is_made_of_main_alone_and_the_resolver_knows_the_drivers_components() -> None:
    base, resolver = mirrors.source_lines({"a": "b"}), mirrors.source_lines({"a": "b"}, mirrors.COMPONENTS)
    assert base[0].endswith(" b a main")
    assert resolver[0].endswith(" b a main contrib non-free non-free-firmware")


def test_a_loan_holds_the_index_and_the_certificates(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    resolver = tmp_path / "resolver"
    resolver.mkdir()
    (resolver / "sources.list").write_text("deb x y z\n")
    loan = mirrors.lend(tmp_path, resolver, {"modules.deb": tmp_path / "some.deb"})
    assert loan.environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert loan.environment["PIP_INDEX_URL"] == "https://index.example/simple"
    assert loan.environment["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert loan.environment["APT_CONFIG"] == "/run/kiln-build/apt.conf"
    assert loan.volumes[-1] == f"{tmp_path}/some.deb:/run/kiln-build/modules.deb:ro"
    inside = [volume.split(":")[1] for volume in loan.volumes]
    assert all(path.startswith("/run/") for path in inside), "a mount point would stay in the image"
    # None of these may stay in an image, and its check knows each; the rest names nothing of this machine.
    harmless = {"DEBIAN_FRONTEND", "UV_LINK_MODE", "PIP_NO_CACHE_DIR", "PIP_DEFAULT_TIMEOUT"}
    known = {name for name in loan.environment if FOREIGN.search(f'Environment="{name}=x"')}
    assert loan.environment.keys() - known <= harmless


def test_uv_takes_the_index_of_pips_settings(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://settings.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    (tmp_path / "sources.list").write_text("deb x y z\n")
    loan = mirrors.lend(tmp_path, tmp_path)
    assert loan.environment["UV_DEFAULT_INDEX"] == "https://settings.example/simple"
    # Who set uv apart is not overruled.
    monkeypatch.setenv("UV_INDEX_URL", "https://uv.example/simple")
    assert "UV_DEFAULT_INDEX" not in mirrors.lend(tmp_path, tmp_path).environment
