"""The command ``sluicegate``."""
