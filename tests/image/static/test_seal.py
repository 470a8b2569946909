"""What must not be in an image: the build, the machine that built it, anybody's way in."""

from __future__ import annotations

import csv
import os
import re
import ssl

import pytest
from testinfra.host import Host

from tests.image import openpgp
from tests.image.reviewed import KEYS_EVERYWHERE, KEYS_SIGNED_BY, PRIVILEGED, REPOSITORIES, WRITABLE
from tests.image.tree import Tree, settings, shown

UNSIGNED = re.compile(r"(?i)(trusted|allow-[a-z-]+)\s*[=:]\s*(yes|true|1)")

pytestmark = pytest.mark.sealed

RELEASE_KEYS = {"IMAGE", "VERSION", "INPUT_DIGEST", "GIT_COMMIT", "BASE"}
EXAMPLE = "/usr/share/doc/apt/examples/sources.list"
"""The public upstreams as the distribution's own apt package writes them."""


def _uris(text: str) -> set[str]:
    lines = "\n".join(line.split("#")[0] for line in text.splitlines())
    return {uri.rstrip("/") for uri in re.findall(r"[a-z+]+:/[^\s\]]*", lines)}


SECRETS = (
    "*/.netrc", "*/.pypirc", "*/.git-credentials", "*/.aws/credentials",
    "*/.docker/config.json", "*/.kube/config",
    "*/.ssh/id_*", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*", "/root/.config/gcloud/*", "*/.vault-token",
    "/root/.gnupg/*", "/home/*/.gnupg/*",
)  # fmt: skip
SECRET_TEXTS = (
    r"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY",
    r"(AKIA|ASIA)[A-Z2-7]{16}([^A-Z0-9]|$)",
    r"aws_secret_access_key[[:space:]]*=[[:space:]]*[A-Za-z0-9/+]{40}",
    r"(ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{36}",
    r"github_pat_[A-Za-z0-9_]{50}",
    r"hf_[A-Za-z0-9]{34}",
    r"nvapi-[A-Za-z0-9_-]{40}",
    r"xox[abprs]-[A-Za-z0-9-]{20}",
    r"://[^/[:space:]:@\"']+:[^/[:space:]@\"']+@[A-Za-z0-9]",
)
"""What keys and tokens look like: PEM, AWS, GitHub, Hugging Face, NGC, Slack, a password in an address."""

SECRET_KIB = 512
"""Larger files are no keys."""

FOREIGN = re.compile(
    r"(?i)\b(\w*_proxy|(pip|uv|apt)_(?!no_cache_dir|link_mode|default_timeout|disable_pip_version_check)\w+"
    r"|(default[-_])?index([-_]url)?|find[-_]links|(trusted|insecure)[-_]host"
    r"|ssl_cert_\w+|\w*ca[-_]?(cert|bundle|info)\w*)\b.*[=:]"
)
"""Settings of a proxy, an index or a certificate, whatever else stands in their line."""


def text(host: Host, path: str) -> str:
    found = host.file(path)
    return found.content_string if found.exists else ""


def test_no_ssh_host_key(tree: Tree) -> None:
    found = tree.matching("/etc/ssh/ssh_host_*")
    assert not found, f"ssh host key in the image, every instance would share it: {shown(found)}"


def test_no_authorized_keys(tree: Tree) -> None:
    found = tree.files(tree.matching("*/authorized_keys*"))
    found = [path for path in found if not path.startswith("/opt/")]
    assert not found, f"authorized_keys opens every instance: {shown(found)}"


def test_machine_id_is_empty(host: Host, tree: Tree) -> None:
    assert "/etc/machine-id" in tree, (
        "/etc/machine-id is missing: the first boot would enable every unit anew"
    )
    said = text(host, "/etc/machine-id").strip()
    assert said in ("", "uninitialized"), f"machine-id is filled, every instance would share it: {said}"
    assert "/var/lib/dbus/machine-id" not in tree or tree["/var/lib/dbus/machine-id"].kind == "l", (
        "machine-id of the build is left in /var/lib/dbus/machine-id"
    )


def test_no_random_seed(tree: Tree) -> None:
    found = [
        path
        for path in ("/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret")
        if path in tree
    ]
    assert not found, f"random seed in the image, every instance would share it: {shown(found)}"


def test_no_password_opens_an_account(host: Host) -> None:
    fields = [line.split(":")[:2] for line in text(host, "/etc/shadow").splitlines()]
    assert fields, "/etc/shadow is missing or empty"
    opened = [name for name, field in fields if field[:1] not in ("!", "*")]
    assert not opened, f"password set or empty for: {shown(opened)}"
    assert "root" in {name for name, _ in fields}, "root is not in /etc/shadow"


def test_only_root_has_uid_0(host: Host) -> None:
    others = [
        line.split(":")[0] for line in text(host, "/etc/passwd").splitlines() if line.split(":")[2] == "0"
    ]
    assert others == ["root"], f"accounts with uid 0: {shown(others)}"


def test_no_credentials(tree: Tree) -> None:
    found = tree.files(tree.matching(*SECRETS))
    assert not found, f"credentials in the image: {shown(found)}"


def brought(host: Host, paths: list[str]) -> set[str]:
    """Those of the paths that a package of Debian or of Python has brought; no setting counts as such."""
    listed = host.run("cat /var/lib/dpkg/info/*.list").stdout.splitlines()
    known = {f"/usr{path}" if path.startswith(("/bin/", "/sbin/", "/lib")) else path for path in listed}
    for site in {path.partition("/site-packages/")[0] for path in paths if "/site-packages/" in path}:
        rows = csv.reader(host.run(f"cat {site}/site-packages/*.dist-info/RECORD").stdout.splitlines())
        known |= {f"{site}/site-packages/{row[0]}" for row in rows if row}
    return {path for path in paths if path in known and not path.startswith("/etc/")}


def test_no_secret_is_written_anywhere(host: Host) -> None:
    said = host.run(
        f"find / -xdev -type f -size -{SECRET_KIB}k ! -name '*.pyc' -print0 | xargs -0 grep -lIE "
        + " ".join("-e %s" for _ in SECRET_TEXTS),
        *SECRET_TEXTS,
    )
    # xargs says 123 where grep found nothing in one of its runs.
    assert said.rc in (0, 123), f"the root cannot be searched: {said.stderr[-200:]}"
    paths = said.stdout.splitlines()
    found = sorted(set(paths) - brought(host, paths))
    assert not found, f"private key or token in the image: {shown(found)}"


def test_no_histories(tree: Tree) -> None:
    found = tree.matching(
        "/root/.*_history", "/home/*/.*_history", "*/.lesshst", "*/.viminfo", "*/.wget-hsts"
    )
    assert not found, f"history of whoever worked here: {shown(found)}"


def test_logs_are_empty(tree: Tree) -> None:
    found = [path for path in tree.files(tree.below("/var/log")) if tree[path].size]
    assert not found, f"log of the build: {shown(found)}"


def test_no_journal(tree: Tree) -> None:
    found = tree.below("/var/log/journal")
    assert not found, f"journal of the build: {shown(found)}"


def test_tmp_is_empty(tree: Tree) -> None:
    found = tree.below("/tmp", "/var/tmp")
    assert not found, f"temporary files of the build: {shown(found)}"


def test_no_cloud_init_data(tree: Tree) -> None:
    found = tree.below("/var/lib/cloud")
    assert not found, (
        f"cloud-init's data of another instance, the first boot would not be one: {shown(found)}"
    )


def test_apt_caches_are_gone(tree: Tree) -> None:
    found = [
        *tree.files(tree.below("/var/lib/apt/lists")),
        *tree.matching("/var/cache/apt/*.bin", "/var/cache/apt/*.deb"),
    ]
    assert not found, f"apt's lists or archives: {shown(found)}"


def test_package_caches_are_gone(tree: Tree) -> None:
    found = tree.below("/root/.cache", "/var/cache/pip", "/opt/uv-cache") + tree.matching(
        "/home/*/.cache/*", "*/.cache/uv", "*/.cache/pip"
    )
    assert not found, f"cache of pip, uv or a user: {shown(found)}"


def apt_sources(host: Host, tree: Tree) -> list[str]:
    """Each line of a .list file and each paragraph of a .sources file, without comments (sources.list(5)).

    File by file: joined, the end of one file and the start of the next would read as one source.
    """
    found = []
    for path in tree.matching("/etc/apt/sources.list", "/etc/apt/sources.list.d/*"):
        lines = text(host, path).splitlines()
        if path.endswith(".sources"):
            kept = [line for line in lines if not line.startswith("#")]
            found += re.split(r"\n\s*\n", "\n".join(kept))
        else:
            found += [line.split("#")[0] for line in lines]
    return [source.strip() for source in found if source.strip()]


def test_apt_sources_are_public(host: Host, tree: Tree) -> None:
    uris, public = _uris("\n".join(apt_sources(host, tree))), _uris(host.file(EXAMPLE).content_string)
    strange = sorted(uri for uri in uris - public - REPOSITORIES.keys() if not uri.startswith("/"))
    assert not strange, f"mirror of the build machine in apt's sources: {shown(strange)}"
    assert uris >= public, f"apt's sources lack the public {shown(sorted(public - uris))}"


def test_every_repository_is_signed(host: Host, tree: Tree) -> None:
    sources = apt_sources(host, tree)
    public = _uris(host.file(EXAMPLE).content_string)
    loose = [source for source in sources if UNSIGNED.search(source)]
    assert not loose, f"a repository whose packages nobody signs: {shown(loose)}"
    # A key of its own, so that no other repository's counts.
    bare = [part for part in sources if _uris(part) - public and not re.search("(?i)signed-by", part)]
    assert not bare, f"a repository without a key of its own: {shown(bare)}"


def test_keys_of_repositories_were_reviewed(host: Host, tree: Tree) -> None:
    sources = "\n".join(apt_sources(host, tree))
    everywhere = tree.files(tree.matching("/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d/*"))
    named = re.findall(r"(?i)signed-by\s*[=:]\s*([^\s\]]+)", sources)
    own = set(tree.files(tree.below("/etc/apt/keyrings"))) | set(",".join(named).split(",")) - {""}
    allowed = dict.fromkeys(everywhere, KEYS_EVERYWHERE) | dict.fromkeys(
        sorted(own), KEYS_EVERYWHERE | KEYS_SIGNED_BY
    )
    assert everywhere, "apt has no key"
    strange = []
    for path, known in allowed.items():
        for key in openpgp.fingerprints(host.file(path).content):
            if key not in known:
                strange.append(f"{path} {key}")
    assert not strange, f"a key that nobody reviewed: {shown(strange)}"


def test_apt_settings_are_public(host: Host) -> None:
    said = host.run(
        "cd /etc; grep -rhvsE '^ *(//|#|$)' apt/apt.conf apt/apt.conf.d dpkg/dpkg.cfg dpkg/dpkg.cfg.d"
    ).stdout
    strange = [
        line.strip()
        for line in said.splitlines()
        if re.search(r"(?i)acquire|proxy|mirror|unsafe|allow|insecure|trusted", line)
    ]
    assert not strange, f"setting of the build machine in apt or dpkg: {shown(strange)}"


def test_pip_and_uv_settings_are_public(host: Host, tree: Tree) -> None:
    files = tree.files(
        tree.matching(
            "/etc/pip.conf",
            "/etc/xdg/pip/*",
            "/etc/uv/*",
            "*/pip.conf",
            "*/.pip/*",
            "*/.config/uv/*",
            "*/uv.toml",
        )
    )
    found = [path for path in files if not path.startswith(("/usr/share/", "/usr/lib/python3/"))]
    assert not found, f"settings of pip or uv from the build machine: {shown(found)}"


def test_environment_is_public(host: Host) -> None:
    # Of systemd also the drop-ins: of its own programs, and of any unit.
    places = (
        "environment profile profile.d/* bash.bashrc default/* kiln/*.env wgetrc environment.d/*"
        " systemd/*.conf systemd/*.conf.d/* systemd/*/*.service systemd/*/*.d/*"
    )
    said = host.run(f"cd /etc; cat {places} 2>/dev/null").stdout
    strange = [line.strip() for line in said.splitlines() if FOREIGN.search(line.split("#")[0])]
    assert not strange, (
        f"proxy, index or certificate of the build machine in the environment: {shown(strange)}"
    )


def test_certificates_are_debians(host: Host, tree: Tree) -> None:
    local = tree.files(tree.below("/usr/local/share/ca-certificates"))
    assert not local, f"certificate authority of the build machine: {shown(local)}"
    enabled = [
        line for line in text(host, "/etc/ca-certificates.conf").splitlines() if line and line[0] not in "#!"
    ]
    wanted = host.run("cd /usr/share/ca-certificates && cat " + " ".join(enabled)).stdout
    bundle = text(host, "/etc/ssl/certs/ca-certificates.crt")
    assert bundle, "/etc/ssl/certs/ca-certificates.crt is missing"
    known, found = ({ssl.PEM_cert_to_DER_cert(pem) for pem in pems(said)} for said in (wanted, bundle))
    assert found <= known, f"{len(found - known)} certificate authorities in the bundle are not Debian's"
    assert found == known, (
        f"{len(known - found)} of Debian's certificate authorities are missing from the bundle"
    )


def pems(said: str) -> list[str]:
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said, re.DOTALL)


def test_release_is_complete(host: Host) -> None:
    said = settings(text(host, "/etc/image-release"))
    assert said.keys() == RELEASE_KEYS, f"/etc/image-release has {shown(sorted(said)) or 'nothing'}"
    empty = [key for key, value in said.items() if not value]
    assert not empty, f"/etc/image-release says nothing for {shown(empty)}"
    base = said["BASE"]
    assert re.match(r"debian-12@|ami-", base), f"/etc/image-release names no base that we know: {base}"
    version = os.environ.get("KILN_VERSION", said["VERSION"])
    assert said["VERSION"] == version, f"/etc/image-release is of {said['VERSION']} and not of {version}"


def test_nothing_is_writable_by_everybody(tree: Tree) -> None:
    # What is below these is another check's: they are empty.
    open_to_all = {*WRITABLE, *tree.below(*WRITABLE)}
    found = [
        path
        for path, entry in tree.entries.items()
        if entry.kind in "fd"
        and entry.mode & 0o002
        and not (entry.kind == "d" and entry.mode & 0o1000 and path in open_to_all)
    ]
    assert not found, f"world-writable: {shown(found)}"


def test_suid_files_were_reviewed(tree: Tree) -> None:
    found = [
        path
        for path, entry in tree.entries.items()
        if entry.kind == "f" and entry.mode & 0o6000 and path not in PRIVILEGED
    ]
    assert not found, f"set-uid or set-gid program that nobody reviewed: {shown(found)}"


def test_no_name_of_the_build_machine(host: Host) -> None:
    name = text(host, "/etc/hostname").strip()
    hosts = [line for line in text(host, "/etc/hosts").splitlines() if line.split("#")[0].strip()]
    strange = [line for line in hosts if "localhost" not in line and "ip6-" not in line]
    if host.backend.get_connection_type() == "chroot":  # an engine mounts its own over both
        assert name in ("", "localhost"), f"/etc/hostname is the build machine's: {name}"
        assert not strange, f"/etc/hosts names the build's network: {shown(strange)}"


def test_no_resolver_of_the_build_machine(host: Host, tree: Tree) -> None:
    if (
        "/etc/resolv.conf" in tree
        and tree["/etc/resolv.conf"].kind == "f"
        and host.backend.get_connection_type() == "chroot"
    ):
        said = text(host, "/etc/resolv.conf").strip()
        assert not said, f"/etc/resolv.conf is the build machine's: {said.splitlines()[0]}"


def test_no_trace_of_the_builder(host: Host, tree: Tree) -> None:
    paths = (
        "/packer-files",
        "/.dockerenv",
        "/run/.containerenv",
        "/usr/sbin/policy-rc.d",
        "/run/kiln-build",
        "/run/kiln-seal",
    )
    found = [path for path in (*paths, *tree.matching("*/.ansible", "*/.ansible-kiln*")) if path in tree]
    assert not found, f"left by the build: {shown(found)}"
    said = host.run("grep -rslIF %s /etc /root /home /usr/local /var/lib/cloud", "/run/kiln-build").stdout
    assert not said, f"names the folder that the build was lent: {shown(said.split())}"
