"""The soak: ten minutes of mixed traffic with workers killed and settings reloaded meanwhile."""
