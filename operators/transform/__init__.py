"""Changes made to a corpus before it is scored: what they are called, and what they do to texts and tokens."""

from operators.transform.blocks import BlockTransform
from operators.transform.spec import Transform, TransformError, parse_transform

__all__ = ["BlockTransform", "Transform", "TransformError", "parse_transform"]
