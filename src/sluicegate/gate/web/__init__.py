"""The web proxy: everything of HTTP that passes the gate, whatever version its two ends speak."""
