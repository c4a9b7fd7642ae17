"""Certificate files as KubeArmor's secrets hold them, and a relay that wants them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import trustme

from otelbridge.simulator.listening import ServerTls


class Files:
    """A folder with ca.crt, tls.crt and tls.key for the client, and a server's pair."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.authority = trustme.CA()
        self.ca, self.cert, self.key = folder / "ca.crt", folder / "tls.crt", folder / "tls.key"
        self.trust(self.authority)
        self.issue(self.authority)

    def trust(self, *authorities: trustme.CA) -> None:
        """Writes the CA bundle."""
        self.ca.write_bytes(b"".join(authority.cert_pem.bytes() for authority in authorities))

    def issue(self, authority: trustme.CA, *, not_after: datetime | None = None) -> None:
        """Writes a client pair."""
        leaf = authority.issue_cert("otelbridge", not_after=not_after)
        self.cert.write_bytes(leaf.cert_chain_pems[0].bytes())
        self.key.write_bytes(leaf.private_key_pem.bytes())

    def server(self, *names: str, authority: trustme.CA | None = None, mutual: bool = True) -> ServerTls:
        """Writes a server pair for these names (its address by default)."""
        leaf = (authority or self.authority).issue_cert(*(names or ("127.0.0.1",)))
        cert, key, ca = self.folder / "server.crt", self.folder / "server.key", self.folder / "server-ca.crt"
        cert.write_bytes(leaf.cert_chain_pems[0].bytes())
        key.write_bytes(leaf.private_key_pem.bytes())
        ca.write_bytes((authority or self.authority).cert_pem.bytes())
        return ServerTls(cert_file=cert, key_file=key, client_ca_file=ca if mutual else None)

    def settings(self, **others: Any) -> dict[str, Any]:
        """feed.tls for mutual TLS with these files."""
        return {"enabled": True, "ca_file": self.ca, "cert_file": self.cert, "key_file": self.key, **others}
