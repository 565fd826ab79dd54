"""The real Envoy in front of services that record everything that reaches them (`ias_front`)."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ias_front import Front, running_front


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/envoy")


@pytest.fixture(scope="session")
async def shared_front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with running_front(tmp_path_factory.mktemp("envoy")) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Iterator[Front]:
    """The shared front door, with nothing remembered of the tests before."""
    shared_front.forget()
    yield shared_front
    shared_front.forget()


@pytest.fixture
async def own_front(tmp_path: Path) -> AsyncIterator[Front]:
    """A front door for one test that breaks or changes it."""
    async with running_front(tmp_path) as front:
        yield front


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, in PEM."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (directory / "cert.pem").write_bytes(signed.public_bytes(pem))
    (directory / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return directory / "cert.pem", directory / "key.pem"
