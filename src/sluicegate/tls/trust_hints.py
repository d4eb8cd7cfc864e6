"""How systems, browsers and languages are told to trust an authority: words for operators.

``sluicegate ca export --hints`` and the console show them. The invariant: each names the file that
``export`` writes, and none tells a client to stop verifying.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PLATFORMS", "hints_for"]

_PEM: Final = "sluicegate ca export -o sluicegate-ca.pem"
_DER: Final = "sluicegate ca export --format der -o sluicegate-ca.cer"

PLATFORMS: Final = {
    "debian": (
        "Debian, Ubuntu (whole system: curl, wget, Git, apt, Ruby, PHP, Perl)",
        _PEM,
        "sudo install -m 0644 sluicegate-ca.pem /usr/local/share/ca-certificates/sluicegate-ca.crt",
        "sudo update-ca-certificates",
    ),
    "fedora": (
        "Fedora, RHEL, Rocky, Amazon Linux (whole system)",
        _PEM,
        "sudo install -m 0644 sluicegate-ca.pem /etc/pki/ca-trust/source/anchors/",
        "sudo update-ca-trust",
    ),
    "alpine": (
        "Alpine (whole system; the package ca-certificates)",
        _PEM,
        "install -m 0644 sluicegate-ca.pem /usr/local/share/ca-certificates/sluicegate-ca.crt",
        "update-ca-certificates",
    ),
    "macos": (
        "macOS (whole system: Safari, Chrome, curl)",
        _PEM,
        (
            "sudo security add-trusted-cert -d -r trustRoot "
            "-k /Library/Keychains/System.keychain sluicegate-ca.pem"
        ),
    ),
    "windows": (
        "Windows (whole machine: Edge, Chrome, .NET; as administrator)",
        _DER,
        "certutil -addstore -f Root sluicegate-ca.cer",
        "For a domain: Group Policy, Computer Configuration, Windows Settings, Security Settings,",
        "Public Key Policies, Trusted Root Certification Authorities, Import.",
    ),
    "firefox": (
        "Firefox, Thunderbird (a store of their own, unless told otherwise)",
        _PEM,
        "By policy, in policies.json (/etc/firefox/policies/ on Linux):",
        '{"policies": {"Certificates": {"Install": ["/path/to/sluicegate-ca.pem"]}}}',
        (
            'On Windows and macOS, the system\'s store: {"policies": {"Certificates": '
            '{"ImportEnterpriseRoots": true}}}'
        ),
        "By hand, in one profile: Settings, Privacy & Security, View Certificates, Import.",
    ),
    "chromium": (
        "Chromium, Chrome on Linux (an NSS store for each user; the package libnss3-tools)",
        _PEM,
        'mkdir -p "$HOME/.pki/nssdb" && certutil -d sql:$HOME/.pki/nssdb -N --empty-password',
        'certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n "Sluicegate CA" -i sluicegate-ca.pem',
    ),
    "java": (
        "Java (the JDK's own store; Debian's follows the system's)",
        _PEM,
        (
            "sudo keytool -importcert -noprompt -cacerts -storepass changeit -alias sluicegate "
            "-file sluicegate-ca.pem"
        ),
    ),
    "python": (
        "Python: requests, pip and httpx bring a list of their own",
        _PEM,
        "cat /etc/ssl/certs/ca-certificates.crt sluicegate-ca.pem > bundle.pem",
        (
            "export REQUESTS_CA_BUNDLE=$PWD/bundle.pem SSL_CERT_FILE=$PWD/bundle.pem "
            "PIP_CERT=$PWD/bundle.pem"
        ),
        "(pip from 24.2 uses the system's list; urllib and aiohttp always do.)",
    ),
    "node": (
        "Node.js: npm, yarn, Electron apps (in addition to its own list)",
        _PEM,
        "export NODE_EXTRA_CA_CERTS=$PWD/sluicegate-ca.pem",
        "npm alone: npm config set cafile $PWD/bundle.pem   (a whole list, see python)",
    ),
    "go": (
        "Go: the system's list on all platforms; another one for one program",
        _PEM,
        "export SSL_CERT_FILE=$PWD/bundle.pem   (a whole list, see python)",
    ),
    "rust": (
        "Rust: cargo, and programs with rustls-native-certs, follow the system",
        _PEM,
        "export CARGO_HTTP_CAINFO=$PWD/bundle.pem SSL_CERT_FILE=$PWD/bundle.pem   (see python)",
    ),
    "git": (
        "Git (where the system's list is not used)",
        _PEM,
        "git config --global http.sslCAInfo $PWD/bundle.pem   (a whole list, see python)",
    ),
    "curl": (
        "curl (where the system's list is not used)",
        _PEM,
        (
            "export CURL_CA_BUNDLE=$PWD/bundle.pem   (a whole list, see python); "
            "or once: curl --cacert bundle.pem"
        ),
    ),
    "docker": (
        "Docker: the daemon follows the system; containers have lists of their own",
        _PEM,
        "The daemon: as for the system, then sudo systemctl restart docker",
        (
            "An image (Debian): COPY sluicegate-ca.pem "
            "/usr/local/share/ca-certificates/sluicegate-ca.crt"
        ),
        "                   RUN update-ca-certificates",
    ),
    "android": (
        "Android (apps must opt in to authorities of the user, browsers do)",
        _DER,
        "Settings, Security, Encryption & credentials, Install a certificate, CA certificate.",
    ),
}
"""By platform: what it is, and what to do, one line each."""


def hints_for(platform: str) -> str:
    """Return the words for one platform, or for all."""
    chosen = list(PLATFORMS.values()) if platform == "all" else [PLATFORMS[platform]]
    return "\n\n".join("\n    ".join(lines) for lines in chosen)
