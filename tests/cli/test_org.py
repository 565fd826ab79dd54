"""`ias-admin org`."""

import json


def test_a_created_organisation_is_shown_in_a_table(admin):
    out = admin.ok("org", "create", "delta", "--display-name", "Delta & [bold]Sons[/bold]")
    assert "delta" in out
    assert "Delta & [bold]Sons[/bold]" in out
    assert "active" in out


def test_a_script_gets_the_id_of_what_it_created(admin, ias):
    created = admin.ok("org", "create", "delta", "--quiet").strip()
    assert ias.organizations[created].name == "delta"


def test_every_page_is_listed(admin):
    assert [one["name"] for one in admin.json("org", "list")] == ["acme", "beta", "gamma"]
    assert len(admin.ok("org", "list").splitlines()) == 4


def test_json_has_short_enums_and_rfc_3339_times(admin):
    acme = admin.json("org", "get", "acme")
    assert acme["status"] == "active"
    assert acme["create_time"] == "2026-11-01T12:00:00Z"
    assert acme["display_name"] == "Acme Inc."


def test_csv_has_a_header_even_without_rows(admin, ias):
    header, *rows = admin.csv("org", "list")
    assert header == "id,name,display_name,status,create_time"
    assert len(rows) == 3
    ias.organizations.clear()
    assert admin.csv("org", "list") == [header]


def test_yaml_reads_back(admin):
    assert "name: acme" in admin.ok("org", "list", "-o", "yaml")


def test_global_options_may_stand_before_the_command(admin):
    assert json.loads(admin.ok("-o", "json", "org", "get", "acme"))["name"] == "acme"
    assert admin.ok("-q", "org", "list").count("\n") == 3


def test_the_option_after_the_command_wins(admin):
    assert admin.ok("-o", "json", "org", "get", "acme", "-o", "csv").startswith("id,name")


def test_what_others_wrote_cannot_steer_the_terminal(admin, ias):
    ias.organization("evil", "\x1b[31mred\x07")
    assert "\x1b" not in admin.ok("org", "get", "evil")
    assert "[31mred" in admin.ok("org", "get", "evil")
