# What of google-re2 is used, typed: the package has no types of its own.

class error(Exception): ...  # noqa: N801 - the package's name

class Options:
    max_mem: int
    log_errors: bool

class _Match: ...

class _Regexp:
    def fullmatch(self, text: str, /) -> _Match | None: ...

def compile(pattern: str, options: Options | None = None) -> _Regexp: ...  # noqa: A001 - the package's name
