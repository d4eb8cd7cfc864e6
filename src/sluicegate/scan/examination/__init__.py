"""Examination: what runs in a scanner process, where hostile objects are taken apart.

``app.scanner_process`` starts ``server`` when the process is confined. The invariant: nothing here
writes, connects or opens a file; an object comes in as bytes, and what is said of it is bounded.
"""
