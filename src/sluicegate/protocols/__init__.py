"""Parsers and encoders of protocols and formats: bytes in, events out.

Filters call them; they call nobody and touch no socket, file system or clock. The invariant:
arbitrary bytes raise ``ProtocolError`` or become events, and never pass a bound of ``limits.py``.
"""
