"""The paper's encoder: CLaMR on Qwen2.5-VL, loaded so that nothing stays random, without padding and without a head."""

from clamr_cli.encoders.clamr.encoder import ClamrEncoder, ClamrOmniEncoder

__all__ = ["ClamrEncoder", "ClamrOmniEncoder"]
