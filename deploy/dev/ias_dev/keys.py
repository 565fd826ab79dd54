"""The secrets of a development stack: made once, kept in one file of mode 0600."""

import json
import secrets
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ias_dev import dotenv


def _secret() -> str:
    return secrets.token_urlsafe(30)


def _caller_private_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(frozen=True, slots=True)
class Keys:
    """Every secret. The last ones are empty until the demo data exists."""

    caller_private_key: str = field(default_factory=_caller_private_key)
    """Ed25519 in PEM; identity signs x-ias-caller with it."""
    key_pepper: str = field(default_factory=_secret)
    """Keys the hashes of API keys: with another one, no stored key works any more."""
    mesh_secret: str = field(default_factory=_secret)
    postgres_password: str = field(default_factory=_secret)
    """Of the superuser `postgres`."""
    database_password: str = field(default_factory=_secret)
    """Of the role `ias`, which owns the database."""
    redis_password: str = field(default_factory=_secret)
    rabbitmq_password: str = field(default_factory=_secret)
    erlang_cookie: str = field(default_factory=_secret)
    admin_password: str = field(default_factory=_secret)
    demo_user_password: str = field(default_factory=_secret)
    demo_invitation: str = ""
    """Kept between the invitation and its acceptance, so that an interrupted start can go on."""
    demo_api_key: str = ""

    @property
    def caller_public_key(self) -> str:
        """Verifies what `caller_private_key` signed; PEM."""
        key = load_pem_private_key(self.caller_private_key.encode(), password=None)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return public.decode()


def load(folder: Path) -> Keys:
    """The keys of the stack in `folder`; made and stored when there are none."""
    path = _path(folder)
    if not path.exists():
        keys = Keys()
        save(folder, keys)
        return keys
    stored = json.loads(path.read_text())
    known = {f.name for f in fields(Keys)}
    return Keys(**{name: value for name, value in stored.items() if name in known})


def exist(folder: Path) -> bool:
    """Whether the stack in `folder` has keys already."""
    return _path(folder).exists()


def save(folder: Path, keys: Keys) -> None:
    """Stores the keys, readable for their owner alone."""
    dotenv.write_private(_path(folder), json.dumps(asdict(keys), indent=2) + "\n")


def update(folder: Path, keys: Keys, **changes: str) -> Keys:
    """Stores and returns the keys with changes."""
    changed = replace(keys, **changes)
    save(folder, changed)
    return changed


def _path(folder: Path) -> Path:
    return folder / "secrets.json"
