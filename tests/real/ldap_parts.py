"""A real slapd from Debian on loopback, with users, nested groups, and certificates made for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
from collections.abc import Iterator

from tests.pki import authority
from tests.ports import free_port

from .dns_parts import tool
from .sample_parts import wait_until

BASE = "dc=example,dc=org"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
SEARCHER = f"cn=gate,ou=services,{BASE}"
SEARCH_PASSWORD = "search word"

ODD_PERSON = r"uid=odd,cn=Doe\, John (x)*,ou=people,dc=example,dc=org"


def person(uid: str, password: str, where: str = PEOPLE, more: str = "") -> str:
    secret = f"userPassword: {password}\n" if password else ""
    return (
        f"dn: uid={uid},{where}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\n"
        f"sn: {uid}\n{secret}{more}\n"
    )


def group(name: str, *members: str, where: str = GROUPS) -> str:
    lines = "".join(f"member: {one}\n" for one in members)
    return f"dn: cn={name},{where}\nobjectClass: groupOfNames\ncn: {name}\n{lines}\n"


def ldif() -> str:
    """Everything that the directory holds."""
    units = "".join(
        f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n\n"
        for name in ("people", "groups", "services", "elsewhere")
    )
    nested = "".join(
        group(f"level{depth}", f"cn=level{depth - 1},{GROUPS}") for depth in range(1, 6)
    )
    return (
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: example\n\n"
        + units
        + f"dn: {SEARCHER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
        f"cn: gate\nuserPassword: {SEARCH_PASSWORD}\n\n"
        + person("ann", "open sesame", more="mail: ann@example.org\n")
        + person("Bob", "another word")
        + person("nopass", "")
        + person("twin", "twin word", more="mail: same@example.org\n")
        + person("twin2", "twin word", more="mail: same@example.org\n")
        + person("two-names", "two words", more="uid: second-name\n")
        + f"dn: cn=Doe\\, John (x)*,{PEOPLE}\nobjectClass: organizationalRole\n"
        "cn: Doe, John (x)*\n\n"
        + person("odd", "odd word", r"cn=Doe\, John (x)*," + PEOPLE)
        + group("staff", f"uid=ann,{PEOPLE}", ODD_PERSON)
        + group("all-staff", f"cn=staff,{GROUPS}")
        + group("Domain Users", f"uid=ann,{PEOPLE}")
        + group("odd-ones", ODD_PERSON)
        + group("admins", f"uid=ann,{PEOPLE}", where=f"ou=elsewhere,{BASE}")
        + group("level0", f"uid=Bob,{PEOPLE}")
        + nested
        + group("round", f"uid=Bob,{PEOPLE}", f"cn=about,{GROUPS}")
        + group("about", f"cn=round,{GROUPS}")
        + f"dn: ou=far,{PEOPLE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: far\n"
        "ref: ldap://192.0.2.1/ou=far\n\n"
    )


@dataclasses.dataclass
class Slapd:
    """One running server."""

    folder: pathlib.Path
    plain_port: int
    tls_port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def plain_url(self) -> str:
        return f"ldap://127.0.0.1:{self.plain_port}"

    @property
    def ca_path(self) -> pathlib.Path:
        return self.folder / "ca.pem"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                tool("slapd"), "-d", "0", "-f", str(self.folder / "slapd.conf"),
                "-h", f"{self.plain_url} {self.url}",
            ],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        wait_until(lambda: _is_listening(self.tls_port), "slapd listens")

    def fill(self) -> None:
        """Add everything, as a client: offline, groups would not be noted at their members."""
        add = [tool("ldapadd"), "-x", "-H", self.url, "-D", f"cn=root,{BASE}", "-w", "root word"]
        environment = os.environ | {"LDAPTLS_CACERT": str(self.ca_path)}
        done = subprocess.run(
            [*add, "-M"], input=ldif().encode(), capture_output=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr.decode()

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def slapd_server(folder: pathlib.Path) -> Iterator[Slapd]:
    """Serve the directory, on plain LDAP with StartTLS and on LDAP over TLS."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "db").mkdir()
    (folder / "ca.pem").write_text(authority("directory").pem)
    issued = authority("directory").server("ldap.names.test", "127.0.0.1")
    certificate, key = issued.write(folder, "server")
    (folder / "slapd.conf").write_text(
        "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in _SCHEMAS)
        + f"pidfile {folder}/pid\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f"moduleload memberof\n"
        f"TLSCACertificateFile {folder}/ca.pem\nTLSCertificateFile {certificate}\n"
        f"TLSCertificateKeyFile {key}\n"
        f'database mdb\nsuffix "{BASE}"\ndirectory {folder}/db\nmaxsize 16777216\n'
        f'rootdn "cn=root,{BASE}"\nrootpw "root word"\n'
        "overlay memberof\n"
        f"access to attrs=userPassword by anonymous auth by * none\n"
        f'access to dn.subtree="{BASE}" by dn.exact="{SEARCHER}" read by anonymous auth by * none\n'
    )
    server = Slapd(folder, free_port(), free_port())
    server.start()
    try:
        server.fill()
        yield server
    finally:
        server.stop()


def _is_listening(port: int) -> bool:
    listening = pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")
    return f"0100007F:{port:04X} 00000000:0000 0A" in listening


_SCHEMAS = ("core", "cosine", "inetorgperson")
