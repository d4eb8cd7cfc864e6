"""What parsers take before they refuse: fixed numbers, each with its unit, bound and reason.

``protocols`` and whoever feeds its parsers import them; ``limits`` has those of the engine and
those that an operator may set. The invariant: a parser that grows with its input has a number here.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ARCHIVE_BYTES_MAX",
    "ARCHIVE_DEPTH_MAX",
    "ARCHIVE_DIRECTORY_BYTES_MAX",
    "ARCHIVE_ENTRIES_MAX",
    "ARCHIVE_HEADER_BYTES_MAX",
    "ARCHIVE_MEMORY_BYTES_MAX",
    "ARCHIVE_RATIO_FLOOR_BYTES",
    "ARCHIVE_RATIO_MAX",
    "ARCHIVE_SCRATCH_BYTES_MAX",
    "ARCHIVE_STREAMS_MAX",
    "CODINGS_MAX",
    "CODING_FRAMES_MAX",
    "CODING_RATIO_FLOOR_BYTES",
    "CODING_RATIO_MAX",
    "COMPOUND_ENTRIES_MAX",
    "CONNECT_FIELDS_MAX",
    "CONNECT_HEAD_BYTES_MAX",
    "CONNECT_LINE_BYTES_MAX",
    "ENTRY_EARLY_BYTES_MAX",
    "ENTRY_KNOWN_MESSAGE_BYTES_MAX",
    "FTP_COMMAND_LINE_BYTES_MAX",
    "FTP_KEEP_ALIVE_S",
    "FTP_PIPELINE_COMMANDS_MAX",
    "FTP_PRELIMINARY_REPLIES_MAX",
    "FTP_QUIT_TIMEOUT_S",
    "FTP_REPLY_BYTES_MAX",
    "FTP_REPLY_LINES_MAX",
    "FTP_REPLY_LINE_BYTES_MAX",
    "HTTP2_CONNECTION_WINDOW_BYTES",
    "HTTP2_CONTINUATIONS_MAX",
    "HTTP2_CONTROL_FRAMES_MAX",
    "HTTP2_CONTROL_FRAMES_PER_S",
    "HTTP2_HEADS_KNOWN_MAX",
    "HTTP2_RESETS_MAX",
    "HTTP2_RESETS_PER_S",
    "HTTP2_RESET_KNOWN_MAX",
    "HTTP2_SETTINGS_MAX",
    "HTTP2_STREAMS_MAX",
    "HTTP2_STREAM_WINDOW_BYTES",
    "HTTP2_TINY_FRAMES_MAX",
    "HTTP2_TINY_FRAME_BYTES",
    "HTTP_CHUNK_EXTENSIONS_BYTES_MAX",
    "HTTP_CHUNK_LINE_BYTES_MAX",
    "HTTP_FIELDS_MAX",
    "HTTP_FIELD_BYTES_MAX",
    "HTTP_FIELD_NAMES_KNOWN_MAX",
    "HTTP_HEADS_KNOWN_MAX",
    "HTTP_HEAD_BYTES_MAX",
    "HTTP_HEAD_KNOWN_BYTES_MAX",
    "HTTP_INFORMATIONAL_RESPONSES_MAX",
    "HTTP_LENGTH_DIGITS_MAX",
    "HTTP_METHOD_BYTES_MAX",
    "HTTP_PIPELINE_BYTES_MAX",
    "HTTP_TARGET_BYTES_MAX",
    "HTTP_TRAILERS_MAX",
    "HTTP_TRAILER_BYTES_MAX",
    "MULTIPART_FIELDS_BYTES_MAX",
    "MULTIPART_FIELDS_MAX",
    "MULTIPART_PARTS_MAX",
    "PDF_CODES_MAX",
    "PDF_FONTS_MAX",
    "PDF_STREAMS_MAX",
    "PROXY_HEADER_BYTES_MAX",
    "PROXY_TLVS_MAX",
    "SECRET_DEPTH_MAX",
    "SECRET_MATCHES_MAX",
    "SECRET_PATTERNS_KEPT_MAX",
    "SECRET_PATTERN_BYTES_MAX",
    "SECRET_SPAN_BYTES_MAX",
    "SECRET_VALUES_MAX",
    "SECRET_WORK_FLOOR_BYTES",
    "SECRET_WORK_RATIO_MAX",
    "SOCKS_HOST_BYTES_MAX",
    "SOCKS_USER_ID_BYTES_MAX",
    "SSE_EVENT_BYTES_MAX",
    "TLS_HELLOS_ALIKE_MAX",
    "TLS_HELLOS_KNOWN_MAX",
    "TLS_HELLO_BYTES_MAX",
    "TLS_HELLO_KNOWN_BYTES_MAX",
    "WEBSOCKET_FRAGMENTS_MAX",
    "WEBSOCKET_MESSAGE_BYTES_MAX",
    "WEBSOCKET_RATIO_FLOOR_BYTES",
    "WEBSOCKET_RATIO_MAX",
]

FTP_COMMAND_LINE_BYTES_MAX: Final = 4096
"""One FTP command with its line end: vsftpd's own bound, and room for a path of the kernel's
``PATH_MAX`` less the verb."""

FTP_KEEP_ALIVE_S: Final = 30.0
"""While an object is held, the server gets a NOOP this often: short of any server's idle time-out
(vsftpd 300 s, ProFTPD 600 s, IIS 120 s), and of a NAT's."""

FTP_QUIT_TIMEOUT_S: Final = 5.0
"""A client that has gone is followed by a QUIT to the server; one that does not answer it for this
long is reset, because nobody waits for its reply (pyftpdlib forgets a QUIT during a transfer)."""

FTP_PIPELINE_COMMANDS_MAX: Final = 32
"""FTP commands of one control connection that wait for their replies; beyond it the filter stops
reading the client. lftp sends about a dozen at once."""

FTP_PRELIMINARY_REPLIES_MAX: Final = 16
"""1yz replies to one FTP command; a transfer has one, and a few restart markers at most."""

FTP_REPLY_LINE_BYTES_MAX: Final = 8192
"""One line of an FTP reply: a ``STAT`` listing shows a path with its attributes."""

FTP_REPLY_LINES_MAX: Final = 4096
"""Lines of one multi-line FTP reply; a ``STAT`` of a directory has one per file."""

FTP_REPLY_BYTES_MAX: Final = 256 << 10
"""One multi-line FTP reply in memory."""

ENTRY_EARLY_BYTES_MAX: Final = 64 << 10
"""What a client may send behind its SOCKS or CONNECT request before it is answered: a TLS hello
with a post-quantum key share several times over. The gate stops reading meanwhile, so this is the
most that it keeps for a client it has not let in yet."""

ENTRY_KNOWN_MESSAGE_BYTES_MAX: Final = 512
"""Longer messages of a handshake are parsed each time; browsers send about 200 bytes."""

SOCKS_HOST_BYTES_MAX: Final = 255
"""A host in a SOCKS request: as much as a SOCKS 5 length byte says; a DNS name has at most 253."""

SOCKS_USER_ID_BYTES_MAX: Final = 255
"""The user id of a SOCKS 4 request, which has no length of its own; as much as SOCKS 5 allows."""

CONNECT_LINE_BYTES_MAX: Final = 8192
"""One line of a CONNECT request's head: nginx and Squid allow 8 KiB and 64 KiB; the longest honest
ones carry a Kerberos ticket."""

CONNECT_HEAD_BYTES_MAX: Final = 16 << 10
"""The head of a CONNECT request: request line, fields, and the empty line."""

CONNECT_FIELDS_MAX: Final = 64
"""Fields of a CONNECT request; browsers send about ten."""

HTTP_HEAD_BYTES_MAX: Final = 64 << 10
"""The head of an HTTP message: Squid's default; nginx, Apache and Node take 32, 800 and 16 KiB."""

HTTP_FIELD_NAMES_KNOWN_MAX: Final = 256
"""Names of fields that filters ask for or set, remembered as they are sent: code has dozens."""

HTTP_HEADS_KNOWN_MAX: Final = 512
"""Heads that are remembered, each way: with their size, 1 MiB of a worker. When there is no room it
begins anew: the frequent ones are soon back."""

HTTP_HEAD_KNOWN_BYTES_MAX: Final = 1024
"""Longer heads are read each time; what curl, package managers and APIs send has 100 to 500."""

HTTP_METHOD_BYTES_MAX: Final = 32
"""A method; the longest registered one (UPDATEREDIRECTREF) has 17 letters."""

HTTP_TARGET_BYTES_MAX: Final = 8192
"""A request target: what nginx and Apache take in one line, and RFC 9112 asks for at least."""

HTTP_FIELD_BYTES_MAX: Final = 16 << 10
"""One field of an HTTP message, name and value: a Kerberos ticket of a user in many groups has
about 12 KiB, browsers' cookies at most 4 KiB each."""

HTTP_FIELDS_MAX: Final = 100
"""Fields of one HTTP message: Apache's default; browsers send about 15, origins up to 40."""

HTTP_LENGTH_DIGITS_MAX: Final = 18
"""Digits of a Content-Length: every number of them fits into 63 bits, in whatever language."""

HTTP_CHUNK_LINE_BYTES_MAX: Final = 256
"""One chunk's line: 16 digits, and an extension that nobody uses and that is not passed on."""

HTTP_CHUNK_EXTENSIONS_BYTES_MAX: Final = 4096
"""Chunk extensions of one message in all, so that they cannot cost more than they carry."""

HTTP_TRAILER_BYTES_MAX: Final = 8192
"""The trailers of one message; gRPC's have a status and a message."""

HTTP_TRAILERS_MAX: Final = 32
"""Trailers of one message."""

HTTP_PIPELINE_BYTES_MAX: Final = 256 << 10
"""What one end keeps of bytes that it may not read yet: requests behind the one that is being
answered, bytes of another protocol before the 101. Whoever feeds it stops receiving meanwhile, so
this is a few receive buffers."""

HTTP2_STREAMS_MAX: Final = 100
"""Streams of one HTTP/2 connection at once; RFC 9113 section 6.5.2 advises no fewer than 100."""

HTTP2_STREAM_WINDOW_BYTES: Final = 256 << 10
"""What one HTTP/2 stream may send ahead of its reader, which is kept in memory when the reader
stops: 20 Mbit/s over 100 ms. RFC 9113 begins with 64 KiB, which is the least."""

HTTP2_CONNECTION_WINDOW_BYTES: Final = 1 << 20
"""The same of all streams of a connection: what one client can make us keep by it."""

HTTP2_CONTINUATIONS_MAX: Final = 8
"""CONTINUATION frames of one head: of the usual 16 KiB each, it is over its own bound before."""

HTTP2_SETTINGS_MAX: Final = 32
"""Settings in one SETTINGS frame; eight are known, browsers add two without a meaning."""

HTTP2_CONTROL_FRAMES_MAX: Final = 500
"""Frames of control (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones) that come at once
without a byte of a message; nginx counts 10,000 of all, Envoy queues 1,000 answers."""

HTTP2_CONTROL_FRAMES_PER_S: Final = 20.0
"""And in each second from then on; gRPC pings once in some seconds, or for each few frames."""

HTTP2_RESETS_MAX: Final = 200
"""Streams that a peer resets, or that we reset for what it does, at once (Rapid Reset,
MadeYouReset): two pages full of pictures, left in the middle."""

HTTP2_RESETS_PER_S: Final = 20.0
"""And in each second from then on."""

HTTP2_TINY_FRAMES_MAX: Final = 100
"""DATA frames with nothing in them, and frames that we cut below ``HTTP2_TINY_FRAME_BYTES`` because
the peer's window is that small, at once; ``HTTP2_RESETS_PER_S`` from then on."""

HTTP2_TINY_FRAME_BYTES: Final = 256
"""Below this a frame of a longer body is more work than message."""

HTTP2_RESET_KNOWN_MAX: Final = 1000
"""Streams that we have reset of which a connection remembers it: what its peer has sent before it
knew is dropped, beyond them it ends the connection."""

HTTP2_HEADS_KNOWN_MAX: Final = 512
"""Lists of fields whose reading is kept, each of at most ``HTTP_HEAD_KNOWN_BYTES_MAX``."""

HTTP_INFORMATIONAL_RESPONSES_MAX: Final = 16
"""1xx responses to one request; 100 and a few 103 are usual."""

TLS_HELLO_BYTES_MAX: Final = 64 << 10
"""A ClientHello with the heads of its records, in memory until it is whole: OpenSSL takes 128 KiB,
nginx 16 KiB. Browsers send 2 KiB with a post-quantum key share, padded ones 16 KiB."""

TLS_HELLOS_KNOWN_MAX: Final = 1024
"""ClientHellos of which a worker remembers what they say: programs, times the servers they ask."""

TLS_HELLOS_ALIKE_MAX: Final = 4
"""Those of one length among them: each is compared with the next hello that is as long."""

TLS_HELLO_KNOWN_BYTES_MAX: Final = 4096
"""The longest that is remembered: with a post-quantum key share they have 2 KiB."""

PROXY_HEADER_BYTES_MAX: Final = 16 << 10
"""A PROXY protocol header of version 2; its length field allows 64 KiB. haproxy's own are below
1 KiB, or a few KiB with a client certificate inside."""

PROXY_TLVS_MAX: Final = 64
"""Additional fields (TLVs) of one PROXY header; about ten kinds are known."""

ARCHIVE_ENTRIES_MAX: Final = 10_000
"""Members looked at in one archive, those of archives inside it included."""

ARCHIVE_BYTES_MAX: Final = 1 << 30
"""Bytes unpacked while looking into one archive, those of archives inside it included: a few
seconds of one thread with deflate."""

ARCHIVE_RATIO_MAX: Final = 250
"""Unpacked to packed bytes: ordinary text stays below 100, deflate can reach 1,032."""

ARCHIVE_RATIO_FLOOR_BYTES: Final = 4 << 20
"""The ratio is not judged before this many bytes were unpacked: small files of zeros are common."""

ARCHIVE_DEPTH_MAX: Final = 4
"""Archives in archives; ``.tar.gz`` counts two."""

ARCHIVE_DIRECTORY_BYTES_MAX: Final = 8 << 20
"""The central directory of a ZIP file in memory, and what may lie between its members."""

ARCHIVE_HEADER_BYTES_MAX: Final = 64 << 10
"""One extended header of a tar file (long names, pax records) in memory."""

ARCHIVE_MEMORY_BYTES_MAX: Final = 80 << 20
"""What unpacking one xz stream may take; ``xz -9`` needs 65 MiB, its format allows 4 GiB."""

ARCHIVE_STREAMS_MAX: Final = 100_000
"""Packed streams that one gzip, bzip2 or xz file is made of: parallel packers make one for each
64 KiB, so this is 6 GiB."""

ARCHIVE_SCRATCH_BYTES_MAX: Final = 32 << 20
"""A ZIP file inside an archive is copied out to be looked into; this is the most that is kept of
it, in memory unless the caller gives a file."""

CODINGS_MAX: Final = 5
"""Content codings of one body, one over the other: curl's bound. Servers use one."""

CODING_RATIO_MAX: Final = 250
"""Decoded to received bytes of one body: pages and JSON stay below 30, logs below 100; a bomb of
zeros reaches 1,000 with gzip and 30,000 with zstd."""

CODING_RATIO_FLOOR_BYTES: Final = 8 << 20
"""The ratio is not judged before so much was decoded: small bodies of one repeated line exist."""

SSE_EVENT_BYTES_MAX: Final = 1 << 20
"""One server-sent event: it is in memory until it is whole and judged. Feeds and language models
send less than 16 KiB."""

WEBSOCKET_MESSAGE_BYTES_MAX: Final = 4 << 20
"""One message of a WebSocket, decompressed: it is in memory until it is whole and judged. Servers
take 1 MiB by default (Python's websockets) or less; chats and feeds send a few KiB."""

WEBSOCKET_FRAGMENTS_MAX: Final = 65_536
"""Fragments of one message: each may be empty, and costs about 20 µs. A message of 4 MiB in
fragments of 64 bytes has as many."""

WEBSOCKET_RATIO_MAX: Final = 500
"""Decompressed to received bytes of one message: one like the message before it packs to a few
bytes, so honest ones reach more than whole bodies do; a bomb of zeros reaches 1,000."""

WEBSOCKET_RATIO_FLOOR_BYTES: Final = 1 << 20
"""The ratio is not judged before so much was decompressed."""

CODING_FRAMES_MAX: Final = 10_000
"""Frames of one zstd body: packers that work in parallel make one for each MiB or more, and each
costs a decoder of its own, 20 µs."""

SECRET_SPAN_BYTES_MAX: Final = 640
"""What of a text is looked at, before the end of a match, to tell whether it is a secret: a token's
longest beginning has 570 bytes."""

SECRET_PATTERN_BYTES_MAX: Final = 256
"""The longest text that a pattern of an operator may match: the engine keeps where it began."""

SECRET_DEPTH_MAX: Final = 6
"""Encodings in one another that are looked through: mail in JSON, in base 64, with escapes in the
file it carries, has five."""

SECRET_WORK_RATIO_MAX: Final = 64
"""Bytes looked through for each byte of a text, decoded ones included: a text in base 64, three
times over, has eight; only one that was made to cost has more than twenty."""

SECRET_WORK_FLOOR_BYTES: Final = 4 << 20
"""Below it, the ratio is not asked about: small texts cost little however they are made."""

SECRET_MATCHES_MAX: Final = 1 << 20
"""Matches in one piece of a text (256 KiB), escapes included, of which it has 87,000 at most."""

SECRET_PATTERNS_KEPT_MAX: Final = 8
"""Sets of expressions that are kept compiled, for a filter that is made again: three quarters of a
MiB and a tenth of a second each. One filter has one, and a policy seldom two that differ."""

SECRET_VALUES_MAX: Final = 10_000
"""Different secrets of one kind that are counted; the largest number that may be asked for."""
COMPOUND_ENTRIES_MAX: Final = 20_000
"""Storages and streams of one OLE file; large installers have some thousand."""

PDF_STREAMS_MAX: Final = 100_000
"""Streams of one PDF file; a book of a thousand scanned pages has some ten thousand."""

PDF_FONTS_MAX: Final = 200
"""Fonts of one PDF file whose codes are read: each is tried on each page; books have some dozen."""

PDF_CODES_MAX: Final = 70_000
"""Codes of one font: those of two bytes are 65,536."""

MULTIPART_PARTS_MAX: Final = 1000
"""Parts of one multipart body: PHP takes 1,000 fields, Django as many; each is judged."""

MULTIPART_FIELDS_BYTES_MAX: Final = 8192
"""The fields of one part: a file name of some hundred characters, escaped."""

MULTIPART_FIELDS_MAX: Final = 16
"""Fields of one part; browsers send two."""
