"""`ias-admin login`, `logout`, `whoami`, and how a session is kept fresh."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from ias.identity.v1 import sessions_pb2

from .fake_ias import ADMIN_EMAIL, PASSWORD


def refreshes(ias):
    return sum(isinstance(one, sessions_pb2.RefreshRequest) for one in ias.requests)


def logins(ias):
    return sum(isinstance(one, sessions_pb2.LoginRequest) for one in ias.requests)


def test_who_signed_in_is_known_afterwards(ann):
    assert ann.json("whoami")["email"] == "ann@acme.org"
    out = ann.ok("whoami")
    assert "org_admin" in out
    assert "acme" in out


def test_the_configuration_is_its_owners_alone(admin):
    assert stat.S_IMODE(admin.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(admin.config.parent.stat().st_mode) == 0o700
    admin.config.chmod(0o644)
    admin.ok("config", "set", "output", "table")
    assert stat.S_IMODE(admin.config.stat().st_mode) == 0o600
    left = {name for name in os.listdir(admin.config.parent) if "lock" not in name}
    assert left == {"config.yaml"}


def test_a_wrong_password_is_not_allowed_and_leaves_nothing(cli):
    result = cli("login", "--email", ADMIN_EMAIL, "--password-stdin", stdin="wrong-password\n")
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        "Error: Wrong address or password.",
        "Check the address and the password.",
    ]
    assert not cli.config.exists()


def test_a_slowed_login_says_when_to_try_again(cli):
    result = cli("login", "--email", ADMIN_EMAIL, "--password-stdin", stdin="too often\n")
    assert result.exit_code == 1
    assert "4 s" in result.stderr


def test_nobody_can_be_asked_in_a_pipe(cli):
    assert cli("login").exit_code == 2
    assert cli("login", "--email", ADMIN_EMAIL).exit_code == 2


def test_nobody_signed_in_is_told_what_to_do(cli):
    result = cli("org", "list")
    assert result.exit_code == 3
    assert "ias-admin login" in result.stderr


def test_the_environment_signs_in_by_itself_once(cli, ias):
    cli.env |= {"IAS_ADMIN_EMAIL": ADMIN_EMAIL, "IAS_ADMIN_PASSWORD": PASSWORD}
    cli.ok("org", "list")
    cli.ok("org", "list")
    assert logins(ias) == 1


def test_the_environment_signs_in_where_nothing_can_be_written(cli, ias):
    cli.env |= {"IAS_ADMIN_EMAIL": ADMIN_EMAIL, "IAS_ADMIN_PASSWORD": PASSWORD}
    cli.env["IAS_CONFIG"] = "/proc/nowhere/config.yaml"
    assert "acme" in cli.ok("org", "list")
    assert cli("login").exit_code == 1


def test_login_takes_the_environments_password_for_its_own_address_alone(cli, ias):
    cli.env |= {"IAS_ADMIN_EMAIL": ADMIN_EMAIL, "IAS_ADMIN_PASSWORD": PASSWORD}
    cli.ok("login")
    assert cli("login", "--email", "ann@acme.org").exit_code == 2


def test_an_explicit_login_goes_before_the_environment(ann):
    ann.env |= {"IAS_ADMIN_EMAIL": ADMIN_EMAIL, "IAS_ADMIN_PASSWORD": PASSWORD}
    assert ann.json("whoami")["email"] == "ann@acme.org"


def test_another_person_in_the_environment_is_signed_in_anew(cli):
    cli.env |= {"IAS_ADMIN_EMAIL": ADMIN_EMAIL, "IAS_ADMIN_PASSWORD": PASSWORD}
    assert cli.json("whoami")["email"] == ADMIN_EMAIL
    cli.env["IAS_ADMIN_EMAIL"] = "ann@acme.org"
    assert cli.json("whoami")["email"] == "ann@acme.org"


def test_a_token_of_the_environment_goes_first(ann, ias):
    ben = next(one for one in ias.users.values() if one.email == "ben@acme.org")
    ann.env["IAS_TOKEN"] = ias.tokens(ben.id).access_token
    assert ann.json("whoami")["email"] == "ben@acme.org"
    ann.env["IAS_TOKEN"] = "unknown"
    assert ann("whoami").exit_code == 3
    assert refreshes(ias) == 0


def test_an_expired_access_token_is_renewed_and_kept(cli, ias):
    ias.token_lifetime = timedelta(seconds=10)  # within the margin: stale at once
    cli.ok("login", "--email", ADMIN_EMAIL, "--password-stdin", stdin=PASSWORD)
    before = cli.stored()["sessions"][ias.address]
    ias.token_lifetime = timedelta(hours=1)
    cli.ok("org", "list")
    after = cli.stored()["sessions"][ias.address]
    assert before["refresh_token"] != after["refresh_token"]
    cli.ok("org", "list")
    assert refreshes(ias) == 1


def test_a_token_that_ias_refuses_is_renewed_though_it_looks_fresh(admin, ias):
    ias.access_tokens.clear()
    assert "acme" in admin.ok("org", "list")
    assert refreshes(ias) == 1


def test_many_at_once_use_a_refresh_token_once(cli, ias):
    ias.token_lifetime = timedelta(seconds=10)
    cli.ok("login", "--email", ADMIN_EMAIL, "--password-stdin", stdin=PASSWORD)
    ias.token_lifetime = timedelta(hours=1)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(cli.process, "org", "list", "-q") for _ in range(4)]
    assert [run.result().returncode for run in runs] == [0] * 4
    assert refreshes(ias) == 1


def test_a_session_that_ended_asks_to_sign_in_again(admin, ias):
    ias.access_tokens.clear()
    ias.refresh_tokens.clear()
    result = admin("org", "list")
    assert result.exit_code == 3
    assert "ias-admin login" in result.stderr
    assert admin.stored()["sessions"] == {}


def test_a_session_that_ended_is_opened_anew_from_the_environment(admin, ias):
    admin.env |= {"IAS_ADMIN_EMAIL": ADMIN_EMAIL, "IAS_ADMIN_PASSWORD": PASSWORD}
    ias.access_tokens.clear()
    ias.refresh_tokens.clear()
    assert admin.json("whoami")["email"] == ADMIN_EMAIL


def test_a_token_is_never_sent_to_another_server(admin, ias):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(admin.env, "IAS_GRPC", ias.address.replace("127.0.0.1", "localhost"))
        assert admin("org", "list").exit_code == 3


def test_logout_ends_the_session_and_forgets_it(admin, ias):
    admin.ok("logout")
    assert not ias.access_tokens
    assert admin.stored()["sessions"] == {}
    assert admin("whoami").exit_code == 3
    admin.ok("logout")


def test_logout_forgets_a_session_that_had_ended(admin, ias):
    ias.access_tokens.clear()
    ias.refresh_tokens.clear()
    admin.ok("logout")
    assert admin.stored()["sessions"] == {}


def test_no_secret_is_ever_printed(cli, ias):
    outputs = [cli("login", "--email", ADMIN_EMAIL, "--password-stdin", stdin=PASSWORD).output]
    for form in ("table", "json", "yaml", "csv"):
        commands = (("whoami",), ("config", "show"), ("org", "list"), ("login",))
        outputs += [cli(*command, "-o", form).output for command in commands]
    outputs.append(cli("logout").output)
    everything = "".join(outputs)
    assert "-secret-" not in everything
    assert PASSWORD not in everything
