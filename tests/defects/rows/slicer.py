"""Defects of 3D Slicer: another build, another server, what updates itself, what stops a session's server."""

from __future__ import annotations

from tests.defects.defect import Defect, change, gone, mode, owner, several, static, write

HOME = "opt/slicer"
FACTS = "etc/kiln/slicer.json"
INI = f"{HOME}/slicer.org/Slicer.ini"
START_UP = f"{HOME}/kiln/slicerrc.py"
DESKTOP = "usr/share/applications/slicer.desktop"
EXTENSIONS = f"{HOME}/slicer.org/Extensions-*"

FOUND = "test_slicer::test_start_up_file_finds_the_server"

STATIC = [
    Defect(
        "stand-in that is said to be Slicer",
        change(FACTS, '"kind": "stand-in"', '"kind": "real"'),
        static("test_slicer::test_what_is_installed_is_what_is_said"),
        ("the image says real",),
    ),
    Defect(
        "another release than the image says",
        change(FACTS, '"version": "5.10.0"', '"version": "5.8.1"'),
        static("test_slicer::test_what_is_installed_is_what_is_said"),
        ("version is 5.10.0", "the image says 5.8.1"),
    ),
    Defect(
        "archive of another checksum",
        change(FACTS, '("slicer": ")[0-9a-f]{8}', r"\g<1>00000000"),
        static("test_slicer::test_archives_are_those_that_were_checked"),
        ("the archive of slicer is another",),
    ),
    Defect(
        "extension without a checksum",
        change(FACTS, '("sha256": {[^}]*"extension": ")[0-9a-f]{64}', r"\g<1>"),
        static("test_slicer::test_archives_are_those_that_were_checked"),
        ("the archive of extension has no checksum",),
    ),
    Defect(
        "extension for another revision",
        change(FACTS, '("archive": ")[0-9]+-', r"\g<1>33333-"),
        static("test_slicer::test_extension_is_of_this_revision"),
        ("33333-", "is not for revision 34045"),
    ),
    Defect(
        "extension that Slicer does not know",
        gone(f"{EXTENSIONS}/MONAILabel.s4ext"),
        static("test_slicer::test_extension_is_of_this_revision"),
        ("does not know the extension MONAILabel",),
    ),
    Defect(
        "extension without its module",
        gone(f"{EXTENSIONS}/MONAILabel/lib/Slicer-*/qt-scripted-modules/MONAILabel.py"),
        static("test_slicer::test_extension_is_of_this_revision"),
        ("has no MONAILabel.py",),
    ),
    Defect(
        "settings with the wrong server",
        change(INI, "^serverUrl=.*$", 'serverUrl="http://localhost:8000"'),
        static("test_slicer::test_settings_name_the_server"),
        ("Slicer.ini names the server http://localhost:8000",),
    ),
    Defect(
        "settings whose history Qt ends early",
        change(INI, "^serverUrlHistory=.*$", "serverUrlHistory=;http://monai-label.kiln.internal"),
        static("test_slicer::test_settings_name_the_server"),
        ("Slicer.ini offers",),
    ),
    Defect(
        "start-up file that knows another server",
        change(f"{HOME}/kiln/server.json", '("server_url": ")[^"]*', r"\g<1>http://localhost:8000"),
        static("test_slicer::test_settings_name_the_server", FOUND),
        ("the start-up file knows http://localhost:8000", "Slicer asks http://localhost:8000"),
    ),
    Defect(
        "another module shown first",
        change(INI, "^HomeModule=.*$", 'HomeModule="Data"'),
        static("test_slicer::test_module_is_shown_first"),
        ("Slicer shows Data first",),
    ),
    Defect(
        "extensions that update themselves",
        change(INI, "^AutoUpdateInstall=false$", "AutoUpdateInstall=true"),
        static("test_slicer::test_nothing_updates_itself"),
        ("Extensions/AutoUpdateInstall",),
    ),
    Defect(
        "updates left as they come",
        change(INI, r"^\[ApplicationUpdate\]\nAutoUpdateCheck=false$", "[ApplicationUpdate]"),
        static("test_slicer::test_nothing_updates_itself"),
        ("ApplicationUpdate/AutoUpdateCheck",),
    ),
    Defect(
        "start-up file that raises",
        write(START_UP, "raise RuntimeError('no session')\n"),
        # Slicer starts all the same, with what the settings say.
        static(FOUND),
        ("something raises as Slicer starts", "no session"),
    ),
    Defect(
        "start-up file that believes no session",
        write(START_UP, "print('all is as it was')\n"),
        static(FOUND),
        ("where a session says session, Slicer asks http://monai-label.kiln.internal",),
    ),
    Defect(
        "start-up file that believes everything",
        change(START_UP, r'parts\.scheme not in \("http", "https"\)', "False"),
        static(FOUND),
        ("where a session says nonsense, Slicer asks ftp://x",),
    ),
    Defect(
        "icon past the start-up file",
        change(DESKTOP, "^Exec=.*$", f"Exec=/{HOME}/Slicer %F"),
        static("test_slicer::test_every_start_reads_the_start_up_file"),
        ("the icon starts Slicer past the start-up file",),
    ),
    Defect(
        "log-in without the start-up file",
        gone("etc/environment.d/60-kiln-slicer.conf"),
        static("test_slicer::test_every_start_reads_the_start_up_file"),
        ("60-kiln-slicer.conf is missing",),
    ),
    Defect(
        "types of files that the system does not know",
        change("usr/share/mime/globs2", "^.*x-slicer-mrb:.*\n", ""),
        static("test_slicer::test_files_open_with_slicer"),
        ("does not know files of application/x-slicer-mrb",),
    ),
    Defect(
        "types of files that Slicer does not open",
        change(DESKTOP, "application/x-nrrd;", ""),
        static("test_slicer::test_files_open_with_slicer"),
        ("Slicer does not open application/x-nrrd",),
    ),
    Defect(
        "licence thrown away",
        gone(f"{HOME}/License.txt"),
        static("test_slicer::test_licences_are_kept"),
        ("License.txt",),
    ),
    Defect(
        "sample that is no volume",
        write(f"{HOME}/kiln/sample.nrrd", "<html>not found</html>\n"),
        static("test_slicer::test_sample_is_a_volume"),
        ("<htm",),
    ),
    Defect(
        "Slicer that users may change",
        several(mode(f"{HOME}/slicer.org", 0o775), mode(f"{HOME}/README.txt", 0o664)),
        static("test_slicer::test_users_change_nothing"),
        ("others may change /opt/slicer/README.txt, /opt/slicer/slicer.org",),
    ),
    Defect(
        "Slicer that belongs to another user",
        owner(f"{HOME}/bin", 1000),
        static("test_slicer::test_users_change_nothing"),
        ("another than root has /opt/slicer/bin",),
    ),
    Defect(
        "settings that users cannot read",
        mode(f"{HOME}/share", 0o750),
        static("test_slicer::test_users_change_nothing"),
        ("users cannot read /opt/slicer/share",),
    ),
]
