"""The image's own server, without a machine: from its root, in a layer that is gone afterwards."""
