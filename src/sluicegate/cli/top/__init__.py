"""``sluicegate top``: a running gate, live in the terminal.

``command`` is what is typed, ``dashboard`` what is seen; ``look`` asks the gate over its control
socket. The invariant: whatever clients and servers chose to send is shown as text: nothing of it
moves the cursor, and nothing of it is read as markup.
"""
