"""What a dry run says of the jobs on images of one's own, or of a gallery: images, classes, labels."""

from typing import Any

from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.evaluation import classifier
from dear_jax.jobs import predict, retrieve
from dear_jax.methods.adapter_file import Trained


def describe_images(config: ConfigDict) -> dict[str, Any]:
    """The images of one's own that are classified."""
    images = predict.open_images(config)
    return {"images": f"{len(images)}, from {images.names[0]} to {images.names[-1]}"}


def describe_classes(config: ConfigDict, trained: Trained, backbone: Backbone) -> dict[str, Any]:
    """The classes that they are told apart into."""
    names = predict.class_names(config) or trained.class_names
    texts, token_ids = classifier.tokenize(names, config.data.template or trained.template, backbone)
    return {
        "classes": len(names),
        "prompts": "; ".join(map(repr, texts[:3])),
        "context": f"{token_ids.shape[1]} tokens",
    }


def describe_retrieval(config: ConfigDict) -> dict[str, Any]:
    """Queries and gallery."""
    (queries, gallery), source = retrieve.open_splits(config)
    known = ", ".join([*queries.attributes, *(["class"] if "class_names" in source else [])])
    return {
        "images": f"{len(queries)} queries, {len(gallery)} in the gallery, of {source['name']}",
        "measured by": known or "nothing: no labels are known",
    }
