"""`ias-admin bootstrap`, with a stand-in for identity's own command."""

import json
import sys

import pytest

STAND_IN = f"""#!{sys.executable}
import json, os, sys
if os.environ["IAS_DATABASE_URL"] == "broken":
    sys.exit("ias-identity: database is unavailable")
open(os.environ["SEEN"], "w").write(json.dumps([sys.argv[1:], sys.stdin.read()]))
print("Created the System Admin.")
"""


@pytest.fixture
def installed(cli, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ias-identity"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    cli.env |= {
        "PATH": str(folder),
        "SEEN": str(tmp_path / "seen"),
        "IAS_DATABASE_URL": "postgresql://somewhere",
    }
    return cli


def create(cli, *more):
    return cli(
        *("bootstrap", "create-super-admin", "--email", "ops@example.com", "--password-stdin"),
        *more,
        stdin="correct horse battery\n",
    )


def test_identity_is_given_the_password_where_no_process_list_shows_it(installed, tmp_path):
    result = create(installed)
    assert result.exit_code == 0, result.stderr
    assert "Created the System Admin." in result.stdout
    arguments, stdin = json.loads((tmp_path / "seen").read_text())
    assert arguments == [
        *("bootstrap", "create-super-admin", "--email", "ops@example.com", "--password-stdin"),
    ]
    assert stdin == "correct horse battery\n"
    assert "battery" not in result.output


def test_json_stays_json(installed):
    assert json.loads(create(installed, "-o", "json").stdout)["email"] == "ops@example.com"


def test_without_a_database_it_says_what_is_missing(installed):
    installed.env["IAS_DATABASE_URL"] = None
    result = create(installed)
    assert result.exit_code == 1
    assert "IAS_DATABASE_URL" in result.stderr


def test_without_identity_it_says_where_to_run_it(installed, tmp_path, monkeypatch):
    installed.env["PATH"] = str(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    result = create(installed)
    assert result.exit_code == 1
    assert "not installed" in result.stderr


def test_identitys_own_message_is_passed_on(installed):
    installed.env["IAS_DATABASE_URL"] = "broken"
    result = create(installed)
    assert result.exit_code == 1
    assert "database is unavailable" in result.stderr
