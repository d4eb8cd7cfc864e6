"""What it costs to open TLS, beside squid with ssl-bump and mitmproxy."""
