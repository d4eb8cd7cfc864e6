"""The completion port: sockets, files, timers and tasks complete on one queue."""
