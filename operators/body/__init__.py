"""The model's body, all but the head, over packed segments.

packed    PackedBody: ids and bounds in, hidden states out
frame     batches of fixed sizes in buffers that stay where they are
graphs    a forward pass recorded once and replayed (CUDA)
layers    the layers compiled, and row lengths that keep their bits
exact     settings of the device that change numbers
probe     whether packing is exact on the loaded weights, and whether rows keep their bits among other neighbours
"""

from operators.body.packed import PackedBody

__all__ = ["PackedBody"]
