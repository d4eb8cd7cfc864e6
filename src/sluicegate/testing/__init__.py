"""The kit for tests: playbooks, checks, virtual time, a simulated port and network.

Authors of filters begin with ``Playbook``, ``inspect_object`` and the ``check_`` functions; authors
of backends with ``conformance``. The invariant: nothing that ships imports it, but the command
line's own test commands; and it needs neither root nor a network, nor does it sleep.
"""

from .check_report import CheckReport, ChecksFailed
from .clock import ManualClock, VirtualClock
from .content_checks import check_content_filter
from .conversation import Conversation, NotAConversation
from .corpus import AddressCase, HostCase, address_corpus, host_corpus
from .exchange import Exchange
from .faults import Dice, FaultPlan
from .filter_checks import check_data_filter, check_filter, check_stream_filter
from .flight_backend import SimulationStalled
from .inspecting import InspectedObject, inspect_object
from .network import SimulatedNetwork, SimulatedSocket
from .peers import PeerListener, PeerStream, PeerTask, SimulatedPeers
from .playbook import Playbook, offer_of
from .proxied import ProxiedExchange
from .replay import ConversationDiffers, Replayed, check_conversation, replay
from .scripted_datagrams import Association, DatagramExchange, ScriptedDatagrams
from .scripted_peer import PlaybookError, ScriptedPeer
from .simulated_names import SimulatedNames
from .simulated_port import SimulatedBackend
from .sizes import BulkBytes, CeilingExceeded, memory_ceiling
from .splits import SplitMatters, check_split, fuzz_splits
from .virtual_pool import VirtualPool, simulated_completion_port
from .web_checks import check_web_filter
from .web_play import PlayedExchange, PlayedTalk, WebPlay, exchange_web, talk_web

__all__ = [
    "AddressCase",
    "Association",
    "BulkBytes",
    "CeilingExceeded",
    "CheckReport",
    "ChecksFailed",
    "Conversation",
    "ConversationDiffers",
    "DatagramExchange",
    "Dice",
    "Exchange",
    "FaultPlan",
    "HostCase",
    "InspectedObject",
    "ManualClock",
    "NotAConversation",
    "PeerListener",
    "PeerStream",
    "PeerTask",
    "Playbook",
    "PlaybookError",
    "PlayedExchange",
    "PlayedTalk",
    "ProxiedExchange",
    "Replayed",
    "ScriptedDatagrams",
    "ScriptedPeer",
    "SimulatedBackend",
    "SimulatedNames",
    "SimulatedNetwork",
    "SimulatedPeers",
    "SimulatedSocket",
    "SimulationStalled",
    "SplitMatters",
    "VirtualClock",
    "VirtualPool",
    "WebPlay",
    "address_corpus",
    "check_content_filter",
    "check_conversation",
    "check_data_filter",
    "check_filter",
    "check_split",
    "check_stream_filter",
    "check_web_filter",
    "exchange_web",
    "fuzz_splits",
    "host_corpus",
    "inspect_object",
    "memory_ceiling",
    "offer_of",
    "replay",
    "simulated_completion_port",
    "talk_web",
]
