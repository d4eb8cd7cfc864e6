# What of google-re2 is used, typed: the package has no types of its own.

from typing import AnyStr, Generic

class error(Exception): ...  # noqa: N801 - the package's name

class Options:
    class Encoding:
        LATIN1: Options.Encoding
        UTF8: Options.Encoding

    max_mem: int
    log_errors: bool
    case_sensitive: bool
    never_nl: bool
    encoding: Encoding

class _Match(Generic[AnyStr]):
    def start(self, group: int = 0, /) -> int: ...
    def end(self, group: int = 0, /) -> int: ...
    def expand(self, template: AnyStr, /) -> AnyStr: ...

class _Regexp(Generic[AnyStr]):
    groups: int
    def fullmatch(self, text: AnyStr, /) -> _Match[AnyStr] | None: ...
    def search(self, text: AnyStr, pos: int = 0, /) -> _Match[AnyStr] | None: ...

def compile(pattern: AnyStr, options: Options | None = None) -> _Regexp[AnyStr]: ...  # noqa: A001 - the package's name
