"""Asking language models, with or without pictures: endpoints of the chat/completions protocol, and models here."""
