"""Isolation: filters that run in a process of their own, a *cell*, behind the same filter API.

``app`` wraps filters whose installation asks for it; the gate sees ordinary filters. The invariant:
the gate waits for a cell only in callbacks and coroutines, so a cell that is dead, mute or mad
costs nobody anything but the traffic that needs its filter.
"""
