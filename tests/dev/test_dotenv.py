"""dev.env can be read by any shell, and says what was written, whatever it was."""

import os
import stat
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from ias_dev import dotenv

VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


@given(value=VALUES)
def test_what_is_written_is_read_back(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("env") / "dev.env"
    dotenv.write(path, {"IAS_A": value, "IAS_B": "b"})
    if "\r" not in value:  # text files know one kind of line end
        assert dotenv.read(path) == {"IAS_A": value, "IAS_B": "b"}


def test_a_shell_reads_it_back(tmp_path):
    values = {
        "IAS_QUOTES": """it's "quoted" `here` $HOME $(id) \\n""",
        "IAS_LINES": "-----BEGIN\nabc=\n-----END\n",
        "IAS_PERCENT": "100 % # no comment",
        "IAS_EMPTY": "",
    }
    path = tmp_path / "dev.env"
    dotenv.write(path, values)
    shown = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env -0', "sh", str(path)],
        capture_output=True,
        check=True,
    ).stdout
    found = dict(item.split("=", 1) for item in shown.decode().split("\0") if "=" in item)
    assert {name: found[name] for name in values} == values


def test_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "dev.env"
    path.write_text("old")
    path.chmod(0o644)
    dotenv.write(path, {"IAS_SECRET": "x"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writing_the_same_again_leaves_the_file_alone(tmp_path):
    path = tmp_path / "dev.env"
    dotenv.write(path, {"IAS_A": "1"})
    os.utime(path, (1, 1))
    dotenv.write(path, {"IAS_A": "1"})
    assert path.stat().st_mtime == 1
