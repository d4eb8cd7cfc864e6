r"""What a file's name or its MIME type claims that it is.

``examination`` compares it with ``file_kinds``. The invariant: a claim is a set of kinds; where a
name or a type says nothing that can be held against the content, there is no claim.
"""

from __future__ import annotations

from typing import Final

from sluicegate.protocols.file_kinds import ZIP_KINDS, family_of

__all__ = ["LURES", "claimed_by_name", "claimed_by_type", "contradiction", "has_lure", "named_kind"]


def named_kind(name: str) -> str:
    """Return the kind that a name claims, if systems would start a file for its name alone.

    >>> named_kind("a/run.PS1"), named_kind("letter.txt"), named_kind("x.bat ")
    ('powershell', '', 'batch')
    """
    return _STARTED_BY_NAME.get(_extension(name), "")


def claimed_by_name(name: str) -> frozenset[str]:
    """Return the kinds that a name admits; empty if it claims nothing.

    >>> sorted(claimed_by_name("holiday.JPG")), claimed_by_name("README")
    (['jpeg'], frozenset())
    """
    return _BY_EXTENSION.get(_extension(name), frozenset())


def claimed_by_type(content_type: str) -> frozenset[str]:
    """Return the kinds that a MIME type admits; empty if it claims nothing.

    >>> sorted(claimed_by_type("image/png; q=1")), claimed_by_type("application/octet-stream")
    (['png'], frozenset())
    """
    return _BY_TYPE.get(content_type.partition(";")[0].strip().lower(), frozenset())


def contradiction(kind: str, claimed: frozenset[str]) -> str:
    """Tell how a content is not what was claimed; empty if it is.

    A file that is empty contradicts nothing; where text is admitted, so is all that is a text, and
    where ZIP is, all that is made of it.

    Returns:
        ``differs`` for another kind of the same family, ``mismatch`` for another family.

    >>> jpeg = claimed_by_name("a.jpg")
    >>> contradiction("pe", jpeg), contradiction("png", jpeg), contradiction("jpeg", jpeg)
    ('mismatch', 'differs', '')
    """
    if not claimed or kind == "empty" or kind in claimed:
        return ""
    if ("text" in claimed and kind in _TEXTS) or ("zip" in claimed and kind in ZIP_KINDS):
        return ""
    is_kin = family_of(kind) in {family_of(one) for one in claimed}
    return "differs" if is_kin else "mismatch"


def has_lure(name: str) -> bool:
    r"""Tell whether a name pretends another extension than it has.

    >>> has_lure("invoice.pdf.exe"), has_lure("a\u202efdp.exe"), has_lure("v1.2.exe")
    (True, True, False)
    """
    if any(one in name for one in _REVERSING):
        return True
    parts = name.replace("\\", "/").rpartition("/")[2].rstrip(" .").lower().split(".")
    if len(parts) < 3 or parts[-1] not in _DANGEROUS:  # noqa: PLR2004 - a name and two extensions
        return False
    return parts[-2].strip() in LURES


def _extension(name: str) -> str:
    # Windows drops blanks and dots at the end of a name, and what follows a colon.
    last = name.replace("\\", "/").rpartition("/")[2].partition(":")[0].rstrip(" .").lower()
    stem, dot, extension = last.rpartition(".")
    return extension if dot and (stem or extension) else ""


_REVERSING: Final = "\u202a\u202b\u202d\u202e\u2066\u2067\u2068"

_STARTED_BY_NAME: Final = {
    extension: kind
    for kind, extensions in {
        "powershell": "ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 psd1",
        "batch": "bat cmd",
        "vbscript": "vb vbs vbe",
        "jscript": "js jse mjs",
        "windows-script": "wsf wsh wsc sct ws",
        "hta": "hta",
        "pe": "exe com scr pif cpl dll sys ocx drv efi msc appref-ms",
        "lnk": "lnk",
        "url": "url website",
        "desktop-entry": "desktop",
        "library-ms": "library-ms search-ms searchconnector-ms",
        "settings-ms": "settingcontent-ms",
        "scf": "scf",
        "registry": "reg",
        "shell-script": "sh bash zsh ksh csh fish command run",
        "applescript": "scpt applescript",
        "msi": "msi msp mst msix appinstaller application gadget",
        "jar": "jar jnlp",
        "chm": "chm hlp",
    }.items()
    for extension in extensions.split()
}
"""What is run or opened as a program for its name, whatever is in it."""

_DANGEROUS: Final = frozenset(_STARTED_BY_NAME) | {"iso", "img", "vhd", "vhdx", "dmg", "apk"}

LURES: Final = frozenset(
    {
        "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "txt", "rtf", "csv", "jpg", "jpeg",
        "png", "gif", "bmp", "mp3", "mp4", "avi", "mov", "zip", "html", "htm",
    }
)  # fmt: skip
"""Extensions that people trust."""

_TEXTS: Final = frozenset(
    {
        "text", "json", "xml", "html", "svg", "mail", "script", "batch", "desktop-entry", "url",
        "registry", "windows-script", "hta", "scf", "library-ms", "settings-ms", "binhex",
        "postscript", "rtf",
    }
)  # fmt: skip


def _table(lines: str) -> dict[str, frozenset[str]]:
    """Read lines of ``claims: kinds``."""
    found: dict[str, frozenset[str]] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        claims, _, kinds = line.partition(" = ")
        for claim in claims.split():
            found[claim] = frozenset(kinds.split())
    return found


_BY_EXTENSION: Final = _table("""
    exe scr cpl sys ocx drv efi = pe dos
    com = dos pe unknown text
    dll mui = pe
    so ko o = elf
    dylib bundle = mach-o mach-o-fat
    class = java-class
    wasm = wasm
    msi msp mst = msi
    jar war ear = jar zip
    apk = apk
    msix appx msixbundle appxbundle = appx
    deb udeb = deb
    rpm = rpm
    lnk = lnk
    iso = iso9660 udf
    vhd = vhd
    vhdx = vhdx
    vmdk = vmdk
    qcow2 = qcow2
    dmg = dmg
    zip = zip
    tar = tar
    gz tgz = gzip
    bz2 tbz tbz2 = bzip2
    xz txz = xz
    7z = 7z
    rar = rar
    cab = cab
    zst tzst = zstd
    lz4 = lz4
    lz = lzip
    lzma = lzma
    arj = arj
    lzh lha = lha
    cpio = cpio
    pdf = pdf
    ps eps = postscript
    rtf = rtf
    doc dot = doc ole rtf docx html xml
    xls xlt = xls ole xlsx html xml text
    ppt pot pps = ppt ole pptx
    docx docm dotx dotm = docx
    xlsx xlsm xltx xltm xlam = xlsx
    xlsb = xlsb
    pptx pptm potx potm ppsx ppsm ppam = pptx
    vsdx vsdm = visio-xml
    odt ods odp odg ott = opendocument
    epub = epub
    one = onenote
    chm = chm
    png = png
    jpg jpeg jpe = jpeg
    gif = gif
    webp = webp
    bmp = bmp
    tif tiff = tiff
    ico cur = ico
    psd = psd
    heic heif avif = heif
    jp2 = jpeg2000
    jxl = jpegxl
    svg = svg xml html text
    mp3 = mp3
    wav = wav
    flac = flac
    ogg oga ogv opus = ogg
    mid midi = midi
    mp4 m4v m4a mov 3gp = mp4
    mkv webm mka = matroska
    avi = avi
    mpg mpeg = mpeg
    flv = flv
    wmv wma asf = asf
    ttf ttc = truetype
    otf = opentype truetype
    woff = woff
    woff2 = woff2
    sqlite = sqlite
    pcap pcapng = pcap
    swf = flash
    txt csv tsv log md ini cfg conf css yaml yml toml = text
    json = json text
    xml xsd xsl = xml html svg text
    html htm xhtml = html xml text
    eml = mail text
    msg = msg
""")

_BY_TYPE: Final = _table("""
    application/pdf = pdf
    application/postscript = postscript
    application/rtf text/rtf = rtf
    application/msword = doc ole rtf docx
    application/vnd.ms-excel = xls ole xlsx xlsb html xml text
    application/vnd.ms-powerpoint = ppt ole pptx
    application/vnd.openxmlformats-officedocument.wordprocessingml.document = docx
    application/vnd.openxmlformats-officedocument.spreadsheetml.sheet = xlsx
    application/vnd.openxmlformats-officedocument.presentationml.presentation = pptx
    application/vnd.ms-word.document.macroenabled.12 = docx
    application/vnd.ms-excel.sheet.macroenabled.12 = xlsx
    application/vnd.ms-powerpoint.presentation.macroenabled.12 = pptx
    application/vnd.oasis.opendocument.text = opendocument
    application/vnd.oasis.opendocument.spreadsheet = opendocument
    application/vnd.oasis.opendocument.presentation = opendocument
    application/epub+zip = epub
    application/zip = zip jar apk docx xlsx pptx xlsb opendocument epub appx xpi xps visio-xml
    application/x-zip-compressed = zip jar apk docx xlsx pptx xlsb opendocument epub appx
    application/java-archive = jar zip
    application/vnd.android.package-archive = apk
    application/gzip application/x-gzip = gzip
    application/x-tar = tar
    application/x-bzip2 = bzip2
    application/x-xz = xz
    application/zstd = zstd
    application/x-7z-compressed = 7z
    application/vnd.rar application/x-rar-compressed = rar
    application/vnd.ms-cab-compressed = cab
    application/x-iso9660-image = iso9660 udf
    application/vnd.debian.binary-package application/x-debian-package = deb
    application/x-rpm = rpm
    application/vnd.microsoft.portable-executable = pe dos
    application/x-msdownload application/x-dosexec = pe dos
    application/x-msi = msi
    application/wasm = wasm
    application/json = json text
    application/xml text/xml = xml html svg text
    text/html application/xhtml+xml = html xml text
    text/plain text/csv text/markdown text/css = text
    text/javascript application/javascript application/x-javascript = text
    image/png = png
    image/jpeg = jpeg
    image/gif = gif
    image/webp = webp
    image/bmp = bmp
    image/tiff = tiff
    image/x-icon image/vnd.microsoft.icon = ico png
    image/svg+xml = svg xml html text
    image/heic image/heif image/avif = heif
    image/jp2 = jpeg2000
    image/jxl = jpegxl
    audio/mpeg = mp3
    audio/wav audio/x-wav = wav
    audio/flac = flac
    audio/ogg video/ogg application/ogg = ogg
    audio/midi = midi
    video/mp4 audio/mp4 video/quicktime = mp4
    video/webm audio/webm video/x-matroska = matroska
    video/x-msvideo = avi
    video/mpeg = mpeg
    font/ttf = truetype
    font/otf = opentype truetype
    font/woff = woff
    font/woff2 = woff2
    message/rfc822 = mail text
""")
