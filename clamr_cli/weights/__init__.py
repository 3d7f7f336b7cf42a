"""Model weights: which there are, where they are, and whether they may be trusted.

Only :mod:`clamr_cli.weights.download` reaches for the network, and nothing that fails its checksum is ever handed out.
"""

from clamr_cli.weights.catalog import Model, Status, WeightFile, locate, model, names, ocr_weights, status

__all__ = ["Model", "Status", "WeightFile", "locate", "model", "names", "ocr_weights", "status"]
