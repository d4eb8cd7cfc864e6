"""Content types: what a transfer is, by MIME type where it has one, else by its file's extension.

Rules hold a ``ContentTypes``; the sets of the model product are predefined. The invariant: a
transfer that says nothing of its type is of no type, so a rule that allows types does not match it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["PREDEFINED_CONTENT_TYPES", "ContentTypes"]


@dataclass(frozen=True, slots=True)
class ContentTypes:
    """A set of types, canonical: lower case, ``image/*`` as ``image/``, extensions with dots."""

    mime_types: frozenset[str] = frozenset()
    mime_prefixes: frozenset[str] = frozenset()
    """Whole kinds: ``image/``."""
    extensions: frozenset[str] = frozenset()

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> ContentTypes:
        """Make the set of checked texts."""
        plain = [text for text in texts if not text.startswith(".")]
        return cls(
            frozenset(text for text in plain if not text.endswith("/*")),
            frozenset(text[:-1] for text in plain if text.endswith("/*")),
            frozenset(text for text in texts if text.startswith(".")),
        )

    def covers(self, mime_type: str, extension: str) -> bool:
        """Tell whether a transfer is of one of the types.

        Args:
            mime_type: Lower case, without parameters; empty when it has none.
            extension: Lower case, with its dot; asked only when there is no MIME type.
        """
        if mime_type:
            kind = mime_type[: mime_type.find("/") + 1]
            return mime_type in self.mime_types or kind in self.mime_prefixes
        return extension in self.extensions

    def includes(self, other: ContentTypes) -> bool:
        """Tell whether every type of another set is in this one."""
        return (
            other.mime_prefixes <= self.mime_prefixes
            and other.extensions <= self.extensions
            and all(
                one in self.mime_types or one[: one.find("/") + 1] in self.mime_prefixes
                for one in other.mime_types
            )
        )

    def texts(self) -> list[str]:
        """Return it as an operator writes it, sorted."""
        return sorted(
            [*self.mime_types, *(f"{one}*" for one in self.mime_prefixes), *self.extensions]
        )


PREDEFINED_CONTENT_TYPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "application": (
            "application/octet-stream", "application/vnd.microsoft.portable-executable",
            "application/x-msdownload", "application/x-msdos-program", "application/x-msi",
            "application/x-executable", "application/x-sharedlib", "application/x-elf",
            "application/x-mach-binary", "application/java-archive", "application/x-sh",
            "application/hta", "application/vnd.android.package-archive",
            ".exe", ".com", ".dll", ".msi", ".scr", ".cpl", ".sys", ".bat", ".cmd", ".ps1", ".vbs",
            ".hta", ".jar", ".apk", ".so", ".dylib", ".sh",
        ),
        "application-data": (
            "application/json", "application/xml", "application/wasm", "application/x-sqlite3",
            "application/vnd.ms-access", ".json", ".xml", ".dat", ".db", ".mdb", ".sqlite", ".wasm",
        ),
        "audio": ("audio/*", ".mp3", ".wav", ".ogg", ".flac", ".aac", ".m4a", ".wma", ".mid"),
        "compressed": (
            "application/zip", "application/gzip", "application/x-gzip", "application/zstd",
            "application/x-tar", "application/x-bzip2", "application/x-xz", "application/x-lzma",
            "application/x-7z-compressed", "application/vnd.rar", "application/x-rar-compressed",
            "application/vnd.ms-cab-compressed", "application/x-compress",
            ".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar", ".cab", ".arj",
            ".lzma", ".z",
        ),
        "documents": (
            "application/pdf", "application/rtf", "text/rtf", "application/msword",
            "application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/postscript",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            "application/vnd.oasis.opendocument.text",
            "application/vnd.oasis.opendocument.spreadsheet",
            "application/vnd.oasis.opendocument.presentation", "application/epub+zip",
            ".pdf", ".rtf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".odt", ".ods",
            ".odp", ".ps", ".epub",
        ),
        "html-documents": ("text/html", "application/xhtml+xml", ".html", ".htm", ".xhtml"),
        "images": (
            "image/*", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp", ".tif", ".tiff",
            ".ico", ".avif",
        ),
        "macro-documents": (
            "application/vnd.ms-word.document.macroenabled.12",
            "application/vnd.ms-word.template.macroenabled.12",
            "application/vnd.ms-excel.sheet.macroenabled.12",
            "application/vnd.ms-excel.sheet.binary.macroenabled.12",
            "application/vnd.ms-excel.template.macroenabled.12",
            "application/vnd.ms-excel.addin.macroenabled.12",
            "application/vnd.ms-powerpoint.presentation.macroenabled.12",
            "application/vnd.ms-powerpoint.slideshow.macroenabled.12",
            "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
            ".docm", ".dotm", ".xlsm", ".xlsb", ".xltm", ".xlam", ".pptm", ".ppsm", ".doc", ".dot",
            ".xls", ".xlt", ".ppt", ".pps",
        ),
        "text": ("text/*", ".txt", ".csv", ".md", ".log", ".css"),
        "video": ("video/*", ".mp4", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".wmv"),
        "vrml": ("model/vrml", "x-world/x-vrml", ".wrl", ".vrml"),
    }
)  # fmt: skip
"""The sets of the model product, with the types that have come since."""
