"""Each of the gateway's promises broken in a copy of the role: the test that holds it must fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiln import paths

LIVE = "tests/gateway/test_gateway.py"
RULES = "tests/unit/test_kiln_auth.py"
TOKENS = "tests/unit/test_kiln_auth_tokens.py"
APP = "tests/unit/test_kiln_auth_app.py"
BESIDE = "tests/unit/test_kiln_gateway.py"


@dataclass(frozen=True)
class Planted:
    """A defect.

    Parameters
    ----------
    name:
        What is broken.
    file:
        Of the role.
    old, new:
        What stands there, once, and what the defect puts in its place.
    test:
        File and name of a test that must fail.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


NGINX, JUDGED = "templates/nginx.conf.j2", "templates/judged.conf.j2"
PACKAGE = "files/kiln_auth"

TABLE = (
    Planted(
        "the settings' time for an answer is passed over",
        "files/kiln_gateway.py",
        'lines.append(f"proxy_read_timeout {seconds}s;\\n")',
        "pass",
        f"{LIVE}::test_an_answer_is_waited_for_as_long_as_the_settings_say",
    ),
    Planted(
        "nobody is asked",
        JUDGED,
        "auth_request /kiln-check;",
        "",
        f"{LIVE}::test_anything_but_a_good_token_is_401_with_how_to_log_in",
    ),
    Planted(
        "another path is judged than passed on",
        JUDGED,
        "monai_label$request_uri;",
        "monai_label$uri$is_args$args;",
        f"{LIVE}::test_an_address_arrives_exactly_as_it_was_sent",
    ),
    Planted(
        "a client names itself",
        NGINX,
        "X-Kiln-User $kiln_user;",
        "X-Other $kiln_user;",
        f"{LIVE}::test_a_client_cannot_be_somebody_else_and_the_server_sees_no_token",
    ),
    Planted(
        "the server sees the token",
        NGINX,
        'proxy_set_header Authorization "";',
        "",
        f"{LIVE}::test_a_client_cannot_be_somebody_else_and_the_server_sees_no_token",
    ),
    Planted(
        "reload is open",
        NGINX,
        "location = /reload {",
        "location = /other {",
        f"{LIVE}::test_each_route_lets_in_each_role_as_the_table_has_it",
    ),
    Planted(
        "a body that never comes is waited for",
        NGINX,
        "if ($request_method ~ ^(GET|HEAD|DELETE)$) {",
        "if ($request_method = NONE) {",
        f"{LIVE}::test_the_client_keeps_working_after_an_upload",
    ),
    Planted(
        "uploads are passed on as they come",
        NGINX,
        "    client_max_body_size {{ gateway_upload_limit }};",
        "    client_max_body_size {{ gateway_upload_limit }};\n    proxy_request_buffering off;",
        f"{LIVE}::test_a_slow_upload_reaches_the_server_in_one_go",
    ),
    Planted(
        "a full disk is a bare 500",
        NGINX,
        "error_page 500 = @failed;",
        "",
        f"{LIVE}::test_a_full_disk_is_507_and_other_requests_work",
    ),
    Planted(
        "a drain takes new work",
        NGINX,
        "if (-f {{ file }}) {",
        "if (-f {{ file }}.other) {",
        f"{LIVE}::test_while_it_is_closed_no_new_work_is_taken",
    ),
    Planted(
        "a drain gives no reason",
        NGINX,
        "        error_page 503 @closed;\n",
        "",
        f"{LIVE}::test_while_it_is_closed_no_new_work_is_taken",
    ),
    Planted(
        "queries are logged",
        NGINX,
        '"path":"$kiln_path"',
        '"path":"$request_uri"',
        f"{LIVE}::test_the_access_log_has_no_query_and_no_secret",
    ),
    Planted(
        "a silent server is logged with the query",
        NGINX,
        "error_log {{ gateway_error_log }} alert;",
        "",
        f"{LIVE}::test_without_the_server_it_is_502_with_where_to_look",
    ),
    Planted(
        "a full disk is logged with the query",
        NGINX,
        "error_log {{ gateway_error_log }} alert;",
        "error_log {{ gateway_error_log }} crit;",
        f"{LIVE}::test_a_full_disk_is_507_and_other_requests_work",
    ),
    Planted(
        "what a killed nginx had of an upload stays",
        NGINX,
        "    client_body_buffer_size 64k;",
        "    client_body_buffer_size 64k;\n    client_body_in_file_only clean;",
        f"{LIVE}::test_a_killed_nginx_leaves_nothing_of_an_upload",
    ),
    Planted(
        "a body without a length has no limit",
        NGINX,
        "    client_max_body_size {{ gateway_upload_limit }};",
        "    client_max_body_size 0;",
        f"{LIVE}::test_more_than_the_limit_is_413_also_where_no_length_is_named",
    ),
    Planted(
        "any request id passes",
        NGINX,
        '"~^[A-Za-z0-9._-]{1,64}$" $http_x_request_id;',
        '"~." $http_x_request_id;',
        f"{LIVE}::test_a_request_id_is_passed_on_where_it_is_safe",
    ),
    Planted(
        "old TLS is spoken",
        "files/kiln_gateway.py",
        "ssl_protocols TLSv1.2 TLSv1.3;",
        "ssl_protocols TLSv1 TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0; #",
        f"{BESIDE}::test_with_a_certificate_it_is_tls_alone",
    ),
    Planted(
        "one file of a certificate is enough",
        "files/kiln_gateway.py",
        "if bool(certificate) != bool(key):",
        "if False:",
        f"{BESIDE}::test_what_cannot_be_meant_ends_the_start",
    ),
    Planted(
        "unknown routes are admin's",
        f"{PACKAGE}/policy.py",
        "default=NOBODY)",
        'default="admin")',
        f"{RULES}::test_what_nobody_classified_is_closed_for_admin_too",
    ),
    Planted(
        "needless escapes pass",
        f"{PACKAGE}/policy.py",
        "or _NEEDLESS.match(byte)",
        "",
        f"{RULES}::test_a_path_that_could_be_read_differently_is_closed",
    ),
    Planted(
        "dots pass",
        f"{PACKAGE}/policy.py",
        '{".", ".."} & set(segments)',
        "set()",
        f"{RULES}::test_a_path_that_could_be_read_differently_is_closed",
    ),
    Planted(
        "training is anybody's",
        f"{PACKAGE}/policy.py",
        'Route("POST", "/train/{model}", "admin")',
        'Route("POST", "/train/{model}", "user")',
        f"{RULES}::test_what_the_issue_names_is_admins",
    ),
    Planted(
        "the token says its algorithm",
        f"{PACKAGE}/tokens.py",
        "algorithms=[ALGORITHM]",
        'algorithms=[jwt.get_unverified_header(token)["alg"]]',
        f"{TOKENS}::test_forged_tokens_are_refused",
    ),
    Planted(
        "any audience counts",
        f"{PACKAGE}/tokens.py",
        '"strict_aud": True',
        '"verify_aud": False',
        f"{TOKENS}::test_claims_that_do_not_count_are_refused",
    ),
    Planted(
        "a token lives for ever",
        f"{PACKAGE}/tokens.py",
        '"strict_aud": True',
        '"strict_aud": True, "verify_exp": False',
        f"{TOKENS}::test_claims_that_do_not_count_are_refused",
    ),
    Planted(
        "an old password's token counts",
        f"{PACKAGE}/tokens.py",
        "entry is None or not hmac.compare_digest(mark.encode(), self._mark(entry).encode())",
        "entry is None",
        f"{TOKENS}::test_who_is_gone_or_has_a_new_password_or_other_roles_is_so_at_once",
    ),
    Planted(
        "an issuer's token says its algorithm",
        f"{PACKAGE}/oidc.py",
        "algorithms=list(self.settings.algorithms)",
        'algorithms=[jwt.get_unverified_header(token)["alg"]]',
        f"{TOKENS}::test_an_issuers_tokens_cannot_be_forged",
    ),
    Planted(
        "an issuer's name goes into the header as it is",
        f"{PACKAGE}/oidc.py",
        "checked(_claim(claims, self.settings.username_claim))",
        "str(_claim(claims, self.settings.username_claim))",
        f"{TOKENS}::test_an_issuers_claims_that_do_not_count_are_refused",
    ),
    Planted(
        "strangers make it ask the issuer",
        f"{PACKAGE}/oidc.py",
        "if due and (age > FRESH or not known):",
        "if age > FRESH or not known:",
        f"{TOKENS}::test_a_new_key_is_looked_for_and_not_more_often_than_bound",
    ),
    Planted(
        "a name that is not there costs nothing",
        f"{PACKAGE}/users.py",
        "known = entries.get(name)\n",
        'known = entries.get(name)\n        if not known:\n            raise RefusedError("no")\n',
        f"{RULES}::test_a_name_that_is_not_there_costs_a_hash_as_well",
    ),
    Planted(
        "yesterday's users stay",
        f"{PACKAGE}/users.py",
        "except (OSError, UnicodeDecodeError) as problem:",
        "except TroubleError:\n            return self._entries\n        except OSError as problem:",
        f"{RULES}::test_a_file_that_becomes_malformed_does_not_leave_yesterdays_users",
    ),
    Planted(
        "attempts are counted after the hash",
        f"{PACKAGE}/app.py",
        "wait = self._by_address.take(address) or self._by_user.take(name)",
        "wait = 0.0",
        f"{LIVE}::test_attempts_at_once_are_counted_before_they_are_judged",
    ),
    Planted(
        "trouble lets in",
        f"{PACKAGE}/app.py",
        "                answer = UNABLE",
        '                answer = Answer(204, headers={"X-Kiln-User": "x"})',
        f"{APP}::test_an_issuer_in_trouble_lets_nobody_in",
    ),
    Planted(
        "the client names the user",
        "files/kiln_identity.py",
        '{**found, "user": current.get()}',
        '{"user": current.get(), **found}',
        f"{BESIDE}::test_a_label_notes_the_user_and_not_whom_the_client_names",
    ),
)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_planted_defect_is_found(tmp_path: Path, row: Planted) -> None:
    role = tmp_path / "gateway"
    shutil.copytree(paths.ROOT / "ansible/roles/gateway", role)
    path = role / row.file
    text = path.read_text()
    assert text.count(row.old) == 1, f"{row.file} has it {text.count(row.old)} times"
    path.write_text(text.replace(row.old, row.new))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         "-o", f"pythonpath={role / 'files'}", row.test],
        cwd=paths.ROOT, env={**os.environ, "KILN_GATEWAY_ROLE": str(role), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip
    # 1: tests failed. Anything else is no verdict, as a module that cannot be imported.
    assert done.returncode == 1, done.stdout[-2000:]
