"""Which images a split held: fingerprints that tell whether a data set has changed since."""

from typing import Self

from pydantic import BaseModel, ConfigDict


class SplitFingerprint(BaseModel):
    """One split: how many images, and a hash of all their contents, whatever their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    sha256: str


class DataFingerprint(BaseModel):
    """The three splits of a data set, as the training saw them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: SplitFingerprint
    validation: SplitFingerprint
    test: SplitFingerprint

    def changes_to(self, now: Self) -> str | None:
        """What is different now, in words such as "test (40 images, now 41)", or None."""
        changed = []
        for name in type(self).model_fields:
            before, after = getattr(self, name), getattr(now, name)
            if before == after:
                continue
            counts = f"{before.images} images, now {after.images}"
            same = f"{before.images} images as before, but others"
            text = same if before.images == after.images else counts
            changed.append(f"{name} ({text})")
        return ", ".join(changed) or None
