"""The firewall service: listeners, sessions, connections, and the chain of filters between."""
