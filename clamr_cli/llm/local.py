"""A chat model on this machine, through transformers; nothing is ever downloaded.

Answers are the most probable ones, or drawn with the prompt's own seed: either way they depend on the prompt alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any, Final

import jinja2
import torch
import transformers
from PIL import Image
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from clamr_cli.devices import choose_device
from clamr_cli.errors import ModelError, first_line
from clamr_cli.llm import AnswerError, ImagesRefused, ImagesTooLarge, Prompt

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
_GIVE_MODEL: Final = "give an instruction-tuned model: a folder in the layout of transformers, or a GGUF file"
_PART: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_TURN_ENDS: Final = ("<|im_end|>", "<end_of_turn>", "<turn|>", "<|eot_id|>", "<|end|>")
"""Tokens that end an answer; GGUF files name only one, which may be that of a text."""


class LocalModel:
    """A :class:`~clamr_cli.llm.ChatModel` on this machine; one prompt at a time.

    Args:
        model: a folder, a GGUF file, or the id of a model in the hub's cache.
        device: auto, cpu, cuda or mps.
        threads: of the CPU; 0 leaves the number to torch.
        max_tokens: longest answer.
        image_hint: what the user can do where the pictures are too many or too large.

    Raises:
        ModelError: it is not on this machine, is damaged, has no chat template, or this machine is too small for it.
    """

    workers = 1

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        threads: int = 0,
        max_tokens: int = 512,
        image_hint: str = "show fewer pictures",
    ) -> None:
        path = find_model(model)
        self.name = model if _HUB_ID.fullmatch(model) and not Path(model).exists() else path.name
        self.notes: list[str] = []
        self._max_tokens, self._image_hint = max_tokens, image_hint
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(choose_device(device))
        self._processor, self._model = _load(path, model, self._device)
        self.supports_images: bool | None = hasattr(self._processor, "image_processor")
        self._tokenizer: Any = getattr(self._processor, "tokenizer", self._processor)
        ends = self._model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
        if path.is_file():
            vocabulary = self._tokenizer.get_vocab()
            self._ends |= {vocabulary[token] for token in _TURN_ENDS if token in vocabulary}
        self._longest = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._takes_system = True

    def answer(self, prompt: Prompt) -> str:
        """See :class:`~clamr_cli.llm.ChatModel`."""
        if prompt.has_images and not self.supports_images:
            raise ImagesRefused(f"{self.name} takes no pictures")
        too_long = partial(ImagesTooLarge, hint=self._image_hint) if prompt.has_images else AnswerError
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if prompt.temperature > 0:
            sampling = {"do_sample": True, "temperature": prompt.temperature}
        try:
            inputs = self.tokenize(prompt)
            length, max_tokens = inputs["input_ids"].shape[1], self._max_tokens
            if self._longest is not None:
                if length >= self._longest:
                    raise too_long(f"the prompt has {length} tokens, and the model reads {self._longest}")
                max_tokens = min(max_tokens, self._longest - length)
            tokenizer = self._tokenizer
            padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
            ends = sorted(self._ends) or None
            devices = [self._device] if self._device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices), torch.inference_mode():
                torch.manual_seed(prompt.seed)
                output = self._model.generate(
                    **inputs, **sampling, num_beams=1, max_new_tokens=max_tokens, pad_token_id=padding,
                    eos_token_id=ends, use_cache=True,
                )  # fmt: skip
            answer = str(tokenizer.decode(output[0][length:], skip_special_tokens=True))
        except torch.OutOfMemoryError as error:
            raise too_long("the prompt does not fit into the device's memory") from error
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, OSError, jinja2.TemplateError) as error:
            raise AnswerError(f"the model failed: {first_line(error)}") from error
        if not answer.strip():
            raise AnswerError("the answer is empty")
        return answer

    def close(self) -> None:
        """See :class:`~clamr_cli.llm.ChatModel`."""

    def tokenize(self, prompt: Prompt) -> Any:  # noqa: ANN401 -- a BatchEncoding of transformers
        """The prompt as the model reads it, input_ids [1, n] among its tensors."""
        user = prompt.user
        if self._takes_system and prompt.system:
            try:
                return self._apply_template([("system", (prompt.system,)), ("user", user)])
            except jinja2.TemplateError:
                # Some templates have no system role: its instructions then begin the user's message.
                self._takes_system = False
        return self._apply_template([("user", (prompt.system + "\n", *user) if prompt.system else user)])

    def _apply_template(self, messages: list[tuple[str, tuple[str | bytes, ...]]]) -> Any:  # noqa: ANN401
        chat: list[dict[str, Any]] = []
        for role, parts in messages:
            content: Any = "\n".join(part for part in parts if isinstance(part, str))
            if self.supports_images:
                content = [
                    {"type": "text", "text": part}
                    if isinstance(part, str)
                    else {"type": "image", "image": Image.open(io.BytesIO(part)).convert("RGB")}
                    for part in parts
                ]
            chat.append({"role": role, "content": content})
        return self._processor.apply_chat_template(
            chat,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,  # a variable of some templates; the others ignore it
        ).to(self._device)


def find_model(model: str) -> Path:
    """A model's folder or GGUF file: a named one, or the snapshot of a hub id in the hub's cache.

    Raises:
        ModelError: it is not on this machine.
    """
    path = Path(os.path.expanduser(model))
    if path.is_dir():
        files = [] if (path / "config.json").is_file() else sorted(path.glob("*.gguf"))
        if len(files) > 1:
            hint = f"name one: --model {shlex.quote(str(files[0]))}"
            raise ModelError(f"{model} holds {len(files)} GGUF files", hint)
        path = files[0] if files else path
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{model} is not a model", _GIVE_MODEL)
        if _PART.search(path.name):
            hint = f"join them: llama-gguf-split --merge {shlex.quote(str(path))} whole.gguf"
            raise ModelError(f"{path.name} is one of several parts of a model", hint)
    if path.exists():
        return path.resolve()
    if not _HUB_ID.fullmatch(model):
        raise ModelError(f"no such folder or file: {model!r}", f"{_GIVE_MODEL}, or a hub id such as owner/name")
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        hint = f"fetch it with: hf download {model}, or give a folder; --base-url asks a server instead"
        raise ModelError(f"the model {model} is not on this machine", hint) from error


def _load(path: Path, model: str, device: torch.device) -> tuple[Any, Any]:
    """The processor (a tokenizer where only texts can be read) and the model in evaluation mode.

    Raises:
        ModelError: it is not a chat model, or tensors are missing: the library would fill them with noise.
    """
    # A GGUF file holds configuration, tokenizer and weights, and never what reads pictures.
    folder, source = (path.parent, {**_LOCAL, "gguf_file": path.name}) if path.is_file() else (path, _LOCAL)
    # The library's errors are of many classes.
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **source)
    except Exception as error:
        raise ModelError(f"{model} is not a model for transformers: {first_line(error)}", _GIVE_MODEL) from error
    reads_images = folder is path and config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if not reads_images and config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{model} ({config.model_type}) is not a model that writes text", _GIVE_MODEL)
    try:
        has_processor = any((folder / f"{name}_config.json").is_file() for name in ("preprocessor", "processor"))
        reader = transformers.AutoProcessor if reads_images and has_processor else transformers.AutoTokenizer
        processor = reader.from_pretrained(folder, **source)
    except Exception as error:
        what = f"the tokenizer or processor of {model} cannot be read: {first_line(error)}"
        raise ModelError(what, _GIVE_MODEL) from error
    if not (processor.chat_template or getattr(processor, "tokenizer", processor).chat_template):
        raise ModelError(f"{model} has no chat template, so it does not follow instructions", _GIVE_MODEL)
    dtype = torch.bfloat16 if device.type != "cpu" else torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        dtype = torch.float16
    loader = transformers.AutoModelForImageTextToText if reads_images else transformers.AutoModelForCausalLM
    try:
        # The reader of GGUF files has a bar of its own.
        with contextlib.redirect_stderr(io.StringIO()):
            loaded, report = loader.from_pretrained(
                folder, config=config, dtype=dtype, output_loading_info=True, use_safetensors=folder is path, **source
            )
        loaded = loaded.to(device).eval()
    except torch.OutOfMemoryError as error:
        hint = "use --device cpu or a smaller model"
        raise ModelError(f"{model} does not fit into the device's memory", hint) from error
    except Exception as error:
        raise ModelError(f"{model} cannot be loaded: {first_line(error)}", "download it again") from error
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise ModelError(f"{model} lacks {len(missing)} tensors, {missing[0]} among them", "download it again")
    return processor, loaded
