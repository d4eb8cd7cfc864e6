"""The console's API: what pages show and do, for programs; described by an OpenAPI 3.1 document."""
