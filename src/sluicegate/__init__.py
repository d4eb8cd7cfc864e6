"""Sluicegate: an application-layer firewall for Linux that you program in Python."""
