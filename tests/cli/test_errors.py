"""How failures are told: two lines on stderr and an exit code."""

import pytest


def test_a_taken_name_is_a_failure(admin):
    result = admin("org", "create", "acme")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Error: There is already an acme.",
        "Choose another name.",
    ]


def test_a_bad_field_is_wrong_usage(admin):
    assert admin("org", "create", "bad name").exit_code == 2


def test_what_is_missing_is_not_found_and_the_list_is_named(admin):
    result = admin("org", "get", "nothing")
    assert result.exit_code == 4
    assert "ias-admin org list" in result.stderr


def test_nobody_listening_says_where_it_looked(cli):
    result = cli("login", "--email", "a@b.org", "--password-stdin", "--grpc", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr
    assert "IAS_GRPC" in result.stderr


def test_an_argument_that_is_no_text_is_wrong_usage(admin):
    result = admin("org", "create", "a\udcff")
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("org", "create"),
        ("org", "nothing"),
        ("org", "list", "--nothing"),
        ("org", "list", "-o", "xml"),
    ],
)
def test_a_command_line_that_is_none_is_wrong_usage(cli, arguments):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
