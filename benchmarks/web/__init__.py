"""What a request costs through the web proxy, beside the proxies that people use."""
