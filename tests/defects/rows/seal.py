"""Defects that role seal should have taken away: of the build, of its machine, of somebody's way in."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from kiln import paths
from tests.defects.defect import Defect, Plant, change, folder, link, mode, owner, several, static, write
from tests.image.reviewed import REPOSITORIES

UNITS = "etc/systemd/system"
SITE = "opt/monai-label/venv/lib/python3.11/site-packages"
STRANGER = paths.ROOT / "tests/fixtures/nvidia_repository/keyring.asc"
STRANGERS = "45C0B2A191069542EB6224D803B884ECEB3A86CC"
"""A key that no image knows, and its fingerprint."""
DEBIAN_KEY = "/etc/apt/trusted.gpg.d/debian-archive-bookworm-automatic.asc"
"""A key that every image has."""
VENDOR = next(iter(REPOSITORIES)).split()[0]
"""Address of a repository that was reviewed, with its only suite."""
UPDATES = """
Types: deb
URIs: DISTRIBUTION
Suites: bookworm-updates
Components: main contrib non-free non-free-firmware
"""
"""A source that every image has, in the other format."""


def write_source(name: str, text: str) -> Plant:
    """Write a source; DISTRIBUTION stands for the address that the image has of it."""

    def plant(root: Path) -> None:
        found = re.search(
            r"^deb +(?:\[.*?\] +)?(\S+) bookworm ", (root / "etc/apt/sources.list").read_text(), re.MULTILINE
        )
        assert found, "etc/apt/sources.list does not name bookworm"
        write(name, text.replace("DISTRIBUTION", found[1]))(root)

    return plant


def indented(text: str) -> str:
    """A block as the value of a field."""
    return "".join(f"\n {line or '.'}" for line in text.splitlines())


def unsummed(text: str) -> str:
    """An armoured key without its checksum, which apt takes all the same."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("="))


def capable(root: Path) -> None:
    """A program that may do what CAP_SYS_ADMIN allows, whoever starts it."""
    path = root / "usr/local/bin/mounter"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    os.setxattr(path, "security.capability", struct.pack("<5I", 0x02000001, 1 << 21, 0, 0, 0))


STATIC = [
    Defect(
        "ssh host key",
        write("etc/ssh/ssh_host_rsa_key.pub"),
        static("test_seal::test_no_ssh_host_key"),
        ("ssh_host_rsa_key",),
    ),
    Defect(
        "authorized_keys",
        write("srv/robot/.ssh/authorized_keys2"),
        static("test_seal::test_no_authorized_keys"),
        ("authorized_keys2",),
    ),
    Defect(
        "authorized_keys that a link leads to",
        link("opt/robot/.ssh/authorized_keys", "/srv/robot/keys"),
        static("test_seal::test_no_authorized_keys"),
        ("/opt/robot/.ssh/authorized_keys",),
    ),
    Defect(
        "filled machine-id",
        write("etc/machine-id", "0" * 32 + "\n", 0o444),
        static("test_seal::test_machine_id_is_empty"),
        ("machine-id is filled",),
    ),
    Defect(
        "random seed",
        write("var/lib/systemd/random-seed"),
        static("test_seal::test_no_random_seed"),
        ("random seed",),
    ),
    Defect(
        "password of root",
        change("etc/shadow", r"^root:\*", "root:$y$j9T$x"),
        static("test_seal::test_no_password_opens_an_account"),
        ("root",),
    ),
    Defect(
        "second account with uid 0",
        change("etc/passwd", r"\Z", "toor:x:0:0::/root:/bin/sh\n"),
        static("test_seal::test_only_root_has_uid_0"),
        ("toor",),
    ),
    Defect(
        ".netrc",
        write("root/.netrc", mode=0o600),
        static("test_seal::test_no_credentials"),
        ("/root/.netrc",),
    ),
    Defect(
        "private key",
        write("etc/ssl/private/build.key", "-----BEGIN RSA " + "PRIVATE KEY-----\n", 0o600),
        static("test_seal::test_no_secret_is_written_anywhere"),
        ("/etc/ssl/private/build.key",),
    ),
    Defect(
        "private key of the build in the environment",
        write(f"{SITE}/certifi/build.pem", "-----BEGIN " + "PRIVATE KEY-----\n"),
        static("test_seal::test_no_secret_is_written_anywhere"),
        ("certifi/build.pem",),
    ),
    Defect(
        "key of an AWS account",
        write("usr/share/build/settings.ini", "key = AKIA" + "Q" * 16 + "\n"),
        static("test_seal::test_no_secret_is_written_anywhere"),
        ("/usr/share/build/settings.ini",),
    ),
    Defect(
        "password of an index in a setting of a package",
        write("etc/wgetrc", "proxy = http://me:secret@mirror.build.example\n"),
        static("test_seal::test_no_secret_is_written_anywhere"),
        ("/etc/wgetrc",),
    ),
    Defect(
        "token of a model hub",
        write("srv/notes.txt", "hf_" + "a" * 34 + "\n"),
        static("test_seal::test_no_secret_is_written_anywhere"),
        ("/srv/notes.txt",),
    ),
    Defect(
        "shell history",
        write("root/.bash_history"),
        static("test_seal::test_no_histories"),
        (".bash_history",),
    ),
    Defect(
        "history of a service's account",
        write("srv/robot/.psql_history"),
        static("test_seal::test_no_histories"),
        ("/srv/robot/.psql_history",),
    ),
    Defect(
        "log of the build",
        write("var/log/dpkg.log"),
        static("test_seal::test_logs_are_empty"),
        ("dpkg.log",),
    ),
    Defect(
        "audit log of the build",
        write("var/log/audit/audit.log", mode=0o600),
        # Without auditd nothing rotates it.
        static("test_seal::test_logs_are_empty", "test_agents::test_logs_are_rotated"),
        ("audit.log",),
    ),
    Defect(
        "journal of the build",
        write("var/log/journal/0/system.journal", ""),
        static("test_seal::test_no_journal"),
        ("system.journal",),
    ),
    Defect(
        "temporary file",
        write("var/tmp/tmpabc.json"),
        static("test_seal::test_tmp_is_empty"),
        ("tmpabc.json",),
    ),
    Defect(
        "cloud-init's data of another instance",
        write("var/lib/cloud/instances/i-1/user-data.txt"),
        static("test_seal::test_no_cloud_init_data"),
        ("cloud",),
    ),
    Defect(
        "package lists",
        write("var/lib/apt/lists/mirror.example_Packages"),
        static("test_seal::test_apt_caches_are_gone"),
        ("_Packages",),
    ),
    Defect(
        "cache of pip",
        write("root/.cache/pip/http/a"),
        static("test_seal::test_package_caches_are_gone"),
        ("/root/.cache",),
    ),
    Defect(
        "build mirror in apt's sources",
        write(
            "etc/apt/sources.list.d/build.list",
            # Signed by Debian's key, as a mirror's packages are: what is wrong is the address alone.
            f"deb [signed-by={DEBIAN_KEY}] http://mirror.build.example/debian bookworm extra\n",
        ),
        static("test_seal::test_apt_sources_are_public"),
        ("mirror.build.example",),
    ),
    Defect(
        "another suite of Debian's own address",
        write_source(
            "etc/apt/sources.list.d/sid.list",
            f"deb [signed-by={DEBIAN_KEY}] DISTRIBUTION sid main contrib non-free non-free-firmware\n",
        ),
        static("test_seal::test_apt_sources_are_public"),
        ("/debian sid",),
    ),
    Defect(
        "repository without a signature",
        change("etc/apt/sources.list", "^deb ", "deb [trusted=yes] "),
        static("test_seal::test_every_repository_is_signed"),
        ("nobody signs", "trusted=yes"),
    ),
    Defect(
        "repository without a signature, by another word",
        write_source("etc/apt/sources.list.d/loose.sources", f"{UPDATES}Trusted: Enable\n"),
        static("test_seal::test_every_repository_is_signed"),
        ("nobody signs", "trusted=Enable"),
    ),
    Defect(
        "repository that may be weak and old",
        change("etc/apt/sources.list", "^deb ", "deb [allow-weak=on check-valid-until=no] "),
        static("test_seal::test_every_repository_is_signed"),
        ("allow-weak=on", "check-valid-until=no"),
    ),
    Defect(
        "vendor's repository that any key may sign",
        write(
            "etc/apt/sources.list.d/cuda.sources",
            f"Types: deb\nURIs: {VENDOR}\nSuites: /\n",
        ),
        static("test_seal::test_every_repository_is_signed"),
        ("without a key of its own",),
    ),
    Defect(
        "vendor's repository that any key may sign, after a signed one",
        several(
            write("etc/apt/sources.list.d/a.list", f"deb [signed-by={DEBIAN_KEY}] {VENDOR} /"),
            write(
                "etc/apt/sources.list.d/b.sources",
                f"Types: deb\nURIs: {VENDOR}\nSuites: /\n# Signed-By: {DEBIAN_KEY}\n",
            ),
        ),
        static("test_seal::test_every_repository_is_signed"),
        ("without a key of its own",),
    ),
    Defect(
        "key that nobody reviewed",
        several(
            write("etc/apt/trusted.gpg.d/build.asc", STRANGER.read_text()),
            write("etc/apt/keyrings/build.asc", STRANGER.read_text()),
        ),
        static("test_seal::test_keys_of_repositories_were_reviewed"),
        ("trusted.gpg.d/build.asc 45C0B2A1", "keyrings/build.asc 45C0B2A1"),
    ),
    Defect(
        "fingerprint that nobody reviewed, beside a keyring that was",
        write(
            "etc/apt/sources.list.d/vendor.sources",
            f"Types: deb\nURIs: {VENDOR}\nSuites: /\nSigned-By: {DEBIAN_KEY},{STRANGERS}!\n",
        ),
        static("test_seal::test_keys_of_repositories_were_reviewed"),
        (f"{VENDOR} / {STRANGERS}",),
    ),
    Defect(
        "key that nobody reviewed in the source itself",
        write(
            "etc/apt/sources.list.d/vendor.sources",
            f"Types: deb\nURIs: {VENDOR}\nSuites: /\nSigned-By:{indented(STRANGER.read_text())}\n",
        ),
        static("test_seal::test_keys_of_repositories_were_reviewed"),
        (f"{VENDOR} / {STRANGERS}",),
    ),
    Defect(
        "key that nobody reviewed after one that was, without a checksum",
        change(DEBIAN_KEY[1:], r"\Z", unsummed(STRANGER.read_text())),
        static("test_seal::test_keys_of_repositories_were_reviewed"),
        (f"{DEBIAN_KEY} {STRANGERS}",),
    ),
    Defect(
        "keyring that is not there",
        write(
            "etc/apt/sources.list.d/vendor.list",
            f"deb [signed-by=/usr/share/keyrings/vendor.gpg] {VENDOR} /\n",
        ),
        static("test_seal::test_keys_of_repositories_were_reviewed"),
        ("not there: /usr/share/keyrings/vendor.gpg",),
    ),
    Defect(
        "proxy in apt's settings",
        write("etc/apt/apt.conf.d/99build", 'Acquire::http::Proxy "http://proxy.build.example";\n'),
        static("test_seal::test_apt_settings_are_public"),
        ("proxy.build.example",),
    ),
    Defect(
        "settings of pip",
        write("etc/pip.conf", "[global]\n"),
        static("test_seal::test_pip_and_uv_settings_are_public"),
        ("/etc/pip.conf",),
    ),
    Defect(
        "settings of uv",
        write("etc/uv/uv.toml", "[pip]\n"),
        static("test_seal::test_pip_and_uv_settings_are_public"),
        ("/etc/uv/uv.toml",),
    ),
    Defect(
        "proxies in the environment",
        several(
            write("etc/profile.d/build.sh", "export UV_DEFAULT_INDEX='http://index.build.example'\n"),
            write("etc/default/build", "SSL_CERT_FILE=/etc/ssl/build.example.crt\n"),
            write("etc/environment", "https_proxy=http://proxy.build.example\n"),
            write(
                "etc/systemd/system.conf.d/build.conf",
                "[Manager]\nDefaultEnvironment=NO_CACHE=1 HTTP_PROXY=http://manager.build.example\n",
            ),
            write(
                f"{UNITS}/chrony.service.d/build.conf",
                "[Service]\nEnvironment=https_proxy=http://unit.build.example\n",
            ),
        ),
        # What changes a unit is one that nobody reviewed, too.
        static("test_seal::test_environment_is_public", "test_base::test_unit_files_were_reviewed"),
        (
            "proxy.build.example",
            "manager.build.example",
            "unit.build.example",
            "index.build.example",
            "/etc/ssl/build.example.crt",
        ),
    ),
    Defect(
        "certificate authority of the build machine",
        write("usr/local/share/ca-certificates/build.crt"),
        static("test_seal::test_certificates_are_debians"),
        ("build.crt",),
    ),
    Defect(
        "release without its base",
        change("etc/image-release", "^BASE=.*\n", ""),
        static("test_seal::test_release_is_complete"),
        ("VERSION",),
    ),
    Defect(
        "release of other inputs",
        change("etc/image-release", "^INPUT_DIGEST=........", "INPUT_DIGEST=00000000"),
        static("test_seal::test_release_is_complete"),
        ("is not of the inputs 00000000",),
    ),
    Defect(
        "release of a branch and of a base by name alone",
        several(
            change("etc/image-release", "^GIT_COMMIT=.*", "GIT_COMMIT=main"),
            change("etc/image-release", "^BASE=.*", "BASE=debian-12@"),
        ),
        static("test_seal::test_release_is_complete"),
        ("GIT_COMMIT=main", "BASE=debian-12@"),
    ),
    Defect(
        "world-writable file",
        write("usr/local/share/anybody.conf", "", 0o666),
        static("test_seal::test_nothing_is_writable_by_everybody"),
        ("/usr/local/share/anybody.conf",),
    ),
    Defect(
        "another sticky folder for everybody",
        folder("var/lib/shared", 0o1777),
        static("test_seal::test_nothing_is_writable_by_everybody"),
        ("/var/lib/shared",),
    ),
    Defect(
        "set-uid file",
        write("usr/local/bin/shell", mode=0o4755),
        static("test_seal::test_suid_files_were_reviewed"),
        ("/usr/local/bin/shell",),
    ),
    Defect(
        "set-uid where set-gid was reviewed",
        mode("usr/bin/chage", 0o4755),
        static("test_seal::test_suid_files_were_reviewed"),
        ("/usr/bin/chage 4755 root:shadow",),
    ),
    Defect(
        "set-gid for another group than was reviewed",
        several(owner("usr/bin/expiry", 0), mode("usr/bin/expiry", 0o2755)),
        static("test_seal::test_suid_files_were_reviewed"),
        ("/usr/bin/expiry 2755 root:root",),
    ),
    Defect(
        "program with capabilities",
        capable,
        static("test_seal::test_capabilities_of_files_were_reviewed"),
        ("/usr/local/bin/mounter",),
    ),
    Defect(
        "host name of the build machine",
        write("etc/hostname", "build-17\n"),
        static("test_seal::test_no_name_of_the_build_machine"),
        ("build-17",),
    ),
    Defect(
        "resolver of the build machine",
        write("etc/resolv.conf", "nameserver 10.1.2.3\n"),
        static("test_seal::test_no_resolver_of_the_build_machine"),
        ("10.1.2.3",),
    ),
    Defect(
        "a folder of the builder",
        write("packer-files/x"),
        static("test_seal::test_no_trace_of_the_builder"),
        ("/packer-files",),
    ),
]
