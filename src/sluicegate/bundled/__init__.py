"""The filters that come with the gate, written on the public filter API alone."""
