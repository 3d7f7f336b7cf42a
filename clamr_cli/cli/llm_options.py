"""The options that name a chat model, and the model they name; every command that asks one inherits them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.output import warn
from clamr_cli.errors import UsageError
from clamr_cli.llm import ChatModel

if TYPE_CHECKING:
    from clamr_cli.config import Settings


# Without slots, since a class can inherit slots from one side only.
@dataclass(frozen=True, kw_only=True)
class LlmOptions:
    """The model that answers, and how to ask an endpoint."""

    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Folder or hub id; with --base-url its name there.")
    ] = None
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Ask this OpenAI-compatible endpoint.")
    ] = None
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", metavar="NAME", help="Environment variable with the endpoint's key.")
    ] = None
    api_key_file: Annotated[
        str | None, typer.Option("--api-key-file", metavar="FILE", help="File whose first line is the endpoint's key.")
    ] = None
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds for an answer of the endpoint.", min=0.1)] = 60.0
    retries: Annotated[int, typer.Option(metavar="N", help="Times to ask again after trouble.", min=0)] = 4

    def check_llm(self) -> None:
        """Refuse options that cannot be used, before anything is opened or loaded; a model need not be named.

        Raises:
            UsageError: options that do not go together, or an invalid time.
        """
        named = [name for name in ("api_key_env", "api_key_file") if getattr(self, name)]
        if named and not self.base_url:
            raise UsageError(f"--{named[0].replace('_', '-')} requires --base-url", "name the endpoint")
        if len(named) == 2:
            raise UsageError("--api-key-env and --api-key-file exclude each other", "give one of them")
        if not math.isfinite(self.timeout):
            raise UsageError(f"invalid --timeout: {self.timeout}", "give a finite one")

    def check_model(self) -> None:
        """Check that the model exists, before long work is done for it.

        Raises:
            UsageError: an invalid address.
            ModelError: the model is not on this machine.
        """
        if self.base_url is not None:
            from clamr_cli.llm.client import endpoint_url

            endpoint_url(self.base_url)
        elif self.model is not None:
            from clamr_cli.llm.local import find_model

            find_model(self.model)

    def load_model(self, settings: Settings, *, image_hint: str, workers: int = 1) -> ChatModel:
        """The named model, ready to be asked.

        Args:
            settings: of this run.
            image_hint: what the user can do where pictures are too many or too large.
            workers: questions to an endpoint at once; a model on this machine gets them one by one.

        Raises:
            UsageError: an invalid address, or no key where one was named.
            ModelError: the model is not on this machine, or cannot be used.
        """
        if self.base_url is None:
            from clamr_cli.llm.local import LocalModel

            model = self.model or ""
            return LocalModel(model, device=settings.device, threads=settings.threads, image_hint=image_hint)
        from clamr_cli.llm.client import EndpointModel, sends_key_unencrypted

        key = self._key()
        if sends_key_unencrypted(self.base_url, key):
            warn("warning: the key goes over the network unencrypted: use https, or a tunnel that ends on this machine")
        return EndpointModel(
            self.base_url,
            self.model or "",
            key=key,
            timeout=self.timeout,
            retries=self.retries,
            workers=workers,
            image_hint=image_hint,
        )

    def _key(self) -> str:
        source = self.api_key_env or self.api_key_file
        if not source:
            return ""
        if self.api_key_env:
            from clamr_cli import config

            key = config.secret(self.api_key_env)
        else:
            try:
                key = Path(source).expanduser().read_text("utf-8").strip().splitlines()[0].strip()
            except (OSError, UnicodeDecodeError, IndexError) as error:
                raise UsageError(f"{source} holds no key", "give a file whose first line is the key") from error
        # It must be able to stand in a header.
        if not key.isascii() or not key.isprintable():
            raise UsageError(f"{source} holds no key", "a key has no control characters or letters like é")
        return key
