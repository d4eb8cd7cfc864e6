"""The table of all kinds of traffic: a new one is a file of this directory and a line here."""

from benchmarks.soak.emulated_traffic import EmulatedTraffic
from benchmarks.soak.ftp_traffic import FtpTraffic
from benchmarks.soak.http_traffic import HttpTraffic
from benchmarks.soak.kind import Kind
from benchmarks.soak.socks_traffic import SocksTraffic
from benchmarks.soak.tls_traffic import TlsTraffic
from benchmarks.soak.udp_traffic import UdpTraffic
from benchmarks.soak.web_traffic import WebTraffic
from benchmarks.soak.websocket_traffic import WebSocketTraffic

KINDS: tuple[type[Kind], ...] = (
    FtpTraffic,
    HttpTraffic,
    SocksTraffic,
    EmulatedTraffic,
    UdpTraffic,
    WebTraffic,
    TlsTraffic,
    WebSocketTraffic,
)
