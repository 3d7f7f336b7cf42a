"""Playback of indexed videos."""

from __future__ import annotations

from fastapi import APIRouter

from clamr_cli.serve.library import Library


def router(library: Library) -> APIRouter:  # noqa: ARG001
    """The routes under ``/media``."""
    return APIRouter(prefix="/media", tags=["media"])
