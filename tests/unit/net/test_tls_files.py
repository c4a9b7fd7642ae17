from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from otelbridge.feed.settings import FeedTlsSettings
from otelbridge.net.files import TlsFileError
from otelbridge.net.tls_files import read_digest, read_tls_files, read_usable


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(tmp_path: Path, authority: trustme.CA) -> FeedTlsSettings:
    tls = FeedTlsSettings(
        enabled=True, ca_file=tmp_path / "ca.crt", cert_file=tmp_path / "tls.crt", key_file=tmp_path / "tls.key"
    )
    write(tls, authority, authority.issue_cert("otelbridge"))
    return tls


def write(tls: FeedTlsSettings, authority: trustme.CA, leaf: trustme.LeafCert) -> None:
    assert tls.ca_file
    assert tls.cert_file
    assert tls.key_file
    tls.ca_file.write_bytes(authority.cert_pem.bytes())
    tls.cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())
    tls.key_file.write_bytes(leaf.private_key_pem.bytes())


def test_a_good_pair_is_handed_on_as_it_stands_and_the_key_is_not_shown(tls: FeedTlsSettings) -> None:
    assert tls.key_file
    certificates = read_tls_files(tls, "feed.tls")
    assert certificates.key == tls.key_file.read_bytes()
    assert "PRIVATE KEY" not in repr(certificates)
    assert certificates.digest == read_digest(tls)


def test_without_files_there_is_nothing_to_hand_on() -> None:
    certificates = read_tls_files(FeedTlsSettings(enabled=True), "feed.tls")
    assert (certificates.ca, certificates.cert, certificates.key) == (None, None, None)
    assert certificates.expires_unix_seconds is None


def test_the_expiry_is_that_of_whichever_ends_first(tls: FeedTlsSettings, authority: trustme.CA) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    write(tls, authority, authority.issue_cert("otelbridge", not_after=soon))
    assert read_tls_files(tls, "feed.tls").expires_unix_seconds == int(soon.timestamp())


def test_a_file_that_is_not_there_is_named(tls: FeedTlsSettings) -> None:
    assert tls.key_file
    tls.key_file.unlink()
    with pytest.raises(TlsFileError, match=r"feed.tls.key_file \(.*tls\.key\): cannot be read: No such file"):
        read_tls_files(tls, "feed.tls")
    assert read_digest(tls) == ""


@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key"])
def test_a_file_that_is_cut_short_or_not_pem_is_named(tls: FeedTlsSettings, name: str) -> None:
    assert tls.ca_file
    path = tls.ca_file.parent / name
    whole = path.read_bytes()
    half = whole[: len(whole) // 2]
    behind = [whole + half] if name != "tls.key" else []  # the first key is read, and no more
    for content in (b"", b"not pem", half, *behind):
        path.write_bytes(content)
        with pytest.raises(TlsFileError, match=name.replace(".", r"\.")):
            read_tls_files(tls, "feed.tls")


@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: b"  " + pem.replace(b"\n", b"\n  "),
        lambda pem: pem.replace(b"\n", b"\r"),
        lambda pem: pem.replace(b"\n", b""),
    ],
    ids=["byte order mark", "indented", "bare carriage returns", "one line"],
)
def test_what_openssl_does_not_read_is_no_pem(tls: FeedTlsSettings, name: str, spoil: Callable[[bytes], bytes]) -> None:
    assert tls.ca_file
    path = tls.ca_file.parent / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(TlsFileError, match=name.replace(".", r"\.")):
        read_tls_files(tls, "feed.tls")


@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key"])
def test_words_around_it_and_the_line_ends_of_windows_are_taken(tls: FeedTlsSettings, name: str) -> None:
    assert tls.ca_file
    path = tls.ca_file.parent / name
    path.write_bytes(b"# ours\r\n" + path.read_bytes().replace(b"\n", b"\r\n") + b"# end\r\n")
    assert read_tls_files(tls, "feed.tls").validities


def test_a_key_of_another_certificate_is_named(tls: FeedTlsSettings, authority: trustme.CA) -> None:
    assert tls.key_file
    tls.key_file.write_bytes(authority.issue_cert("other").private_key_pem.bytes())
    with pytest.raises(TlsFileError, match="half written"):
        read_tls_files(tls, "feed.tls")


def test_dates_are_checked_both_ways(tls: FeedTlsSettings) -> None:
    files = read_tls_files(tls, "feed.tls")
    assert "expired on " in files.out_of_date(datetime(3500, 1, 1, tzinfo=UTC))
    assert "clock is wrong" in files.out_of_date(datetime(1970, 1, 2, tzinfo=UTC))
    assert files.out_of_date() == ""


def test_a_connection_that_is_to_be_made_wants_files_in_date(tls: FeedTlsSettings, authority: trustme.CA) -> None:
    write(tls, authority, authority.issue_cert("otelbridge", not_after=datetime.now(UTC) - timedelta(days=1)))
    with pytest.raises(TlsFileError, match=r"feed.tls.cert_file .*expired on .*renew the file"):
        read_usable(tls, "feed.tls")


def test_a_device_without_end_is_read_to_a_bound() -> None:
    endless = FeedTlsSettings(enabled=True, ca_file=Path("/dev/zero"))
    with pytest.raises(TlsFileError, match="larger than"):
        read_tls_files(endless, "feed.tls")


def test_a_bundle_is_good_while_one_authority_in_it_is(tls: FeedTlsSettings, authority: trustme.CA) -> None:
    assert tls.ca_file
    tls.ca_file.write_bytes(authority.cert_pem.bytes() + trustme.CA().cert_pem.bytes())
    before = read_tls_files(tls, "feed.tls").digest
    tls.ca_file.write_bytes(authority.cert_pem.bytes())
    assert read_tls_files(tls, "feed.tls").digest != before
