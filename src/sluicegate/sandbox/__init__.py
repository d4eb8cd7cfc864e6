"""Sandbox: processes that are launched with one socket, and give up all but their work.

Cells (``isolation``) and scanner processes (``scan``) are such. The invariant: what runs in one can
reach nothing but what came through its wire, and whoever started it never waits for it.
"""
