"""Files on disks, in buckets and on web servers: all of them are looked at and read by the same functions.

An address is ``s3://BUCKET/KEY``, ``gs://BUCKET/KEY``, ``az://CONTAINER/KEY`` or ``https://HOST/FILE``. A prefix of a
bucket is a folder; a web server lists nothing. Objects are read by ranges, of which some are remembered. Credentials
are those of the environment, of the AWS configuration, or of the machine; no message contains them.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import hashlib
import io
import os
import re
import shutil
import stat as modes
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from clamr_cli.errors import MissingExtra, UsageError

# pathlib makes one slash of two.
_ADDRESS: Final = re.compile(r"(s3|gs|az|https?):/+([^/]+)(?:/+(.*))?", re.IGNORECASE | re.DOTALL)
_WEB: Final = ("http", "https")

BLOCK: Final = 2**18
"""Bytes that are asked for at least."""

_REMEMBERED: Final = 128
_MOST_AHEAD: Final = 8
"""Blocks that a process remembers, and that one request takes at most while a file is read on and on."""

_PIECE: Final = 2**23
_AT_ONCE: Final = 4
"""Bytes of a piece of a file that is copied, and pieces at once."""

_FRESH: Final = 60.0
"""Seconds for which a listing counts."""

_DOWN: Final = 20.0
"""Seconds for which a bucket that could not be reached is not asked again."""

_SIGNED_FOR: Final = datetime.timedelta(hours=6)
_VALID_FOR: Final = datetime.timedelta(minutes=10)
"""Time for which keys of a profile are valid at least: boto3 renews them before."""

_KEPT_FREE: Final = 2**28
_ANOTHER_PLACE: Final = "free some space, or choose another place with CLAMR_CACHE"

FETCHED: Final = "-fetched"
"""Ends the names of folders that hold a copy of a remote file."""

_ERROR_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_HOST: Final = re.compile(r"https?://([\w.:\-\[\]]+)")
_METADATA_HOSTS: Final = ("169.254.", "metadata.google.internal", "fd00:ec2::254")
_PROVIDERS: Final = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
_KEYS: Final = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or AWS_SKIP_SIGNATURE=true if it is public",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true if it is public",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true if it is public",
}


class RemoteError(OSError):
    """A remote file that cannot be read; ``strerror`` and ``hint`` are one line each, without any credentials."""

    def __init__(self, number: int, reason: str, hint: str = "") -> None:
        super().__init__(number, reason)
        self.hint = hint

    def __reduce__(self) -> tuple[type[RemoteError], tuple[int, str, str]]:
        return type(self), (self.errno or 0, self.strerror or "", self.hint)


# --- paths and addresses ----------------------------------------------------------------------------------------------


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether this is an address rather than a path."""
    return _ADDRESS.fullmatch(os.fspath(path)) is not None


def absolute(name: str) -> str:
    """The absolute path, ``~`` resolved; or the address as it is stored.

    Raises:
        UsageError: an address with a user name, a password or a query, which would be stored with it.
    """
    if not is_remote(name):
        return os.path.abspath(os.path.expanduser(name))
    scheme, host, key = split(name)
    if "@" in host or (scheme in _WEB and re.search(r"[?#]", host + key)):
        shown = f"{scheme}://{re.split('[?#]', host.rpartition('@')[2])[0]}/{re.split('[?#]', key)[0]}"
        raise UsageError(
            f"the address of {shown.rstrip('/')} has a user name, a password or a query",
            "signed addresses run out and addresses are stored: name the object (s3://BUCKET/KEY), or download it",
        )
    return _address(scheme, host, key)


def is_file(path: str) -> bool:
    """Whether a file can be expected there; of an address that is only known when it is read."""
    return is_remote(path) or os.path.isfile(path)


def lexists(path: str) -> bool:
    """Whether something, or a link to nothing, can be expected there; see :func:`is_file`."""
    return is_remote(path) or os.path.lexists(path)


def split(path: str | os.PathLike[str]) -> tuple[str, str, str]:
    """The scheme, the bucket or host, and the key of an address."""
    match = _ADDRESS.fullmatch(os.fspath(path))
    assert match is not None
    return match[1].lower(), match[2], (match[3] or "").rstrip("/")


def _address(scheme: str, host: str, key: str) -> str:
    return f"{scheme}://{host}/{key}" if key else f"{scheme}://{host}"


# --- looking at files -------------------------------------------------------------------------------------------------


class RemoteEntry:
    """An object, or a folder of objects, with the methods of :class:`os.DirEntry`."""

    def __init__(self, path: str, status: os.stat_result, tag: str = "") -> None:
        self.path, self.name = path, os.path.basename(path)
        self.tag = tag  # under which a server knows the content; empty where it gives none
        self._status = status

    def stat(self) -> os.stat_result:
        return self._status

    def is_dir(self) -> bool:
        return modes.S_ISDIR(self._status.st_mode)

    def is_file(self) -> bool:
        return not self.is_dir()

    def is_symlink(self) -> bool:
        return False


def stat(path: str | os.PathLike[str]) -> os.stat_result:
    """The status of a file or folder. Of an object the time of change stands for its content, too.

    Raises:
        OSError: there is none, or it cannot be looked at.
    """
    return look(path).stat() if is_remote(path) else os.stat(path)


def lstat(path: str | os.PathLike[str]) -> os.stat_result:
    """As :func:`stat`, of a link its own."""
    return look(path).stat() if is_remote(path) else os.lstat(path)


def exists(path: str) -> bool:
    """Whether a file or folder is there and can be looked at."""
    try:
        stat(path)
    except OSError:
        return False
    return True


def can_read(path: str) -> bool:
    """Whether a file that was met in a listing can probably be opened."""
    return is_remote(path) or os.access(path, os.R_OK)


def realpath(path: str) -> str:
    """The path without links; an address is one already."""
    return _address(*split(path)) if is_remote(path) else os.path.realpath(path)


@contextlib.contextmanager
def scandir(folder: str | os.PathLike[str]) -> Iterator[Iterator[os.DirEntry[str] | RemoteEntry]]:
    """The entries of a folder.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    if is_remote(folder):
        yield iter(_listing(_address(*split(folder))).entries)
    else:
        with os.scandir(folder) as entries:
            yield entries


def list_below(folder: str) -> None:
    """Ask for all objects below a remote folder at once: far fewer requests than one for each folder.

    Raises:
        RemoteError: it cannot be read.
    """
    scheme, host, key = split(folder)
    folders: dict[str, dict[str, RemoteEntry]] = {_address(scheme, host, key): {}}
    try:
        with _explaining(scheme, host, key):
            import obstore

            for batch in obstore.list(_store(scheme, host), key or None, chunk_size=1000):
                for meta in batch:
                    place = _address(scheme, host, str(meta["path"]))
                    if not place.startswith(folder + "/"):
                        continue  # an empty object that shows the folder
                    folders.setdefault(os.path.dirname(place), {})[place] = _entry(place, meta)
    except RemoteError as error:
        if error.errno == errno.EINVAL:
            return  # one name that cannot be used: its folder alone is refused when it is listed
        raise
    for place in list(folders):
        while place != folder and (above := os.path.dirname(place)) != place and len(above) >= len(folder):
            entries = folders.setdefault(above, {})
            if place in entries and entries[place].is_dir():
                break
            entries[place] = _folder(place)
            place = above
    with _listing_lock:
        # What an earlier look had of these folders is old.
        for place in [one for one in _listings if one == folder or one.startswith(folder + "/")]:
            del _listings[place]
        _listings.update({place: _Listing(list(entries.values())) for place, entries in folders.items()})


class _Listing:
    """The entries of a folder when it was listed; None where nothing was there, not even an object that shows it."""

    def __init__(self, entries: Sequence[RemoteEntry] | None) -> None:
        self.time, self.is_there = time.monotonic(), entries is not None
        self.entries = entries or []
        self.by_path = {entry.path: entry for entry in self.entries}
        self.version = int(self.time * 1e9)


_listings: dict[str, _Listing] = {}
_listing_lock = threading.Lock()


def _listed(folder: str) -> _Listing | None:
    """A listing of a moment ago."""
    known = _listings.get(folder)
    return known if known is not None and time.monotonic() - known.time < _FRESH else None


def _listing(folder: str) -> _Listing:
    listing = _listed(folder)
    if listing is None:
        scheme, host, key = split(folder)
        entries: list[RemoteEntry] | None = None
        if scheme not in _WEB:
            with _explaining(scheme, host, key):
                import obstore

                found = obstore.list_with_delimiter(_store(scheme, host), key or None)
                places = {_address(scheme, host, name): None for name in found["common_prefixes"]}
                if places or found["objects"] or not key:
                    entries = [_folder(place) for place in places]
                for meta in found["objects"]:
                    place = _address(scheme, host, str(meta["path"]))
                    # Programs make an empty object to show a folder.
                    if entries is not None and place not in places and place != folder:
                        entries.append(_entry(place, meta))
        listing = _Listing(entries)
        with _listing_lock:
            _listings[folder] = listing
    if not listing.is_there:
        raise RemoteError(errno.ENOENT, "there is no such object or folder")
    return listing


def look(path: str | os.PathLike[str]) -> RemoteEntry:
    """A remote file or folder: as it was listed a moment ago, else asked for.

    Raises:
        RemoteError: it is gone or cannot be reached.
    """
    scheme, host, key = split(path)
    place = _address(scheme, host, key)
    known, above = _listed(place), _listed(os.path.dirname(place))
    if known is not None and known.is_there:
        return _folder(place, known.version)
    if above is not None and place in above.by_path:
        entry = above.by_path[place]
        return _folder(place, _listing(place).version) if entry.is_dir() else entry
    if key:
        try:
            return _ask(place)
        except RemoteError as error:
            if error.errno != errno.ENOENT or scheme in _WEB:
                raise
    elif scheme in _WEB:
        raise RemoteError(errno.EISDIR, "a web server cannot be listed", "give the address of a file")
    return _folder(place, _listing(place).version)


def _ask(place: str) -> RemoteEntry:
    scheme, host, key = split(place)
    with _explaining(scheme, host, key):
        import obstore

        return _entry(place, obstore.head(_store(scheme, host), _key(scheme, key)))


def _entry(place: str, meta: Any) -> RemoteEntry:  # noqa: ANN401 -- of obstore
    tag = str(meta.get("e_tag") or "")
    if tag and '"' not in tag:
        tag = f'"{tag}"'  # Azure leaves the quotes out where it lists
    seconds, mark = int(meta["last_modified"].timestamp()), int.from_bytes(_digest(tag, 7), "big") if tag else 0
    # Servers know the time to the second; the rest stands for the content, so that no other change goes unseen.
    time_ns = seconds * 10**9 + mark % 10**9
    return RemoteEntry(place, _status(modes.S_IFREG | 0o400, mark, int(meta["size"]), time_ns), tag)


def _folder(place: str, version: int = 0) -> RemoteEntry:
    return RemoteEntry(place, _status(modes.S_IFDIR | 0o500, 0, 0, version))


def _status(mode: int, number: int, size: int, time_ns: int) -> os.stat_result:
    seconds = time_ns // 10**9
    return os.stat_result((mode, number, 0, 1, 0, 0, size, seconds, seconds, seconds), {"st_mtime_ns": time_ns})


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size).digest()


# --- reading files ----------------------------------------------------------------------------------------------------


def open_binary(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read it; a remote one is read by ranges.

    Raises:
        OSError: it cannot be opened.
    """
    return RemoteFile(os.fspath(path)) if is_remote(path) else open(path, "rb")  # type: ignore[return-value]


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read.
    """
    with open_binary(path) as file:
        return file.read()


# By the version of a file and the number of the block: a video is opened several times.
_blocks: OrderedDict[tuple[str, str, int, int, int], bytes] = OrderedDict()
_blocks_lock = threading.Lock()


class RemoteFile(io.RawIOBase):
    """A remote file that is read by ranges. What was read last is remembered; what is read on and on, read ahead.

    Args:
        path: its address.

    Raises:
        RemoteError: it is gone or cannot be reached; while it is read, also: its content was replaced.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        scheme, host, key = split(path)
        self.name = _address(scheme, host, key)
        self._entry = look(path)
        if self._entry.is_dir():
            raise RemoteError(errno.EISDIR, "this is a folder, not a file")
        self.size = self._entry.stat().st_size
        self.received = 0  # bytes
        self._position = 0
        self._version = (self.name, self._entry.tag, self.size, self._entry.stat().st_mtime_ns)
        self._next, self._ahead = -1, 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence])
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.size - self._position)
        left = left if size is None or size < 0 else min(size, left)
        parts: list[bytes] = []
        while left > 0:
            number, begin = divmod(self._position, BLOCK)
            part = self._block(number, -(-(begin + left) // BLOCK))[begin : begin + left]
            parts.append(part)
            left -= len(part)
            self._position += len(part)
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 -- a buffer
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _block(self, number: int, wanted: int) -> bytes:
        """A block; those that are wanted after it, or probably will be, are asked for with it."""
        with _blocks_lock:
            if (block := _blocks.get((*self._version, number))) is not None:
                _blocks.move_to_end((*self._version, number))
                return block
        self._ahead = min(_MOST_AHEAD, 2 * self._ahead) if number == self._next else 1
        count = min(max(self._ahead, wanted), _MOST_AHEAD)
        while count > 1 and any((*self._version, number + one) in _blocks for one in range(1, count)):
            count -= 1
        begin = number * BLOCK
        content = read_range(self._entry, begin, min(self.size, begin + count * BLOCK))
        self.received += len(content)
        self._next = number + count
        parts = [content[place : place + BLOCK] for place in range(0, len(content), BLOCK)]
        with _blocks_lock:
            _blocks.update({(*self._version, number + place): part for place, part in enumerate(parts)})
            while len(_blocks) > _REMEMBERED:
                _blocks.popitem(last=False)
        return parts[0]


def read_range(entry: RemoteEntry, start: int, end: int) -> bytes:
    """The bytes from one place to another of a file, if it still has the same content.

    Raises:
        RemoteError: it is gone, replaced, or cannot be reached.
    """
    scheme, host, key = split(entry.path)
    options: dict[str, Any] = {"range": (start, end)}
    # A weak tag says that the content is alike, and is refused as a condition.
    if entry.tag.startswith('"'):
        options["if_match"] = entry.tag
    with _explaining(scheme, host, key):
        import obstore

        result = obstore.get(_store(scheme, host), _key(scheme, key), options=options)
        content = bytes(result.bytes())
    if len(content) != end - start:
        raise RemoteError(errno.EIO, "the server gave another part of the file than was asked for")
    return content


@contextlib.contextmanager
def local_copy(path: str, area: Path, progress: Callable[[float], None] = lambda _: None) -> Iterator[str]:
    """A path under which all of a file can be read on this machine; a copy of a remote file is removed afterwards.

    Args:
        path: of the file.
        area: the folder in which folders for copies are made.
        progress: called with the part of the copy that is made, in [0, 1].

    Raises:
        RemoteError: it cannot be read, or there is no room for a copy.
    """
    if not is_remote(path):
        yield path
        return
    copy = fetch(look(path), area, progress)
    try:
        yield os.fspath(copy)
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


def fetch(entry: RemoteEntry, area: Path, progress: Callable[[float], None] = lambda _: None) -> Path:
    """Copy a remote file into a folder of its own in an area, where it is not there already.

    Raises:
        RemoteError: as :func:`local_copy`.
    """
    size = entry.stat().st_size
    target = _copy_of(entry, area)
    if target.exists():
        return target
    from concurrent.futures import ThreadPoolExecutor

    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(target.parent).free
    if size + _KEPT_FREE > free:
        raise RemoteError(
            errno.ENOSPC,
            f"no room for a copy of it: {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in the cache folder",
            _ANOTHER_PLACE,
        )
    handle, draft = tempfile.mkstemp(dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out, ThreadPoolExecutor(_AT_ONCE) as pool:
            starts = range(0, size, _PIECE)
            for first in range(0, len(starts), _AT_ONCE):
                pieces = [
                    pool.submit(read_range, entry, start, min(size, start + _PIECE))
                    for start in starts[first : first + _AT_ONCE]
                ]
                for piece in pieces:
                    out.write(piece.result())
                    progress(out.tell() / size)
        os.replace(draft, target)
    except BaseException as error:
        shutil.rmtree(target.parent, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, RemoteError):
            reason = f"the copy of it in the cache folder cannot be written ({error.strerror})"
            raise RemoteError(error.errno or errno.EIO, reason, _ANOTHER_PLACE) from error
        raise
    return target


def discard(path: str, area: Path) -> None:
    """Remove copies of a remote file from an area."""
    if is_remote(path):
        shutil.rmtree(area / _copies_of(path), ignore_errors=True)


def _copies_of(path: str) -> str:
    return _digest(_address(*split(path)), 12).hex() + FETCHED


def _copy_of(entry: RemoteEntry, area: Path) -> Path:
    status = entry.stat()
    version = _digest(f"{entry.tag} {status.st_size} {status.st_mtime_ns}", 8).hex()
    return area / _copies_of(entry.path) / f"{version}{os.path.splitext(entry.name)[1][:16]}"


def address_for_player(path: str) -> str:
    """An address that a player can open for some hours, without credentials of its own.

    Raises:
        RemoteError: none can be made with these credentials.
    """
    scheme, host, key = split(path)
    if scheme in _WEB:
        return _address(scheme, host, key)
    if _is_public(scheme):
        from urllib.parse import quote

        get = os.environ.get
        servers = {
            "s3": get("AWS_ENDPOINT_URL") or f"https://s3.{get('AWS_REGION') or 'us-east-1'}.amazonaws.com",
            "gs": "https://storage.googleapis.com",
            "az": get("AZURE_ENDPOINT_URL") or f"https://{get('AZURE_STORAGE_ACCOUNT_NAME')}.blob.core.windows.net",
        }
        return f"{servers[scheme].rstrip('/')}/{host}/{quote(key)}"
    with _explaining(scheme, host, key):
        import obstore

        return str(obstore.sign(_store(scheme, host), "GET", key, _SIGNED_FOR))


# --- object storage ---------------------------------------------------------------------------------------------------


def _key(scheme: str, key: str) -> str:
    """The key as the library takes it: it encodes addresses of web servers itself."""
    from urllib.parse import unquote

    return unquote(key) if scheme in _WEB else key


def _store(scheme: str, host: str) -> Any:  # noqa: ANN401 -- of obstore
    try:
        return object_store(f"{scheme}://{host}")
    except MissingExtra as missing:
        raise RemoteError(errno.ENOSYS, missing.what, missing.hint) from missing


@functools.lru_cache(maxsize=64)
def object_store(address: str) -> Any:  # noqa: ANN401 -- of obstore
    """The objects below an address, for obstore.

    Raises:
        MissingExtra: the library is not installed.
        RemoteError, botocore.exceptions.BotoCoreError: as :func:`_profile`.
    """
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtra("reading from object storage and web servers", "remote") from error
    # An address without TLS is one that the user gave.
    client: dict[str, Any] = {"connect_timeout": "5s", "timeout": "60s", "allow_http": True}
    retry = {"max_retries": 3, "retry_timeout": datetime.timedelta(seconds=30)}
    keys: dict[str, Any] = {}
    if _needs_profile(address):
        session, _, config = _profile()
        from obstore.auth.boto3 import Boto3CredentialProvider

        keys = {"config": config or None, "credential_provider": Boto3CredentialProvider(session, ttl=_VALID_FOR)}
    return from_url(address, **keys, client_options=client, retry_config=retry)


def lance_options(address: str) -> dict[str, str] | None:
    """Keys, region and server for Lance, as :func:`object_store` has them; ask for them anew before each use.

    None for what is no bucket of S3. Without boto3 Lance takes the keys that it finds itself.

    Raises:
        RemoteError: the profile of AWS gives no keys.
    """
    if not address.startswith("s3://"):
        return None
    # An address without TLS is one that the user gave.
    options = {"allow_http": "true"}
    if _needs_profile(address):
        scheme, host, key = split(address)
        try:
            with _explaining(scheme, host, key):
                _, credentials, config = _profile()
                keys = credentials.get_frozen_credentials()
        except RemoteError as error:
            if error.errno == errno.ENOSYS:
                return options
            raise
        options |= config | {"aws_access_key_id": keys.access_key, "aws_secret_access_key": keys.secret_key}
        options |= {"aws_session_token": keys.token} if keys.token else {}
    return options


def forget_keys() -> None:
    """Forget what was read of the AWS configuration, which may be another one now."""
    object_store.cache_clear()
    _profile.cache_clear()


def _is_public(scheme: str) -> bool:
    """Whether the environment says that the buckets of a scheme are public."""
    return os.environ.get(f"{_PROVIDERS[scheme]}_SKIP_SIGNATURE", "").lower() in ("true", "1")


def _needs_profile(address: str) -> bool:
    """Whether the environment says too little of a bucket of S3, so that boto3 is to look for the rest."""
    has_place = any(os.environ.get(f"AWS_{name}") for name in ("REGION", "DEFAULT_REGION", "ENDPOINT_URL"))
    is_complete = has_place and os.environ.get("AWS_ACCESS_KEY_ID")
    return address.startswith("s3://") and not _is_public("s3") and not is_complete


@functools.lru_cache(maxsize=1)
def _profile() -> tuple[Any, Any, dict[str, str]]:
    """A session of boto3, its credentials (of a profile, a role, single sign-on, the machine), region and server.

    The credentials are renewed when they are frozen and less than ten minutes of them are left.

    Raises:
        RemoteError: boto3 is not installed.
        botocore.exceptions.BotoCoreError: it finds no credentials.
    """
    try:
        import boto3
        import botocore.exceptions
        import botocore.session
    except ImportError as error:
        missing = MissingExtra("the profiles of AWS", "remote")
        raise RemoteError(errno.ENOSYS, missing.what, missing.hint) from error
    profile = botocore.session.Session()
    session = boto3.Session(botocore_session=profile)
    if (credentials := session.get_credentials()) is None:
        raise botocore.exceptions.NoCredentialsError
    credentials.get_frozen_credentials()  # What is wrong is said here; later only that there are none.
    config: dict[str, str] = {"region": session.region_name} if session.region_name else {}
    if not os.environ.keys() & {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"}:
        endpoint = profile.get_scoped_config().get("endpoint_url")
        config |= {"endpoint": endpoint} if endpoint else {}
    return session, credentials, config


_down: dict[tuple[str, str], tuple[float, RemoteError]] = {}


@contextlib.contextmanager
def _explaining(scheme: str, host: str, key: str) -> Iterator[None]:
    """Turn errors of the library into ones of ours; a bucket that could not be reached is not asked again at once."""
    since, before = _down.get((scheme, host), (0.0, None))
    if before is not None and time.monotonic() - since < _DOWN:
        raise before
    try:
        yield
    except RemoteError:
        raise
    except Exception as error:
        explained, is_down = _explain(error, scheme, host, key)
        if is_down:
            _down[scheme, host] = (time.monotonic(), explained)
        if explained.errno == errno.EACCES:
            forget_keys()  # the profile may have other keys the next time
        # The messages of the library may hold signed addresses.
        raise explained from None


def _explain(error: Exception, scheme: str, host: str, key: str) -> tuple[RemoteError, bool]:
    """The error in words of ours, and whether it is one of the whole bucket. Nothing of the library's is taken over."""
    text, kind, place = str(error), type(error).__name__, _address(scheme, host, "")
    status = match[1] if (match := _STATUS.search(text)) else ""
    code = match[1] if (match := _ERROR_CODE.search(text)) else ""
    server = match[1] if (match := _HOST.search(text)) else host
    number, is_down = errno.EIO, True
    if type(error).__module__.startswith("botocore."):
        number, (reason, hint) = errno.EACCES, _explain_profile(kind, place)
    elif missing := missing_bucket(text, place):
        return missing, is_down
    elif any(name in text for name in _METADATA_HOSTS) or (scheme == "az" and "ccount must be" in text):
        number, reason, hint = errno.EACCES, f"there are no credentials for {place}", _KEYS.get(scheme, "")
    elif isinstance(error, FileNotFoundError) or status == "404":
        number, is_down = errno.ENOENT, False
        reason, hint = "the file is gone", "it was moved or deleted; index again"
    elif status in ("401", "403") or kind in ("PermissionDeniedError", "UnauthenticatedError"):
        number, is_down = errno.EACCES, False
        shown = _address(scheme, host, key) if scheme in _WEB else place
        is_refused = code.startswith(("InvalidAccess", "Signature", "Expired", "InvalidToken"))
        verb = "refuses these credentials" if is_refused else "gives no access"
        reason, hint = f"{shown} {verb}", "check the credentials and their rights"
    elif kind == "PreconditionError" or status == "412":
        number, is_down = errno.ESTALE, False
        reason, hint = "the file was changed while it was read", "index again when it is complete"
    elif kind == "InvalidPathError" or isinstance(error, ValueError):
        number, is_down = errno.EINVAL, False
        reason = "a name has empty parts, '.', '..' or control characters and cannot be read"
        hint = "rename the object"
    elif "redirect" in text or status in ("301", "307"):
        reason, hint = f"the bucket {place} is in another region", "set AWS_REGION"
    elif any(sign in text for sign in ("error sending request", "timed out", "dns error")):
        number, reason, hint = errno.ETIMEDOUT, f"{server} cannot be reached", "check the network and the address"
    elif kind == "NotSupportedError":
        reason, hint = f"{server} gives no parts of files", "download the file, and index the copy"
    else:
        is_down = False
        reason, hint = f"{server} answers with an error ({code or status or kind})", "try again later"
    return RemoteError(number, reason, hint), is_down


def missing_bucket(text: str, place: str) -> RemoteError | None:
    """The error of a bucket ``place`` that is not there, from the words of a server; None where they say otherwise."""
    code = match[1] if (match := _ERROR_CODE.search(text)) else ""
    if code not in ("NoSuchBucket", "ContainerNotFound") and "bucket does not exist" not in text:
        return None
    return RemoteError(errno.EIO, f"there is no bucket {place}", "check its name, and AWS_ENDPOINT_URL if it is set")


def _explain_profile(kind: str, place: str) -> tuple[str, str]:
    """The reason why boto3 found no keys, and a hint."""
    profile = os.environ.get("AWS_PROFILE") or "default"
    if kind == "ProfileNotFound":
        return f"the AWS configuration has no profile {profile!r}", "check AWS_PROFILE; aws configure list-profiles"
    if "SSO" in kind or "Token" in kind:
        return f"the sign-in of the AWS profile {profile!r} has run out", f"run: aws sso login --profile {profile}"
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return f"there are no credentials for {place}", _KEYS["s3"]
    return f"the AWS profile {profile!r} gives no credentials ({kind})", "check it with: aws sts get-caller-identity"
