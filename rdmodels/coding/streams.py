"""Which images share a stream."""

from collections.abc import Iterator

from rdmodels.data.images import ImageSet

STREAM_PIXELS = 64 * 64
"""Images of one size up to this many pixels share streams: a header each would be most of one."""
STREAM_IMAGES = 1000


def streams(images: ImageSet) -> Iterator[range]:
    """Indices of the images of each stream, in order."""
    stacked = images.stacked
    small = stacked is not None and stacked.shape[-2] * stacked.shape[-1] <= STREAM_PIXELS
    step = STREAM_IMAGES if small else 1
    for start in range(0, len(images), step):
        yield range(start, min(start + step, len(images)))
