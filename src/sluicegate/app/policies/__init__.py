"""The policies of a gate over time: what was in force, and how another one comes into force."""
