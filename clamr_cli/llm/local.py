"""Answers of an instruction-tuned model on this machine, through transformers; nothing is ever downloaded.

Models that see are given the frames by their own processor. Answers are the most probable ones, or drawn with the
prompt's own seed: either way they depend on the prompt alone.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
import torch
import transformers
from PIL import Image
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from clamr_cli.errors import ModelError
from clamr_cli.llm.writer import AnswerError, Message, Picture, PicturesRefused, PicturesTooMuch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.llm.writer import Part, Prompt

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PICTURES: Final = ("preprocessor_config.json", "processor_config.json")
_GIVE: Final = "give the folder of an instruction-tuned model in the layout of transformers"


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How a local model is run.

    Attributes:
        device: auto, cpu, cuda or mps.
        threads: of the CPU; 0 leaves it to torch.
        max_tokens: longest answer.
        fewer: what the user can do where the pictures are too many or too large.
    """

    device: str = "auto"
    threads: int = 0
    max_tokens: int = 512
    fewer: str = "show fewer pictures"


class LocalWriter:
    """A writer on this machine; one prompt at a time.

    Args:
        model: a folder, or the id of a model in the hub's cache.
        options: see :class:`LocalOptions`.

    Raises:
        ModelError: it is not on this machine, is damaged, has no chat template, or this machine is too small for it.
    """

    workers = 1

    def __init__(self, model: str, options: LocalOptions | None = None) -> None:
        self._options = options or LocalOptions()
        folder = find(model)
        self.name = model if _HUB_ID.fullmatch(model) and not Path(model).is_dir() else folder.name
        self.notes: list[str] = []
        _hush()
        if self._options.threads:
            torch.set_num_threads(self._options.threads)
        self._device = choose_device(self._options.device)
        config = _read_config(folder, model)
        self._processor = _read_processor(folder, model, config)
        self.sees: bool | None = hasattr(self._processor, "image_processor")
        self._tokenizer: Any = getattr(self._processor, "tokenizer", self._processor)
        if not (getattr(self._processor, "chat_template", None) or self._tokenizer.chat_template):
            raise ModelError(f"{model} has no chat template, so it was not made to follow instructions", _GIVE)
        self._model = _load(folder, model, config, self._device)
        self._longest = getattr(config.get_text_config(), "max_position_embeddings", None)
        self._system = True

    def write(self, prompt: Prompt) -> str:
        """See :class:`clamr_cli.llm.writer.Writer`."""
        if prompt.pictures and not self.sees:
            raise PicturesRefused(f"{self.name} takes no pictures")
        try:
            inputs = self._inputs(prompt.messages)
            said = self._generate(inputs, prompt)
        except torch.OutOfMemoryError as error:
            raise self._too_much(prompt, "the prompt does not fit into the device's memory") from error
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, OSError, jinja2.TemplateError) as error:
            raise AnswerError(f"the model failed: {_one_line(error)}") from error
        if not said.strip():
            raise AnswerError("the answer is empty")
        return said

    def close(self) -> None:
        """See :class:`clamr_cli.llm.writer.Writer`."""

    def _inputs(self, messages: Sequence[Message]) -> Any:  # noqa: ANN401 -- a BatchEncoding of transformers
        """The prompt as the model reads it, input_ids [1, n] among its tensors."""
        chat = self._chat(messages if self._system else folded(messages))
        try:
            return self._applied(chat)
        except jinja2.TemplateError:
            # Some templates know no system; what it says then begins the user's message.
            if not self._system:
                raise
            applied = self._applied(self._chat(folded(messages)))
            self._system = False
            return applied

    def _applied(self, chat: list[dict[str, Any]]) -> Any:  # noqa: ANN401
        return self._processor.apply_chat_template(
            chat,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,  # a variable of some templates; the others do not look at it
        ).to(self._device)

    def _chat(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages in the form that the processor's template wants: parts where it can see, else plain text."""
        if not self.sees:
            return [{"role": message.role, "content": message.text} for message in messages]
        return [{"role": message.role, "content": [_content(part) for part in message.parts]} for message in messages]

    def _generate(self, inputs: Any, prompt: Prompt) -> str:  # noqa: ANN401
        asked = inputs["input_ids"].shape[1]
        if self._longest is not None and asked + 1 > self._longest:
            raise self._too_much(prompt, f"the prompt has {asked} tokens, and the model reads {self._longest}")
        room = (
            self._options.max_tokens if self._longest is None else min(self._options.max_tokens, self._longest - asked)
        )
        draw: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if prompt.temperature > 0:
            draw = {"do_sample": True, "temperature": prompt.temperature}
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(prompt.seed)
            made = self._model.generate(
                **inputs, **draw, num_beams=1, max_new_tokens=room, pad_token_id=self._padding(), use_cache=True
            )
        return str(self._tokenizer.decode(made[0][asked:], skip_special_tokens=True))

    def _too_much(self, prompt: Prompt, what: str) -> AnswerError:
        return PicturesTooMuch(what, self._options.fewer) if prompt.pictures else AnswerError(what)

    def _padding(self) -> int | None:
        tokenizer = self._tokenizer
        padding: int | None = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        return padding


def find(model: str) -> Path:
    """The folder of a model: one that was named, or the snapshot of a hub id in the hub's cache. Nothing is fetched.

    Raises:
        ModelError: it is not on this machine.
    """
    folder = Path(os.path.expanduser(model))
    if folder.is_dir():
        return folder.resolve()
    if not _HUB_ID.fullmatch(model):
        raise ModelError(f"there is no folder {model!r}", f"{_GIVE}, or a hub id such as owner/name")
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        hint = f"fetch it with: hf download {model}, or give a folder; --base-url asks a server instead"
        raise ModelError(f"the model {model} is not on this machine", hint) from error


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the best there is.

    Raises:
        ModelError: this machine has none of that name.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there.get(name):
        raise ModelError(f"there is no device {name!r} here", "use --device auto")
    return torch.device(name)


def folded(messages: Sequence[Message]) -> list[Message]:
    """The messages without a system's: what it says stands before the first message of the user."""
    told = [message.text for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    return [Message(rest[0].role, ("\n\n".join(told) + "\n", *rest[0].parts)), *rest[1:]]


def _content(part: Part) -> dict[str, Any]:
    if isinstance(part, Picture):
        with Image.open(io.BytesIO(part.jpeg)) as opened:
            return {"type": "image", "image": opened.convert("RGB")}
    return {"type": "text", "text": part}


def _hush() -> None:
    """Keep what the library says off the terminal: what matters of it is an error here."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _read_config(folder: Path, model: str) -> Any:  # noqa: ANN401 -- a configuration class of transformers
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library's errors are of many classes
        raise ModelError(f"{model} is no model that transformers can read: {_one_line(error)}", _GIVE) from error
    if not {config.model_type} & {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}:
        raise ModelError(f"{model} ({config.model_type}) is no model that writes text", _GIVE)
    return config


def _read_processor(folder: Path, model: str, config: Any) -> Any:  # noqa: ANN401
    """What turns chats into tensors: a processor where pictures can be read, a tokenizer where only texts can."""
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        seeing = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        if seeing and any((folder / name).is_file() for name in _PICTURES):
            return transformers.AutoProcessor.from_pretrained(folder, **options)
        return transformers.AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:
        raise ModelError(f"the tokenizer or processor of {model} cannot be read: {_one_line(error)}", _GIVE) from error


def _load(folder: Path, model: str, config: Any, device: torch.device) -> Any:  # noqa: ANN401
    """The model in evaluation mode, in bfloat16 on a GPU that can and in float32 on a CPU.

    Raises:
        ModelError: tensors are absent or do not fit: the library would fill them with noise.
    """
    seeing = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    kind = transformers.AutoModelForImageTextToText if seeing else transformers.AutoModelForCausalLM
    options = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        loaded, told = kind.from_pretrained(
            folder, config=config, dtype=_dtype(device), output_loading_info=True, **options
        )
        loaded = loaded.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model} does not fit into the device's memory", "use --device cpu or a smaller model"
        ) from error
    except Exception as error:
        raise ModelError(f"{model} cannot be loaded: {_one_line(error)}", "download it again") from error
    wrong = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if wrong:
        raise ModelError(f"{model} lacks {len(wrong)} tensors, {wrong[0]} among them", "download it again")
    return loaded


def _dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if device.type == "mps" else torch.float32


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
