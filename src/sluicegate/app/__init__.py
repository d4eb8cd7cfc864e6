"""The composition root: configuration, building, running, reloading."""
