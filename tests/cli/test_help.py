"""`--help` teaches: a sentence and examples for every command."""

import pytest
import typer

from ias_admin.__main__ import app

ROOT = typer.main.get_command(app)
GROUPS = {name: one for name, one in ROOT.commands.items() if hasattr(one, "commands")}
COMMANDS = [
    *((name,) for name in ROOT.commands if name not in GROUPS),
    *((noun, verb) for noun, group in GROUPS.items() for verb in group.commands),
]


def test_the_commands_are_these():
    assert sorted(" ".join(path) for path in COMMANDS) == sorted(
        [
            *("login", "logout", "whoami", "usage", "chat", "audit list", "config show"),
            *("config set", "bootstrap create-super-admin", "org create", "org list", "org get"),
            *("user invite", "user list", "user get", "user accept-invite"),
            *("key create", "key list", "key get", "key revoke", "budget get", "budget set"),
            *("model add", "model list", "model get", "model update", "model enable"),
            *("model disable", "model remove", "model check"),
        ]
    )


@pytest.mark.parametrize("path", [(), *((noun,) for noun in GROUPS), *COMMANDS], ids=" ".join)
def test_help_has_a_sentence_and_an_example(cli, path):
    command = ROOT
    for name in path:
        command = command.commands[name]
    assert command.help
    assert command.help.strip().split("\n")[0].endswith((".", "given.", "named."))
    out = cli.ok(*path, "--help")
    assert "Examples" in out
    assert "ias-admin " + " ".join(path) in out


def test_every_option_is_explained(cli):
    for path in COMMANDS:
        command = ROOT
        for name in path:
            command = command.commands[name]
        assert all(option.help for option in command.params), path


@pytest.mark.parametrize("verb", ["add", "update"])
def test_the_default_length_is_said_not_to_be_for_text_completions(verb):
    options = ROOT.commands["model"].commands[verb].params
    (told,) = [one.help for one in options if one.name == "default_max_output_tokens"]
    assert "Text completions have 16" in told


def test_the_version_is_shown(cli):
    assert cli.ok("--version").startswith("ias-admin ")
