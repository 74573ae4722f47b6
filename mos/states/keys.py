"""Keys of the states and latents tables: hashes of what a row is the encoding of.

A table belongs to one tower or codec (its id is in the table's name and metadata), so a context key covers only
what differs between rows. Changing anything about the tower changes its id, hence the table: a stale row cannot
be found under a new key.
"""

from mos.fingerprint import fingerprint


def context_key(text: str, image_hash: str | None = None) -> str:
    """Key of a context: 64 hex digits over the text and the sha256 of the image's bytes, if the tower sees images."""
    return fingerprint(text=text, image=image_hash)


def sample_contexts(caption: str, reference_hash: str | None, sees_images: bool) -> tuple[str, str]:
    """Keys of a sample's context and of its null context, which replaces it under caption dropout.

    The reference image of an edit is part of both contexts if the tower sees images, and of neither if not.
    """
    image = reference_hash if sees_images else None
    return context_key(caption, image), context_key("", image)


def latent_key(image_hash: str, codec_id: str, bucket: str) -> str:
    """Key of a latent: 64 hex digits over the sha256 of the image's bytes, the codec and the bucket `HxW`."""
    return fingerprint(image=image_hash, codec=codec_id, bucket=bucket)
