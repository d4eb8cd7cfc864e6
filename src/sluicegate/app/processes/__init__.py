"""The processes of one gate: supervisor, workers, audit writer. This file exports nothing."""
