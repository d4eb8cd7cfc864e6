"""Questions to a policy outside a gate: what may come, what came, what would have come."""
