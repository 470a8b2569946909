"""What must not be in an image: the build, the machine that built it, anybody's way in."""

from __future__ import annotations

import csv
import json
import os
import re
import ssl

import pytest
from testinfra.host import Host

from kiln.manifest import SHA256_PATTERN, VERSION_PATTERN
from tests.image import apt, openpgp
from tests.image.apt import Source
from tests.image.asking import lines, naming, owned, said, text, text_or_nothing
from tests.image.reviewed import (
    CAPABILITIES,
    KEYS_EVERYWHERE,
    KEYS_SIGNED_BY,
    PRIVILEGED,
    REPOSITORIES,
    WRITABLE,
)
from tests.image.tree import Entry, Tree, settings, shown

pytestmark = pytest.mark.sealed

RELEASE = {
    "IMAGE": r"^[a-z0-9-]+$",
    "VERSION": VERSION_PATTERN,
    "INPUT_DIGEST": SHA256_PATTERN,
    "GIT_COMMIT": r"^([0-9a-f]{40}|none)(-dirty)?$",
    "BASE": r"^(debian-12@[0-9a-f]{8,64}|ami-[0-9a-f]{8,17})$",
}
"""Key of /etc/image-release → what it says in every image."""

EXAMPLE = "/usr/share/doc/apt/examples/sources.list"
"""The public upstreams as the distribution's own apt package writes them."""


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


def test_no_ssh_host_key(tree: Tree) -> None:
    found = tree.matching("/etc/ssh/ssh_host_*")
    assert not found, f"ssh host key in the image, every instance would share it: {shown(found)}"


def test_no_authorized_keys(tree: Tree) -> None:
    # The manual is not a way in.
    found = [
        path
        for path in tree.matching("*/authorized_keys*")
        if tree[path].kind != "d" and not path.startswith("/usr/share/man/")
    ]
    assert not found, f"authorized_keys opens every instance: {shown(found)}"


def test_machine_id_is_empty(host: Host, tree: Tree) -> None:
    assert "/etc/machine-id" in tree, (
        "/etc/machine-id is missing: the first boot would enable every unit anew"
    )
    found = text(host, "/etc/machine-id").strip()
    assert found in ("", "uninitialized"), f"machine-id is filled, every instance would share it: {found}"
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
    known = owned(host)
    for site in {path.partition("/site-packages/")[0] for path in paths if "/site-packages/" in path}:
        rows = csv.reader(said(host, f"cat {site}/site-packages/*.dist-info/RECORD").splitlines())
        known |= {f"{site}/site-packages/{row[0]}" for row in rows if row}
    return {path for path in paths if path in known and not path.startswith("/etc/")}


def test_no_secret_is_written_anywhere(host: Host) -> None:
    # xargs says 123 where grep found nothing in one of its runs.
    paths = said(
        host,
        f"find / -xdev -type f -size -{SECRET_KIB}k ! -name '*.pyc' -print0 | xargs -0 grep -lIE "
        + " ".join("-e %s" for _ in SECRET_TEXTS),
        *SECRET_TEXTS,
        accepted=(0, 123),
    ).splitlines()
    found = sorted(set(paths) - brought(host, paths))
    assert not found, f"private key or token in the image: {shown(found)}"


def test_no_histories(tree: Tree) -> None:
    found = tree.matching("*/.*_history", "*/.lesshst", "*/.viminfo", "*/.wget-hsts")
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


@pytest.fixture(scope="module")
def sources(host: Host, tree: Tree) -> list[Source]:
    """What apt takes packages from."""
    paths = tree.matching("/etc/apt/sources.list", "/etc/apt/sources.list.d/*")
    return [source for path in paths for source in apt.sources(path, text(host, path))]


@pytest.fixture(scope="module")
def public(host: Host) -> list[Source]:
    """What Debian's own apt would take packages from."""
    found = list(apt.sources(EXAMPLE, text(host, EXAMPLE)))
    assert found, f"{EXAMPLE} names no source"
    return found


def repositories(sources: list[Source]) -> set[str]:
    return {one for source in sources for one in source.repositories}


def test_apt_sources_are_public(sources: list[Source], public: list[Source]) -> None:
    found, wanted = repositories(sources), repositories(public)
    strange = sorted(found - wanted - REPOSITORIES.keys())
    assert not strange, f"mirror of the build machine, or another suite, in apt's sources: {shown(strange)}"
    assert found >= wanted, f"apt's sources lack the public {shown(sorted(wanted - found))}"


def test_every_repository_is_signed(sources: list[Source], public: list[Source]) -> None:
    loose = [f"{source} ({shown(source.loose)})" for source in sources if source.loose]
    assert not loose, f"a repository whose packages nobody signs: {shown(loose)}"
    # A key of its own, so that no other repository's counts.
    own = repositories(public)
    bare = [str(s) for s in sources if s.repositories - own and not s.options.get("signed-by", "").strip()]
    assert not bare, f"a repository without a key of its own: {shown(bare)}"


def keys_in(where: str, keyring: bytes) -> list[str]:
    try:
        return openpgp.fingerprints(keyring)
    except AssertionError as error:
        raise AssertionError(f"{where} holds what is no keyring: {error}") from error


def test_keys_of_repositories_were_reviewed(host: Host, tree: Tree, sources: list[Source]) -> None:
    everywhere = tree.matching("/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d/*")
    assert everywhere, "apt has no key"
    named = [(source, source.signed_by) for source in sources]
    own = {path for path in tree.below("/etc/apt/keyrings") if tree[path].kind != "d"}
    own |= {path for _, keys in named for path in keys.keyrings}
    missing = sorted(path for path in own if path not in tree)
    assert not missing, f"apt's sources name a keyring that is not there: {shown(missing)}"
    # Where a key comes from, and its fingerprint.
    found = [(path, key) for path in {*everywhere, *own} for key in keys_in(path, host.file(path).content)]
    strange = {f"{path} {key}" for path, key in found if path in everywhere and key not in KEYS_EVERYWHERE}
    found += [(str(source), key) for source, keys in named for key in keys.fingerprints]
    found += [
        (str(source), key)
        for source, keys in named
        for block in keys.blocks
        for key in keys_in(str(source), block.encode())
    ]
    strange |= {f"{where} {key}" for where, key in found if key not in KEYS_EVERYWHERE | KEYS_SIGNED_BY}
    assert not strange, f"a key that nobody reviewed: {shown(sorted(strange))}"


def test_apt_settings_are_public(host: Host, tree: Tree) -> None:
    found = lines(
        host, tree,
        "/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*", "/etc/dpkg/dpkg.cfg", "/etc/dpkg/dpkg.cfg.d/*",
    )  # fmt: skip
    strange = [
        line.strip()
        for line in found
        if not re.match(r" *(//|#)", line)
        and re.search(r"(?i)acquire|proxy|mirror|unsafe|allow|insecure|trusted|dir::etc", line)
    ]
    assert not strange, f"setting of the build machine in apt or dpkg: {shown(strange)}"


def test_pip_and_uv_settings_are_public(tree: Tree) -> None:
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


def test_environment_is_public(host: Host, tree: Tree) -> None:
    # Of systemd also the drop-ins: of its own programs, and of any unit.
    names = (
        "environment", "profile", "profile.d/*", "bash.bashrc", "default/*", "kiln/*.env", "wgetrc",
        "environment.d/*", "systemd/*.conf", "systemd/*.service",
    )  # fmt: skip
    found = lines(host, tree, *(f"/etc/{name}" for name in names), leaving=["*.wants/*", "*.requires/*"])
    strange = [line.strip() for line in found if FOREIGN.search(line.split("#")[0])]
    assert not strange, (
        f"proxy, index or certificate of the build machine in the environment: {shown(strange)}"
    )


def test_certificates_are_debians(host: Host, tree: Tree) -> None:
    local = tree.files(tree.below("/usr/local/share/ca-certificates"))
    assert not local, f"certificate authority of the build machine: {shown(local)}"
    enabled = [
        line for line in text(host, "/etc/ca-certificates.conf").splitlines() if line and line[0] not in "#!"
    ]
    assert enabled, "/etc/ca-certificates.conf enables nothing"
    wanted = said(host, "cd /usr/share/ca-certificates && cat " + " ".join("%s" for _ in enabled), *enabled)
    bundle = text(host, "/etc/ssl/certs/ca-certificates.crt")
    assert bundle, "/etc/ssl/certs/ca-certificates.crt is missing"
    known, found = ({ssl.PEM_cert_to_DER_cert(pem) for pem in pems(one)} for one in (wanted, bundle))
    assert found <= known, f"{len(found - known)} certificate authorities in the bundle are not Debian's"
    assert found == known, (
        f"{len(known - found)} of Debian's certificate authorities are missing from the bundle"
    )


def pems(bundle: str) -> list[str]:
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.DOTALL)


def test_release_is_complete(host: Host) -> None:
    found = settings(text(host, "/etc/image-release"))
    assert found.keys() == RELEASE.keys(), f"/etc/image-release has {shown(sorted(found)) or 'nothing'}"
    wrong = [f"{key}={found[key]}" for key, pattern in RELEASE.items() if not re.match(pattern, found[key])]
    assert not wrong, f"/etc/image-release says what no bake writes: {shown(wrong)}"
    version, digest = found["VERSION"], found["INPUT_DIGEST"]
    assert version.endswith(f"-{digest[:8]}"), f"/etc/image-release: {version} is not of the inputs {digest}"
    asked = os.environ.get("KILN_VERSION", version)
    assert version == asked, f"/etc/image-release is of {version} and not of {asked}"


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


def names(host: Host, kind: str) -> dict[int, str]:
    """Number of a user or group → its name: the first counts."""
    rows = [line.split(":") for line in text(host, f"/etc/{kind}").splitlines()]
    return {int(row[2]): row[0] for row in reversed(rows) if len(row) > 2}


def test_suid_files_were_reviewed(host: Host, tree: Tree) -> None:
    users, groups = names(host, "passwd"), names(host, "group")

    def owners(entry: Entry) -> str:
        return f"{users.get(entry.uid, entry.uid)}:{groups.get(entry.gid, entry.gid)}"

    # The numbers of most groups are those that were free when their package came: names are compared.
    found = {
        path: f"{entry.mode:o} {owners(entry)}"
        for path, entry in tree.entries.items()
        if entry.kind == "f" and entry.mode & 0o6000
    }
    strange = [f"{path} {bits}" for path, bits in found.items() if PRIVILEGED.get(path, {}).get("is") != bits]
    assert not strange, f"set-uid or set-gid program that nobody reviewed as it is: {shown(strange)}"


# The image need not have getcap; every image has Python.
_CAPABILITIES = """
import errno, json, os
GONE, NONE = {errno.ENOENT}, {errno.ENOENT, errno.ENODATA, errno.ENOTSUP}

def fail(error):
    if error.errno not in GONE:
        raise error

found, device = {}, os.stat("/").st_dev
for folder, folders, names in os.walk("/", onerror=fail):
    if os.stat(folder).st_dev != device:
        folders.clear()
        continue
    for path in (os.path.join(folder, name) for name in names):
        try:
            found[path] = os.getxattr(path, "security.capability", follow_symlinks=False).hex()
        except OSError as error:
            if error.errno not in NONE:
                raise
print(json.dumps(found))
"""


def test_capabilities_of_files_were_reviewed(host: Host) -> None:
    found: dict[str, str] = json.loads(said(host, "python3 -I -c %s", _CAPABILITIES))
    strange = [
        f"{path} {bits}"
        for path, bits in sorted(found.items())
        if CAPABILITIES.get(path, {}).get("is") != bits
    ]
    assert not strange, f"capabilities of a program that nobody reviewed: {shown(strange)}"


def test_no_name_of_the_build_machine(host: Host) -> None:
    name = text_or_nothing(host, "/etc/hostname").strip()
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
        found = text(host, "/etc/resolv.conf").strip()
        assert not found, f"/etc/resolv.conf is the build machine's: {found.splitlines()[0]}"


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
    folders = ("/etc", "/root", "/home", "/usr/local", "/var/lib/cloud")
    lent = naming(host, tree, "/run/kiln-build", *folders)
    assert not lent, f"names the folder that the build was lent: {shown(lent)}"
