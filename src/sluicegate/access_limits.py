"""Limits of the ways in: users and their directories, keys and certificates, TLS on our listeners.

``identity``, ``tls`` and ``app`` import them; ``limits`` has those of the engine and those that an
operator may set in ``[limits]``. The invariant: whatever a directory, a peer in a TLS handshake or
a file can make us hold or wait for has a number here.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AUTHORITY_EXPIRY_WARNING_DAYS",
    "AUTHORITY_LIFETIME_DAYS_MAX",
    "LDAP_ANSWER_BYTES_MAX",
    "LDAP_CHECKS_WAITING_MAX",
    "LDAP_CONNECTIONS_MAX",
    "LDAP_GROUPS_MAX",
    "LDAP_IDLE_S",
    "LDAP_KEPT_MAX",
    "LDAP_KEPT_S_MAX",
    "LDAP_NAME_CHARACTERS_MAX",
    "LDAP_NESTING_MAX",
    "LDAP_SERVERS_MAX",
    "LDAP_SERVER_AVOIDED_S",
    "LDAP_TIMEOUT_S_MAX",
    "LEAF_BACKDATE_S",
    "LEAF_LIFETIME_S_MAX",
    "LEAF_LIFETIME_S_MIN",
    "LEAF_SERIAL_BITS",
    "LEAF_UNTRUSTED_LIFETIME_S",
    "LEAVES_KEPT_MAX",
    "LEAVES_PER_CHAIN_DIVISOR",
    "LEAVES_WAITING_MAX",
    "PASSWORD_BYTES_MAX",
    "PASSWORD_CHARACTERS_MIN",
    "PASSWORD_CHECKS_MAX",
    "PASSWORD_CHECKS_WAITING_MAX",
    "PASSWORD_HASH_LANES_MAX",
    "PASSWORD_HASH_MEMORY_KIB_MAX",
    "PASSWORD_HASH_MEMORY_KIB_MIN",
    "PASSWORD_HASH_PASSES_MAX",
    "PASSWORD_KEPT_S",
    "SECRET_FILE_BYTES_MAX",
    "SIGNER_TIMEOUT_S",
    "TLS_CERTIFICATES_MAX",
    "TLS_CLOSE_S",
    "TLS_EXPIRY_WARNING_DAYS",
    "TLS_LINGER_BYTES_MAX",
    "TLS_PROTOCOLS_KEPT_MAX",
    "TLS_PROTOCOL_KEPT_S",
    "TLS_RECORD_BYTES_MAX",
    "TLS_SERVER_SESSIONS_MAX",
    "TLS_SERVER_SESSIONS_PER_SERVER_MAX",
    "TLS_SERVER_SESSION_S_MAX",
    "TLS_STAPLE_AGE_S_MAX",
    "TLS_STAPLE_CLOCK_S_MAX",
    "TLS_STAPLE_RESPONSES_MAX",
    "TLS_VALIDATIONS_KEPT_MAX",
    "TLS_VALIDATION_KEPT_S",
    "TLS_WRITE_BYTES_MAX",
    "USERS_FILE_BYTES_MAX",
    "USER_GROUPS_MAX",
]

SECRET_FILE_BYTES_MAX: Final = 1 << 20
"""A file with a password, a key or certificates; a system's bundle of authorities is a quarter of
it."""

LDAP_SERVERS_MAX: Final = 8
"""Servers of one directory; each may have to be tried within one client's patience."""

LDAP_NAME_CHARACTERS_MAX: Final = 1024
"""A distinguished name; real ones have up to two hundred."""

LDAP_ANSWER_BYTES_MAX: Final = 1 << 20
"""What a directory server may answer to one question: the groups of a user with a thousand of them
are a tenth of it."""

LDAP_GROUPS_MAX: Final = 1024
"""Groups of one user, those by nesting included; Windows stops at about as many. A user with more
is refused, because a list that was cut could lack the group that a denying rule names."""

LDAP_NESTING_MAX: Final = 16
"""What ``nested_groups_depth`` may be: each step is a search for each group."""

LDAP_CONNECTIONS_MAX: Final = 32
"""What ``connections_max`` may be: each takes one of the threads of a worker for as long as it is
asked."""

LDAP_CHECKS_WAITING_MAX: Final = 128
"""Users of a directory that wait for a connection to it; who comes later is refused."""

LDAP_IDLE_S: Final = 60.0
"""A connection to a directory that was not used for this long is closed: servers and firewalls drop
idle ones after minutes, without a word."""

LDAP_SERVER_AVOIDED_S: Final = 10.0
"""A directory server that failed comes last for this long: not every client is to wait for it."""

LDAP_TIMEOUT_S_MAX: Final = 10.0
"""What ``timeout_s`` may be: clients are refused after ``handshake_timeout_s``, 15 seconds."""

LDAP_KEPT_MAX: Final = 10_000
"""Verified users of a directory that one worker remembers, about 1 KiB each; the one that was
verified longest ago is forgotten first."""

LDAP_KEPT_S_MAX: Final = 3600.0
"""What ``cache_s`` may be: whoever is locked out of the directory may come in for this long."""

TLS_RECORD_BYTES_MAX: Final = 16 << 10
"""Plaintext of one record (RFC 8446 section 5.1): the size of a slot that is decrypted into."""

TLS_WRITE_BYTES_MAX: Final = 64 << 10
"""What is encrypted at once, and so the most ciphertext that waits for a peer that does not read;
the rest stays with whoever sends, on the client's account. 16 KiB would cost a quarter more CPU."""

TLS_CERTIFICATES_MAX: Final = 1000
"""Certificates of one listener: each costs every worker a millisecond at a reload that changes it,
and some 30 KiB."""

TLS_CLOSE_S: Final = 5.0
"""A peer has this long to take the last bytes of a closed connection; then it is reset."""

TLS_LINGER_BYTES_MAX: Final = 1 << 20
"""What a peer may go on sending after a handshake that failed, until it is reset; it is given the
time to read the alert."""

TLS_SERVER_SESSIONS_MAX: Final = 1024
"""Sessions with servers that one worker keeps for later handshakes, about 8 KiB each with the
server's chain; the server that was used longest ago makes room."""

TLS_SERVER_SESSIONS_PER_SERVER_MAX: Final = 4
"""Those of one server: a ticket is used once (RFC 8446 appendix C.4), and clients come together."""

TLS_SERVER_SESSION_S_MAX: Final = 3600.0
"""How long a server is believed for what its chain proved once; then it has to show it again."""

TLS_VALIDATION_KEPT_S: Final = 60.0
"""How long a server that ``mode = "validate"`` has verified is not verified again: whoever puts
another one in its place at the same address is noticed within this time. A page that opens ten
connections then costs one handshake more and not ten."""

TLS_VALIDATIONS_KEPT_MAX: Final = 4096
"""Such servers that one worker remembers, about 2 KiB each; the oldest is forgotten first."""

TLS_PROTOCOL_KEPT_S: Final = 600.0
"""How long a server that speaks nothing but HTTP/2 is offered nothing else; one that has learned
HTTP/1 meanwhile loses nothing by it, and one that has unlearned HTTP/2 costs one dial more."""

TLS_PROTOCOLS_KEPT_MAX: Final = 4096
"""Such servers that one worker remembers, a quarter of a KiB each; the oldest goes first."""

TLS_STAPLE_AGE_S_MAX: Final = 10 * 86400.0
"""How old an authority's stapled answer may be, whatever it says itself: authorities of the web
have them valid for ten days at most (CA/Browser Forum baseline requirements, 4.9.10)."""

TLS_STAPLE_CLOCK_S_MAX: Final = 300.0
"""By how much the clock of whoever signed a stapled answer may differ from ours."""

TLS_STAPLE_RESPONSES_MAX: Final = 16
"""Certificates that one stapled answer may be about, and certificates in it that are tried for its
signature: real ones have one of each."""

TLS_EXPIRY_WARNING_DAYS: Final = 14
"""A listener's certificate that has no longer to live is warned of; whoever renews by a program
does so weeks before."""


# Leaves: the certificates that clients see where TLS is opened, and who signs them.

AUTHORITY_EXPIRY_WARNING_DAYS: Final = 90
"""An authority that has no longer to live is warned of: its successor has to get to all clients
first."""

AUTHORITY_LIFETIME_DAYS_MAX: Final = 3650
"""What ``sluicegate ca init --days`` may be; a key that all clients trust is not for ever."""

LEAF_LIFETIME_S_MAX: Final = 197 * 86400
"""From the first to the last second of a leaf, backdating included. Browsers refuse certificates
that live for more than 200 days (CA/Browser Forum, ballot SC-081v3, from March 2026)."""

LEAF_BACKDATE_S: Final = 86400
"""A leaf begins to be valid so long before it is made: clients' clocks are wrong by hours, and
zones."""

LEAF_LIFETIME_S_MIN: Final = 600
"""A leaf that ends sooner than this is not used for another client: a new one is made."""

LEAF_UNTRUSTED_LIFETIME_S: Final = 86400
"""A leaf of the untrusted authority lives for so long beyond now: what was wrong with the server
yesterday need not be wrong tomorrow."""

LEAF_SERIAL_BITS: Final = 159
"""Random bits of a serial number: as many as twenty bytes hold with a sign (RFC 5280 section
4.1.2.2); 64 would do (CA/Browser Forum)."""

LEAVES_KEPT_MAX: Final = 4096
"""Leaves that one worker remembers, with their keys and contexts: 25 KiB each. Beyond it, the one
that was used longest ago goes; those that were used once go before those that were used twice."""

LEAVES_PER_CHAIN_DIVISOR: Final = 8
"""Servers with one and the same chain have at most this part of the leaves: whoever asks for names
at random under one wildcard's certificate drives out its own leaves, and nobody else's."""

LEAVES_WAITING_MAX: Final = 256
"""Leaves that one worker waits for: a tenth of a second of the signer's work. Handshakes that would
need another one are refused."""

SIGNER_TIMEOUT_S: Final = 5.0
"""A leaf that the signer has not made after this long is not waited for any more; a module that
signs on a network takes a tenth of that."""


# Users.

PASSWORD_BYTES_MAX: Final = 255
"""A password: what the length byte of SOCKS 5 can say."""

PASSWORD_CHARACTERS_MIN: Final = 8
"""A new password; NIST SP 800-63B asks for at least eight characters, and for no other rule."""

PASSWORD_CHECKS_MAX: Final = 2
"""Passwords that one worker verifies at once: each takes a core or more and 64 MiB, and the rest of
the pool's threads are for filters."""

PASSWORD_CHECKS_WAITING_MAX: Final = 128
"""Passwords that wait to be verified; who comes later is refused. It is some five seconds' work:
clients give up after that, and guessing must not queue for minutes."""

PASSWORD_KEPT_S: Final = 300.0
"""A verified password is remembered this long, in memory, as a keyed digest: a browser sends it
with each of its connections. A changed or removed user counts at once, not after this."""

PASSWORD_HASH_MEMORY_KIB_MIN: Final = 7168
"""The least memory of an argon2id hash that a users file may hold: OWASP's smallest set (7 MiB)."""

PASSWORD_HASH_MEMORY_KIB_MAX: Final = 256 << 10
"""The most memory of one (256 MiB); two are computed at once."""

PASSWORD_HASH_PASSES_MAX: Final = 16
"""The most passes of one: with the most memory, seconds of a core."""

PASSWORD_HASH_LANES_MAX: Final = 16
"""The most threads that computing one may start."""

USERS_FILE_BYTES_MAX: Final = 4 << 20
"""The users file: about 20,000 users; more belong into a directory service."""

USER_GROUPS_MAX: Final = 64
"""Groups of one user."""
