"""The paper's recipe: LoRA on the language model of a Qwen2.5 and on the projection, learnt on an index's documents."""

from clamr_cli.train.clamr.recipe import run, run_omni

__all__ = ["run", "run_omni"]
