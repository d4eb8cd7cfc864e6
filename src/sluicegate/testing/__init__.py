"""The kit for tests: virtual time, a simulated port and network, conformance checks.

Authors of filters and of backends use it as the project's own tests do. The invariant: nothing
that ships imports it, but the command line's own test commands.
"""

from .clock import ManualClock, VirtualClock
from .corpus import AddressCase, HostCase, address_corpus, host_corpus
from .faults import Dice, FaultPlan
from .network import SimulatedNetwork, SimulatedSocket
from .peers import PeerListener, PeerStream, PeerTask, SimulatedPeers
from .simulated_port import SimulatedBackend, SimulationStalled
from .virtual_pool import VirtualPool, simulated_completion_port

__all__ = [
    "AddressCase",
    "Dice",
    "FaultPlan",
    "HostCase",
    "ManualClock",
    "PeerListener",
    "PeerStream",
    "PeerTask",
    "SimulatedBackend",
    "SimulatedNetwork",
    "SimulatedPeers",
    "SimulatedSocket",
    "SimulationStalled",
    "VirtualClock",
    "VirtualPool",
    "address_corpus",
    "host_corpus",
    "simulated_completion_port",
]
